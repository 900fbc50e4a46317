"""Bad input through the whole installation: a clear code, the original kept, the job visible as failed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from installation import Installation, until

from ironclad.jobs.submit import display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("services")]

LONG = "o" * 250  # bytes of a name, the most that file systems take, less the suffix


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, make_song: Callable[..., Path]) -> dict[str, Path]:
    """Every bad file by the code that it must get, and good ones with bad names."""
    folder = tmp_path_factory.mktemp("bad")
    good = make_song(folder / "good.flac", 3.0)
    files = {
        "E_EMPTY_FILE": folder / "empty.mp3", "E_NOT_AUDIO": folder / "page.mp3",
        "E_TRUNCATED": folder / "cut.flac", "E_NO_SAMPLES": folder / "none.wav",
        "E_MONO_INPUT": folder / "mono.wav", "E_TOO_MANY_CHANNELS": folder / "eight.wav",
        "E_DECODED_TOO_LARGE": folder / "silence.flac",
    }  # fmt: skip
    files["E_EMPTY_FILE"].write_bytes(b"")
    files["E_NOT_AUDIO"].write_text("<html><title>404</title></html>" * 20)
    files["E_TRUNCATED"].write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    soundfile.write(files["E_NO_SAMPLES"], np.zeros((0, 2), np.float32), 44_100)
    tone = np.sin(np.arange(88_200) / 10).astype(np.float32) * 0.3
    soundfile.write(files["E_MONO_INPUT"], np.stack([tone, tone], 1), 44_100)
    soundfile.write(files["E_TOO_MANY_CHANNELS"], np.tile(tone[:, None], (1, 8)), 192_000)
    soundfile.write(files["E_DECODED_TOO_LARGE"], np.zeros((44_100 * 300, 2), np.float32), 44_100)
    for name in ("new\nline.flac", "emoji \N{MUSICAL NOTE}\N{PARTY POPPER}.flac", f"{LONG}.flac"):
        seed = 10 + len(files)
        files[name] = make_song(folder / name, 3.0, seed, title=f"Name {seed}")
    return files


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, sources: dict[str, Path]) -> Iterator[Installation]:
    limits = {"IRONCLAD_LIMITS__MAX_DECODED_BYTES": "60000000", "IRONCLAD_LIMITS__MAX_CHANNELS": "6"}
    with Installation(tmp_path_factory.mktemp("up") / "data", limits) as up:
        for name, file in sources.items():
            up.drop(file, user="ana", folder="album" if name.startswith("E_") else "good")
        outside = up.folder.parent / "outside.flac"
        outside.write_bytes(b"secret")
        (up.layout.input / "ana" / "link.flac").symlink_to(outside)
        up.settled(len(sources) + 1, 200)
        yield up


def test_each_bad_file_fails_with_its_code_and_is_kept(done: Installation, sources: dict[str, Path]) -> None:
    rows = done.rows("SELECT job_uuid, source_path, state, error_code, attempt, archive_name FROM job")
    by_name = {row.source_path.rpartition("/")[2]: row for row in rows}
    for code, file in sources.items():
        row = by_name[display(file.name)]
        if not code.startswith("E_"):
            assert (row.state, row.error_code) == ("succeeded", None), row
            continue
        assert (row.state, row.error_code, row.attempt) == ("failed", code, 1), row
        kept = done.layout.error_of(row.job_uuid, code) / row.archive_name
        until(f"{kept} is filed", kept.exists, 120)
        assert kept.read_bytes() == file.read_bytes()


def test_nothing_bad_is_published_and_nothing_is_left_behind(done: Installation, sources: dict[str, Path]) -> None:
    good = [name for name in sources if not name.startswith("E_")]
    published = [path for path in done.published() if "Patient" not in path.name]  # that one is another test's
    assert len(published) == len(good)
    assert [path for path in done.layout.output.rglob(".*") if path.is_file()] == []
    for path in done.published():
        assert len(os.fsencode(path.name)) <= 255
        assert "\n" not in path.name


def test_a_link_out_of_the_root_is_refused_and_not_followed(done: Installation) -> None:
    link = done.layout.input / "ana" / "link.flac"
    (row,) = done.rows("SELECT state, error_code FROM job WHERE source_path LIKE '%link.flac'")
    assert (row.state, row.error_code) == ("failed", "E_UNSAFE_PATH")
    assert link.is_symlink()
    assert "E_UNSAFE_PATH" in done.ironclad("why", str(link)).stdout
    assert [path for path in done.layout.archive.rglob("*") if path.is_file() and path.read_bytes() == b"secret"] == []


def test_the_command_line_says_what_happened_and_what_to_do(done: Installation) -> None:
    (row,) = done.rows("SELECT job_uuid FROM job WHERE error_code = 'E_MONO_INPUT'")
    said = done.ironclad("jobs", "show", str(row.job_uuid)).stdout
    assert "E_MONO_INPUT" in said
    assert "another engine" in said
    listed = done.ironclad("jobs", "list", "--state", "failed").stdout
    assert "E_TRUNCATED" in listed
    assert "\x1b" not in listed


def test_a_file_that_goes_away_before_its_claim_is_no_job(done: Installation, make_song: Callable[..., Path]) -> None:
    before = len(done.rows("SELECT 1 FROM job"))
    song = make_song(done.folder.parent / "gone.flac", 2.0, 77)
    target = done.layout.input / "gone.flac"
    with target.open("wb") as file:  # growing: it is not taken while it is written
        file.write(song.read_bytes()[:1000])
        file.flush()
        until(
            "the watcher has seen it", lambda: done.rows("SELECT 1 FROM observation WHERE path LIKE '%gone.flac'"), 120
        )
        target.unlink()
    until("it is forgotten", lambda: not done.rows(
        "SELECT 1 FROM observation WHERE path LIKE '%gone.flac' AND status = 'growing'"), 120)  # fmt: skip
    assert len(done.rows("SELECT 1 FROM job")) == before


def test_an_original_deleted_while_queued_fails_clearly(done: Installation, make_song: Callable[..., Path]) -> None:
    done.ironclad("pause")
    song = make_song(done.folder.parent / "lost.flac", 2.0, 78, title="Lost")
    done.drop(song)
    until("it is queued", lambda: done.rows("SELECT 1 FROM job WHERE state = 'queued'"), 120)
    (row,) = done.rows("SELECT job_uuid, archive_name FROM job WHERE state = 'queued'")
    (done.layout.archive_of(row.job_uuid) / row.archive_name).unlink()
    done.ironclad("resume")
    until(
        "it failed",
        lambda: done.rows("SELECT 1 FROM job WHERE job_uuid = :job AND state = 'failed'", job=row.job_uuid),
        120,
    )
    (row,) = done.rows("SELECT error_code FROM job WHERE job_uuid = :job", job=row.job_uuid)
    assert row.error_code == "E_SOURCE_MISSING"


def test_what_is_paused_waits_and_goes_on(done: Installation, make_song: Callable[..., Path]) -> None:
    done.ironclad("pause", "--pool", "cpu")
    done.drop(make_song(done.folder.parent / "patient.flac", 2.0, 79, title="Patient"))
    until("it is queued", lambda: done.rows("SELECT 1 FROM job WHERE state = 'queued'"), 120)
    assert "paused" in done.ironclad("status").stdout
    done.ironclad("resume", "--pool", "cpu")
    until("it is done", lambda: not done.rows("SELECT 1 FROM job WHERE state NOT IN ('succeeded', 'failed')"), 120)
