from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from ironclad.cli import queueing
from ironclad.cli.queueing import Format, Instrumental
from ironclad.config import OutputSettings, RecombineSettings, Settings, load
from ironclad.errors import BadRequest, EngineMissing, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def plain_settings(tmp_path: Path) -> Settings:
    return load(environ={"IRONCLAD_DATA_DIR": str(tmp_path / "data")})


@pytest.fixture
def touch(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        return path

    return make


def test_the_formats_are_those_of_the_setting() -> None:
    assert tuple(Format) == get_args(OutputSettings.model_fields["format"].annotation)


def test_the_ways_to_an_instrumental_are_those_of_the_setting() -> None:
    assert tuple(Instrumental) == get_args(RecombineSettings.model_fields["instrumental"].annotation)
    assert queueing.mix(None, None) == {}
    assert queueing.mix(Instrumental.SUM_OF_STEMS, 0.0) == {"instrumental": "sum-of-stems", "karaoke_db": 0.0}


def test_a_folder_is_walked_in_order_and_only_music_is_taken(
    touch: Callable[[str], Path], tmp_path: Path, plain_settings: Settings
) -> None:
    for name in (
        "b/2.mp3",
        "b/1.flac",
        "a.wav",
        "b/cover.jpg",
        "b/3.mp3.part",
        ".hidden/x.mp3",
        "@eaDir/y.mp3",
        "._z.mp3",
    ):
        touch(f"Album/{name}")
    found = queueing.gather([tmp_path / "Album"], plain_settings)
    assert [one.relative for one in found] == ["Album/a.wav", "Album/b/1.flac", "Album/b/2.mp3"]
    assert all(one.path.is_file() for one in found)


def test_a_file_that_is_named_is_taken_whatever_it_is_called(
    touch: Callable[[str], Path], plain_settings: Settings
) -> None:
    found = queueing.gather([touch("notes.txt"), touch("-odd name\n.bin")], plain_settings)
    assert [one.relative for one in found] == ["notes.txt", "-odd name\n.bin"]


def test_a_file_named_twice_is_taken_once(
    touch: Callable[[str], Path], tmp_path: Path, plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = touch("Album/song.mp3")
    (tmp_path / "link.mp3").symlink_to(song)
    monkeypatch.chdir(tmp_path)
    found = queueing.gather([Path("Album"), Path("Album/../Album/song.mp3"), Path("link.mp3")], plain_settings)
    assert [one.path for one in found] == [song]


def test_all_names_that_are_missing_are_told_at_once(tmp_path: Path, plain_settings: Settings) -> None:
    names = [tmp_path / f"none-{number}" for number in range(7)]
    with pytest.raises(NotFound) as caught:
        queueing.gather(names, plain_settings)
    assert "none-0" in caught.value.detail
    assert "none-4" in caught.value.detail
    assert "and 2 more" in caught.value.detail


def test_a_folder_without_music(touch: Callable[[str], Path], tmp_path: Path, plain_settings: Settings) -> None:
    touch("Album/readme.txt")
    with pytest.raises(NotFound, match="no music"):
        queueing.gather([tmp_path / "Album"], plain_settings)


def _wish(settings: Settings, **asked: object) -> queueing.Wishes:
    everything = {"engine": None, "output_format": None, "stems": None, "force": False, **asked}
    return queueing.wishes(settings, **everything)  # type: ignore[arg-type]  # a test's shorthand


def test_wishes_become_the_job(touch: Callable[[str], Path], tmp_path: Path, plain_settings: Settings) -> None:
    wish = _wish(
        plain_settings, engine="center", output_format=Format.MP3, stems=" vocals,instrumental,vocals ", force=True,
        output=tmp_path / "out", user="ana", priority=5, pool="inline:x",
    )  # fmt: skip
    song = touch("song.mp3")
    job = wish.job(queueing.Found(song, "song.mp3"))
    assert (job.engine, job.engine_pool, job.output_format, job.pool) == ("center", "cpu", "mp3", "inline:x")
    assert job.stems == ("vocals", "instrumental")
    assert job.options == {"force": True, "engine_asked": True, "output_dir": str(tmp_path / "out")}
    assert (job.user_id, job.priority, job.ingest_mode) == ("ana", 5, "copy")
    assert job.stat.st_ino == song.stat().st_ino


def test_nothing_asked_leaves_it_to_the_settings(touch: Callable[[str], Path], plain_settings: Settings) -> None:
    job = _wish(plain_settings).job(queueing.Found(touch("song.mp3"), "song.mp3"))
    assert (job.engine, job.output_format, job.stems, job.options) == (None, None, None, {})


def test_what_cannot_be_made_is_refused_before_any_work(tmp_path: Path, plain_settings: Settings) -> None:
    with pytest.raises(BadRequest, match="drums"):
        _wish(plain_settings, stems="drums")
    with pytest.raises(EngineMissing, match="demix"):
        _wish(plain_settings, engine="demix")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadRequest, match="takes a folder"):
        _wish(plain_settings, output=tmp_path / "file")
