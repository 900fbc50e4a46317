from __future__ import annotations

import errno
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from ironclad import durable
from ironclad.errors import CorruptAudio, DatabaseUnavailable, SourceMissing, StorageError
from ironclad.jobs import control, lease, query
from ironclad.jobs.states import JobState
from ironclad.stages import filing

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings
    from ironclad.db.session import Database

    Claims = Callable[..., lease.Claim]


def fail(database: Database, settings: Settings, claim: lease.Claim) -> None:
    with database.session() as session:
        lease.fail(session, claim.fence, CorruptAudio("frame 3"), actor="test", settings=settings.jobs)


def test_a_failed_jobs_original_goes_to_error_with_the_reason(
    database: Database, settings: Settings, claims: Claims
) -> None:
    claim = claims()
    settings.layout.job_log(claim.job.job_uuid).write_text('{"event": "traceback"}\n')
    fail(database, settings, claim)
    filing.settle(database, settings, claim.job.job_uuid)
    folder = settings.layout.error_of(claim.job.job_uuid, "E_CORRUPT_AUDIO")
    assert (folder / claim.job.archive_name).read_bytes().startswith(b"song-")
    described = json.loads((folder / "error.json").read_text())
    assert described["error"]["code"] == "E_CORRUPT_AUDIO"
    assert described["error"]["detail"] == "frame 3"
    assert "traceback" in (folder / "log.jsonl").read_text()
    assert not settings.layout.archive_of(claim.job.job_uuid).exists()


def test_filing_twice_and_after_an_interruption_comes_to_the_same(
    database: Database, settings: Settings, claims: Claims
) -> None:
    claim = claims()
    fail(database, settings, claim)
    folder = settings.layout.error_of(claim.job.job_uuid, "E_CORRUPT_AUDIO")
    durable.make_dirs(folder)  # killed after the move, before the commit
    archived = settings.layout.archive_of(claim.job.job_uuid) / claim.job.archive_name
    durable.move(archived, folder / claim.job.archive_name)
    assert filing.sweep(database, settings) == 1
    assert filing.sweep(database, settings) == 0
    assert filing.locate(settings.layout, claim.job) == folder / claim.job.archive_name


def test_a_move_that_was_cut_short_between_its_copy_and_its_end_is_finished(
    database: Database, settings: Settings, claims: Claims
) -> None:
    claim = claims()
    fail(database, settings, claim)
    folder = settings.layout.error_of(claim.job.job_uuid, "E_CORRUPT_AUDIO")
    durable.make_dirs(folder)  # error/ on another file system: killed before the original was removed
    archived = settings.layout.archive_of(claim.job.job_uuid) / claim.job.archive_name
    original = archived.read_bytes()
    durable.copy_verified(archived, folder / claim.job.archive_name)
    assert filing.sweep(database, settings) == 1
    assert filing.sweep(database, settings) == 0
    assert (folder / claim.job.archive_name).read_bytes() == original
    assert not archived.exists()


def test_one_original_that_cannot_be_filed_keeps_no_other_from_it(
    database: Database, settings: Settings, claims: Claims
) -> None:
    stuck, fine = claims(), claims()
    for claim in (stuck, fine):
        fail(database, settings, claim)
    folder = settings.layout.error_of(stuck.job.job_uuid, "E_CORRUPT_AUDIO")
    durable.make_dirs(folder)
    (folder / stuck.job.archive_name).write_bytes(b"damaged")
    with pytest.raises(StorageError, match="differ"):
        filing.sweep(database, settings)
    archived = settings.layout.archive_of(stuck.job.job_uuid) / stuck.job.archive_name
    assert archived.read_bytes().startswith(b"song-")  # which of the two is right is for somebody to say
    assert filing.locate(settings.layout, fine.job) == (
        settings.layout.error_of(fine.job.job_uuid, "E_CORRUPT_AUDIO") / fine.job.archive_name
    )


def test_a_disk_that_fails_for_one_original_keeps_no_other_from_it(
    database: Database, settings: Settings, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, fine = claims(), claims()
    for claim in (stuck, fine):
        fail(database, settings, claim)
    archived = settings.layout.archive_of(stuck.job.job_uuid) / stuck.job.archive_name
    is_file = Path.is_file

    def failing(path: Path) -> bool:
        if path == archived:
            raise OSError(errno.EIO, "the disk is away")
        return is_file(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", failing)
        with pytest.raises(StorageError, match="the disk is away"):
            filing.sweep(database, settings)
    assert filing.locate(settings.layout, fine.job) == (
        settings.layout.error_of(fine.job.job_uuid, "E_CORRUPT_AUDIO") / fine.job.archive_name
    )
    assert archived.exists()
    assert filing.sweep(database, settings) == 1


def test_a_machine_that_slept_on_its_lock_moves_no_original(
    database: Database, settings: Settings, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claims()
    fail(database, settings, claim)
    write, gettime = durable.write_atomic, time.clock_gettime

    def sleepy(path: Path, data: bytes) -> None:
        write(path, data)  # the lid is closed here: only this clock goes on
        monkeypatch.setattr(time, "clock_gettime", lambda clock: gettime(clock) + 3600)

    monkeypatch.setattr(durable, "write_atomic", sleepy)
    with pytest.raises(DatabaseUnavailable):
        filing.settle(database, settings, claim.job.job_uuid)
    assert filing.locate(settings.layout, claim.job) == (
        settings.layout.archive_of(claim.job.job_uuid) / claim.job.archive_name
    )


def test_a_retry_finds_its_original_again(database: Database, settings: Settings, claims: Claims) -> None:
    claim = claims()
    fail(database, settings, claim)
    filing.settle(database, settings, claim.job.job_uuid)
    with database.session() as session:
        control.retry(session, claim.job.job_uuid, actor="user:ana", pools=frozenset({"cpu"}))
    found = filing.recall(settings.layout, claim.job)
    assert found == settings.layout.archive_of(claim.job.job_uuid) / claim.job.archive_name
    assert found.is_file()
    assert list(settings.layout.error.iterdir()) == []


def test_a_lost_original_is_said(settings: Settings, claims: Claims) -> None:
    claim = claims()
    (settings.layout.archive_of(claim.job.job_uuid) / claim.job.archive_name).unlink()
    with pytest.raises(SourceMissing):
        filing.recall(settings.layout, claim.job)


def test_success_drops_the_work_folder_and_keeps_the_original(
    database: Database, settings: Settings, claims: Claims
) -> None:
    claim = claims()
    work = settings.layout.work_of(claim.job.job_uuid) / "stage"
    durable.make_dirs(work)
    with database.session() as session:
        lease.finish(session, claim.fence, JobState.SUCCEEDED, actor="test")
    filing.settle(database, settings, claim.job.job_uuid)
    assert not work.parent.exists()
    assert filing.locate(settings.layout, claim.job) is not None


def test_filing_is_in_the_jobs_history(database: Database, settings: Settings, claims: Claims) -> None:
    claim = claims()
    fail(database, settings, claim)
    filing.settle(database, settings, claim.job.job_uuid)
    with database.session() as session:
        detail = query.detail(session, claim.job.job_uuid)
        assert session.scalar(sa.text("SELECT filed FROM job"))
    assert detail.events[-1].kind == "filed"
