"""The demo's own judgement: it must see everything that can be short."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import mutagen
import pytest
import soundfile
from mutagen.flac import FLAC

from ironclad.audio import synth
from ironclad.cli.commands import demo, demo_songs
from ironclad.cli.demo_installation import DemoInstallation
from ironclad.cli.demo_measure import Measured, measure
from ironclad.cli.results import Output, Result
from ironclad.errors import NotAudio, Unexpected

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result as Ended

    from ironclad.audio.synth import DemoSong

    Judge = Callable[[Path | None], Measured]
    Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> DemoSong:
    """The demo's FLAC song, and as its result the true accompaniment."""
    return synth.write_demo_songs(tmp_path_factory.mktemp("demo"))[0]


@pytest.fixture
def perfect(song: DemoSong, tmp_path: Path) -> Path:
    path = tmp_path / "out" / "01 - Paper Lanterns (Instrumental).flac"
    path.parent.mkdir()
    samples = soundfile.read(song.stems["accompaniment"], dtype="float32")[0]
    synth.write_song(
        path, samples.T, replace(song.tags, title=f"{song.tags.title} (Instrumental)"), rate=song.rate,
        cover=synth.cover_art(1, 64),
    )  # fmt: skip
    receipt = {"same_length": True, "offset_samples": 0, "format": "flac", "samples": song.frames}
    path.with_name(f"{path.name}.receipt.json").write_text(json.dumps(receipt), encoding="utf-8")
    return path


@pytest.fixture
def judge(song: DemoSong, tmp_path: Path) -> Judge:
    def measured(path: Path | None) -> Measured:
        outputs = () if path is None else (Output("instrumental", str(path), 1, "d"),)
        scratch = tmp_path / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        return measure(song, Result("f", UUID(int=1), "succeeded", "t", outputs), scratch)

    return measured


def test_the_truth_is_as_good_as_it_gets(perfect: Path, judge: Judge) -> None:
    found = judge(perfect)
    assert found.problems == ()
    assert found.mixture_sdr_db is not None
    assert found.sdr_db is not None
    assert found.mixture_sdr_db < 6
    assert found.sdr_db > 60
    assert found.receipt is not None
    assert json.loads(json.dumps(found.to_dict()))["path"] == str(perfect)


def test_the_mixture_itself_is_not_good_enough(perfect: Path, song: DemoSong, judge: Judge) -> None:
    tags = FLAC(perfect)
    soundfile.write(perfect, soundfile.read(song.mixture)[0], song.rate, subtype="PCM_16")
    again = FLAC(perfect)
    again.update(dict(tags))
    again.add_picture(tags.pictures[0])
    again.save()
    [problem] = judge(perfect).problems
    assert "SDR" in problem


def test_what_is_missing_is_named(perfect: Path, judge: Judge) -> None:
    file = mutagen.File(perfect)
    file["title"], file["artist"], file["album"], file["tracknumber"] = "Other", "Nobody", "", "9"
    file.clear_pictures()
    file.save()
    perfect.with_name(f"{perfect.name}.receipt.json").unlink()
    problems = " / ".join(judge(perfect).problems)
    for part in ("title", "artists", "album", "track number", "cover art", "receipt is missing"):
        assert part in problems


def test_a_receipt_that_says_so_and_a_wrong_length(perfect: Path, song: DemoSong, judge: Judge) -> None:
    receipt = perfect.with_name(f"{perfect.name}.receipt.json")
    receipt.write_text('{"same_length": true, "offset_samples": 1105}', encoding="utf-8")
    assert "its receipt says that length or offset are wrong" in judge(perfect).problems
    receipt.write_text("[1]", encoding="utf-8")
    assert "its receipt is missing" in judge(perfect).problems
    soundfile.write(perfect, soundfile.read(song.mixture)[0][:-1], song.rate, subtype="PCM_16")
    found = judge(perfect)
    assert found.sdr_db is None
    assert any(f"it has {song.frames - 1} samples" in problem for problem in found.problems)


def test_no_output_and_no_job(song: DemoSong, tmp_path: Path, judge: Judge) -> None:
    assert judge(None).problems == ("there is no instrumental",)
    assert judge(tmp_path / "gone.flac").problems == ("there is no instrumental",)
    failed = Result("f", UUID(int=1), "failed", "t", error=NotAudio("10 bytes").to_dict())
    assert measure(song, failed, tmp_path).problems == ("there is no instrumental (E_NOT_AUDIO: 10 bytes)",)
    assert measure(song, None, tmp_path).state == "missing"


def test_an_installation_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way", encoding="utf-8")
    lines: list[str] = []
    with DemoInstallation(tmp_path, lines.append) as up, pytest.raises(Unexpected, match="E_STORAGE"):
        up.wait_for_watcher(60)
    assert any("E_STORAGE" in line for line in up.log_ends())
    assert up.exit_code == 7


def test_the_demos_settings_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONCLAD_DATABASE_URL", "postgresql://precious@host/db")
    settings = DemoInstallation(tmp_path, print).settings
    assert settings.database_url is None
    assert settings.layout.root == tmp_path / "data"
    assert (settings.services.base_port, settings.prefect.port) == (0, 0)


def test_a_folder_with_something_in_it_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x", encoding="utf-8")
    result = run("demo", "--keep", tmp_path)
    assert result.exit_code == 2
    assert "not empty" in result.stderr


def test_the_tree_shows_folders_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "output" / "A" / "B").mkdir(parents=True)
    (tmp_path / "output" / "A" / "B" / "1.flac").write_bytes(b"x" * 1500)
    assert list(demo.tree(tmp_path / "output")) == ["output/", "  A/", "    B/", "      1.flac  1.5 kB"]


def test_demo_songs_command(run: Run, tmp_path: Path) -> None:
    result = run("demo-songs", tmp_path / "songs", "--seed", "3", "--json")
    data = json.loads(result.stdout)
    assert set(data) == set(demo_songs.JSON["demo-songs"])
    assert len(data["songs"]) == 3
    for one in data["songs"]:
        assert Path(one["path"]).is_file()
        assert set(one["stems"]) == {"vocals", "drums", "bass", "other", "accompaniment"}
