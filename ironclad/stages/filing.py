"""Where a job's original is: in archive/ while it may be worked on, in error/ once it failed for good."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from ironclad import durable, log
from ironclad.errors import DatabaseUnavailable, IroncladError, SourceMissing, StorageError
from ironclad.ingest import skipped
from ironclad.jobs import lease
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.db.tables import Job
    from ironclad.layout import Layout

_LOG_TAIL = 64 << 10
_BATCH = 50
_STALE_SECONDS = 30.0  # less than the idle time after which the server ends a transaction, and its locks with it
_FREE = sa.text("SELECT 1 FROM job WHERE job_uuid = :job FOR UPDATE SKIP LOCKED")
_FAILED = frozenset({JobState.FAILED.value, JobState.QUARANTINED.value})


def _in_error(layout: Layout, job: Job) -> list[Path]:
    return sorted(layout.error.glob(f"{job.job_uuid}-*/{job.archive_name}"))


def locate(layout: Layout, job: Job) -> Path | None:
    """The original, wherever it is; None if it is in neither place."""
    archived = layout.archive_of(job.job_uuid) / job.archive_name
    if archived.is_file():
        return archived
    found = _in_error(layout, job)
    return found[0] if found else None


def recall(layout: Layout, job: Job, *, check: Callable[[], None] = lambda: None) -> Path:
    """Bring the original (back) to archive/ for an attempt. Raises `SourceMissing`, and what `check` raises before."""
    archived = layout.archive_of(job.job_uuid) / job.archive_name
    if archived.is_file():
        for left in layout.error.glob(f"{job.job_uuid}-*"):
            durable.remove_tree(left, reason="the job is tried again; its original is in archive/")
        return archived
    found = _in_error(layout, job)
    if not found:
        raise SourceMissing(f"The original of job {job.job_uuid} is neither in archive/ nor in error/.")
    durable.make_dirs(archived.parent)
    check()
    durable.move(found[0], archived)
    durable.remove_tree(found[0].parent, reason="the job is tried again")
    return archived


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_TAIL))
            return file.read()
    except OSError:
        return b""


def _describe(job: Job) -> dict[str, Any]:
    return {
        "job_uuid": str(job.job_uuid), "user_id": job.user_id, "trace_id": job.trace_id,
        "source": job.source_path, "archive_name": job.archive_name, "content_hash": job.content_hash,
        "state": job.state, "stage": job.stage, "attempt": job.attempt, "error": job.error,
        "what_next": [
            f"ironclad jobs show {job.job_uuid}", f"ironclad jobs retry {job.job_uuid}",
        ],
    }  # fmt: skip


def settle(database: Database, settings: Settings, job_uuid: UUID, *, wait: bool = True) -> None:
    """File a settled job's original, and drop its work folder. May be done twice, and again after a crash.

    Args:
        database: where the row is.
        settings: the installation.
        job_uuid: the job; one that is not settled is left as it is.
        wait: wait for a process that is at it, instead of leaving it to that one.

    Raises:
        StorageError: the disk fails.
        DatabaseUnavailable: the database is away.
    """
    layout = settings.layout
    begun = lease.clock()
    with durable.stored(layout.error), database.session() as session:
        if not wait and session.execute(_FREE, {"job": job_uuid}).first() is None:
            return
        job = load(session, job_uuid, lock=True)  # nobody retries the job while its file is on the move
        if job.state in _FAILED and not job.filed:
            folder = layout.error_of(job.job_uuid, job.error_code or "E_UNEXPECTED")
            durable.make_dirs(folder)
            durable.write_atomic(folder / "error.json", json.dumps(_describe(job), indent=2, default=str).encode())
            durable.write_atomic(folder / "log.jsonl", _tail(layout.job_log(job.job_uuid)))
            archived = layout.archive_of(job.job_uuid) / job.archive_name
            if archived.is_file():
                if lease.clock() - begun > _STALE_SECONDS:
                    raise DatabaseUnavailable("The lock on the job may be lost; its original is filed next time.")
                _file(archived, folder / job.archive_name)
                durable.remove_tree(archived.parent, reason="filed under error/")
            session.execute(sa.text("UPDATE job SET filed = true WHERE job_uuid = :job"), {"job": job_uuid})
            record(session, job_uuid, "filed", actor="filing", attempt=job.attempt, folder=folder.name)
        if job.state == JobState.SUCCEEDED.value and not settings.jobs.keep_work:
            durable.remove_tree(layout.work_of(job.job_uuid), reason="the job succeeded")
    if job.state == JobState.SKIPPED.value:
        skipped.write(database, layout)


def _file(archived: Path, target: Path) -> None:
    try:
        durable.move(archived, target)
    except FileExistsError as exc:
        # A move to another file system (or by a link, where that is how files move) was cut short before its last step.
        with durable.stored(target):
            whole = durable.digest(target) == durable.digest(archived)
        if not whole:
            raise StorageError(f"{target} and {archived} differ; one of them is damaged.", path=target) from exc
        durable.remove(archived, reason="filed under error/")


def sweep(database: Database, settings: Settings) -> int:
    """File the originals of failed jobs that nobody filed yet (their worker was killed). Returns how many there were.

    One that cannot be filed now does not keep the others from it: the first such error is raised at the end, a
    `DatabaseUnavailable` at once.
    """
    problems: list[IroncladError] = []
    with database.session() as session:
        waiting = session.scalars(
            sa.text("SELECT job_uuid FROM job WHERE state IN ('failed', 'quarantined') AND NOT filed LIMIT :batch"),
            {"batch": _BATCH},
        ).all()
    for job_uuid in waiting:
        try:
            # Without waiting: a process that was stopped must not stop the dispatcher.
            settle(database, settings, UUID(str(job_uuid)), wait=False)
        except DatabaseUnavailable:
            raise
        except IroncladError as exc:
            log.get().warning("filing_failed", job_uuid=str(job_uuid), error=str(exc))
            problems.append(exc)
    if problems:
        raise problems[0]
    return len(waiting)
