from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import scanner

from ironclad.jobs import lease, query
from ironclad.ops.checks import online
from ironclad.ops.checks.outcome import Level
from ironclad.stages import validate
from ironclad.stages.runner import run_claim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.jobs.submit import Job

    Queue = Callable[..., Job]
    Outcome = dict[str, Any]

CLEAN = b"stream: OK\0"


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory, make_song: Callable[..., Path]) -> Path:
    return make_song(tmp_path_factory.mktemp("songs") / "01.flac")


@pytest.fixture
def validated(database: Database, settings: Settings, queue: Queue) -> Callable[..., Outcome]:
    """`validated(file, **virus settings)` runs an attempt of a new job until after its first stage."""

    def go(file: Path, **virus: Any) -> Outcome:
        mine = with_scanner(settings, **virus)
        job = queue(file)
        with database.session() as session:
            claim = lease.claim(session, job.job_uuid, 1, worker="test", lease_seconds=30)
        assert claim is not None
        outcome = run_claim(database, mine, claim, worker="test")
        with database.session() as session:
            row = query.detail(session, job.job_uuid).job
        log = mine.layout.job_log(job.job_uuid)
        return {
            "state": str(row.state), "code": row.error_code, "outcome": outcome, "job": row,
            "log": log.read_text(encoding="utf-8") if log.exists() else "",
        }  # fmt: skip

    return go


def with_scanner(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"virus": settings.virus.model_copy(update=changes)})


def test_a_clean_song_goes_through(song: Path, validated: Callable[..., Outcome]) -> None:
    with scanner.saying(CLEAN) as path:
        assert validated(song, socket=path)["state"] == "succeeded"


def test_an_infected_file_is_refused_and_kept(
    song: Path, settings: Settings, validated: Callable[..., Outcome]
) -> None:
    with scanner.saying(b"stream: Mp3.Exploit.Test-1 FOUND\0") as path:
        found = validated(song, socket=path)
    assert (found["state"], found["code"]) == ("failed", "E_INFECTED")
    assert found["job"].error["detail"] == "Mp3.Exploit.Test-1"
    layout = settings.layout
    kept = [path for folder in (layout.archive, layout.error) for path in folder.rglob("*.flac")]
    assert [path.read_bytes() for path in kept] == [song.read_bytes()]
    assert not list(settings.layout.output.rglob("*.flac"))


def test_a_song_waits_for_its_scanner_without_using_up_its_failures(
    song: Path, tmp_path: Path, validated: Callable[..., Outcome]
) -> None:
    found = validated(song, socket=tmp_path / "nobody")
    assert (found["state"], found["code"], found["job"].failures) == ("waiting_retry", "E_SCANNER", 0)


def test_a_file_beyond_the_scanner_is_refused(song: Path, validated: Callable[..., Outcome]) -> None:
    with scanner.saying(CLEAN) as path:
        found = validated(song, socket=path, max_bytes=1000)
    assert (found["state"], found["code"]) == ("failed", "E_BEYOND_SCANNER")


def test_or_it_passes_if_that_is_set_and_the_log_says_so(song: Path, validated: Callable[..., Outcome]) -> None:
    with scanner.saying(CLEAN) as path:
        found = validated(song, socket=path, max_bytes=1000, beyond="pass")
    assert found["state"] == "succeeded"
    assert "not_scanned" in found["log"]


def test_what_was_validated_without_a_scanner_is_scanned_once_there_is_one(settings: Settings, queue: Queue) -> None:
    job = queue()
    without = validate.parameters(job, settings)
    assert without == settings.limits.model_dump(mode="json")
    here = with_scanner(settings, socket="/run/clamav/clamd.ctl")
    assert validate.parameters(job, here) != without
    slower = with_scanner(settings, socket="/run/clamav/clamd.ctl", seconds=1.0)
    assert validate.parameters(job, here) == validate.parameters(job, slower)


def test_doctor_says_whether_the_scanner_can_be_relied_upon(settings: Settings, tmp_path: Path) -> None:
    (none,) = online.virus_scanner(settings)
    assert (none.level, none.detail) == (Level.OK, "none is asked (virus.socket)")
    (away,) = online.virus_scanner(with_scanner(settings, socket=tmp_path / "nobody"))
    assert away.level is Level.FAIL
    assert "does not answer" in away.detail
    with scanner.saying(CLEAN) as path:  # it would say so to anything
        (blind,) = online.virus_scanner(with_scanner(settings, socket=path, max_bytes=1 << 20))
    assert blind.level is Level.FAIL
    assert "says OK to a test file of 68 bytes" in blind.detail
    assert "docs/security.md#viruses" in blind.remedy


@pytest.mark.skipif(scanner.program() is None, reason="ClamAV's clamd is not installed")
def test_doctor_is_content_with_a_real_scanner(settings: Settings) -> None:
    with scanner.running() as path:
        (found,) = online.virus_scanner(with_scanner(settings, socket=path, max_bytes=1 << 20))
    assert found.level is Level.OK
    assert found.detail.startswith("ClamAV")
