"""New jobs: from a file that was found or submitted to a row in the queue."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from ironclad.db.tables import SCHEMA_VERSION, Job, JobEvent
from ironclad.errors import AlreadyReceived, DuplicateContent, IroncladError
from ironclad.jobs import pipeline
from ironclad.jobs.ids import trace_id, uuid7
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load, move, record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NAME_LIMIT = 300


@dataclass(frozen=True, slots=True)
class NewJob:
    """A file that shall become a job. None means: as the settings say.

    `relative_path` is the path below the user's folder: it names the album when tags do not.
    """

    user_id: str
    source: Path
    relative_path: str
    stat: os.stat_result
    watch_root: str | None = None
    ingest_mode: str = "move"
    priority: int = 0
    engine: str | None = None
    engine_pool: str = "cpu"
    output_format: str | None = None
    stems: tuple[str, ...] | None = None
    parameters: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    pool: str | None = None


def display(path: str | Path) -> str:
    """A path as text that every terminal and database takes: undecodable bytes and controls are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def source_key(stat: os.stat_result) -> str:
    """What makes a file the same file: device, inode, size and mtime."""
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"


def archive_name(source: Path) -> str:
    """A short, safe name for the original in its archive folder; the suffix is kept."""
    suffix = _SUFFIX.search(os.fsencode(source.name).decode("ascii", "replace"))
    return f"original{suffix[0].lower() if suffix else ''}"


def _row(new: NewJob, settings: Settings) -> Job:
    pools = frozenset(settings.pools)
    return Job(
        job_uuid=uuid7(), user_id=new.user_id, trace_id=trace_id(), schema_version=SCHEMA_VERSION,
        state=JobState.RECEIVED.value, stage=pipeline.FIRST, engine_pool=new.engine_pool,
        pool=new.pool or pipeline.pool_of(pipeline.FIRST, new.engine_pool, pools), priority=new.priority,
        source_path=display(new.source), source_path_raw=os.fsencode(new.source), source_key=source_key(new.stat),
        source_size=new.stat.st_size, source_mtime_ns=new.stat.st_mtime_ns, watch_root=new.watch_root,
        relative_path=display(new.relative_path), ingest_mode=new.ingest_mode, archive_name=archive_name(new.source),
        engine=new.engine or settings.engine.name, output_format=new.output_format or settings.output.format,
        stems=list(new.stems or settings.output.stems),
        parameters=_default_parameters(new, settings) if new.parameters is None else dict(new.parameters),
        options=dict(new.options), title=display(new.source.stem)[:_NAME_LIMIT],
    )  # fmt: skip


def _default_parameters(new: NewJob, settings: Settings) -> dict[str, Any]:
    """The settings' parameters and model belong to the settings' engine and to no other."""
    if new.engine not in {None, settings.engine.name}:
        return {}
    model = {"model": settings.engine.model} if settings.engine.model else {}
    return {**settings.engine.parameters, **model}


_OTHER = sa.text(
    "SELECT DISTINCT ON (source_key) source_key, job_uuid FROM job WHERE source_key = ANY(:keys) "
    "AND (state = 'received' OR ingest_mode IN ('copy', 'link')) ORDER BY source_key, created_at DESC"
)
_EVER = sa.text("SELECT job_uuid FROM job WHERE source_key = :key ORDER BY created_at DESC LIMIT 1")


def receive(session: Session, new: NewJob, settings: Settings) -> Job:
    """Insert the job in state `received`, before its file is touched.

    Raises:
        AlreadyReceived: the same file (device, inode, size, mtime) is being claimed, or was claimed in copy mode.
    """
    job = _row(new, settings)
    try:
        with session.begin_nested():
            session.add(job)
            session.flush()
    except IntegrityError as exc:
        # The other claim may have ended in this moment: its key is free again, but the file is its file all the same.
        row = session.execute(_OTHER, {"keys": [job.source_key]}).first()
        known = taken(session, new) if row is None else _already(job.source_path, row.job_uuid)
        if known is None:
            raise
        raise known from exc
    record(
        session, job.job_uuid, "received", actor="ingest", attempt=0, to_state="received",
        source=job.source_path, size=job.source_size, user=job.user_id,
    )  # fmt: skip
    return load(session, job.job_uuid)


def taken(session: Session, new: NewJob) -> AlreadyReceived | None:
    """The error that names the newest job that was made of this very file, if there is one."""
    other = session.scalar(_EVER, {"key": source_key(new.stat)})
    return None if other is None else _already(display(new.source), other)


def _already(source: str, job_uuid: UUID) -> AlreadyReceived:
    return AlreadyReceived(f"{source} is job {job_uuid}.", job_uuid=job_uuid)


def receive_many(session: Session, new: Sequence[NewJob], settings: Settings) -> list[tuple[UUID | None, bool]]:
    """`receive` for many files at once: a thousand files dropped together are rows within a second.

    Returns for each file its job and whether that is a new one. A job of None: the file's other job was about to end
    its claim; ask again.
    """
    rows = [_row(one, settings) for one in new]
    if not rows:
        return []
    table = Job.__table__  # type: ignore[attr-defined]  # SQLModel adds it
    statement = insert(table).on_conflict_do_nothing().returning(table.c.job_uuid)
    values = [{name: getattr(row, name) for name in row.model_fields_set} for row in rows]
    inserted = set(session.connection().execute(statement, values).scalars())
    events = [
        {
            "job_uuid": row.job_uuid, "kind": "received", "to_state": "received", "attempt": 0, "actor": "ingest",
            "data": {"source": row.source_path, "size": row.source_size, "user": row.user_id},
        }
        for row in rows if row.job_uuid in inserted
    ]  # fmt: skip
    if events:
        session.connection().execute(insert(JobEvent.__table__), events)  # type: ignore[attr-defined]  # likewise
    keys = [row.source_key for row in rows if row.job_uuid not in inserted]
    others = {row.source_key: row.job_uuid for row in session.execute(_OTHER, {"keys": keys})} if keys else {}
    return [
        (row.job_uuid, True) if row.job_uuid in inserted else (others.get(row.source_key), False)
        for row in rows
    ]  # fmt: skip


_FAIR = sa.text(
    # Start-time fair queueing: a user's next job queues behind his last one, and nobody starts before the queue's head,
    # so a thousand songs of one user do not stand in the way of one song of another. Each priority is a queue of its
    # own: an urgent job at the head must not push a newcomer behind everybody's ordinary ones.
    "SELECT greatest("
    "  coalesce((SELECT max(fair_key) + 1 FROM job WHERE state = 'queued' AND pool = :pool AND user_id = :user"
    "            AND priority = :priority), 0),"
    "  coalesce((SELECT min(fair_key) FROM job WHERE state = 'queued' AND NOT held AND dispatched_at IS NULL"
    "            AND pool = :pool AND priority = :priority), 0))"
)


def fair_key(session: Session, pool: str, user_id: str, *, priority: int = 0) -> int:
    """The place of a user's next job among those of its priority in a pool's queue (lower goes first)."""
    return int(session.scalar(_FAIR, {"pool": pool, "user": user_id, "priority": priority}) or 0)


def _same_work(session: Session, job: Job, content_hash: str) -> UUID | None:
    """A job that did or will do exactly this: same bytes, engine, parameters, stems, mix and format."""
    # Two claims of the same bytes at the same time must see each other.
    session.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:hash, 0))"), {"hash": content_hash})
    found: UUID | None = session.scalar(
        sa.text(
            "SELECT other.job_uuid FROM job other, job mine WHERE mine.job_uuid = :job AND other.job_uuid <> :job "
            "AND other.content_hash = :hash AND other.engine = mine.engine AND other.parameters = mine.parameters "
            "AND other.stems = mine.stems AND other.output_format = mine.output_format "
            "AND other.state IN ('queued', 'running', 'waiting_retry', 'succeeded') "
            "AND other.options->'recombine' IS NOT DISTINCT FROM mine.options->'recombine' "
            "AND other.options->>'output_dir' IS NOT DISTINCT FROM mine.options->>'output_dir' "
            "ORDER BY other.created_at LIMIT 1"
        ),
        {"job": job.job_uuid, "hash": content_hash},
    )
    return found


def claimed(session: Session, job_uuid: UUID, content_hash: str) -> JobState:
    """The file is in the archive: queue the job, or skip it as a duplicate. Returns the new state."""
    job = load(session, job_uuid, lock=True)
    if not job.options.get("force"):
        other = _same_work(session, job, content_hash)
        if other is not None:
            error = DuplicateContent(f"Same bytes as job {other}.", job=other)
            move(
                session, job, JobState.SKIPPED, actor="ingest", allowed={JobState.RECEIVED},
                data={"duplicate_of": other},
                sets={
                    "content_hash": content_hash, "error_code": error.code, "error": error.to_dict(),
                    "finished_at": sa.func.ironclad_now(),
                },
            )  # fmt: skip
            return JobState.SKIPPED
    move(
        session, job, JobState.QUEUED, actor="ingest", allowed={JobState.RECEIVED},
        sets={
            "content_hash": content_hash, "queued_at": sa.func.ironclad_now(),
            "fair_key": fair_key(session, job.pool, job.user_id, priority=job.priority),
        },
    )  # fmt: skip
    return JobState.QUEUED


def release_source(session: Session, job_uuid: UUID) -> None:
    """Let a source that was copied or linked become another job: who names a file twice means it."""
    session.execute(sa.text("UPDATE job SET source_key = NULL WHERE job_uuid = :job"), {"job": job_uuid})


def refuse(session: Session, job_uuid: UUID, error: IroncladError) -> None:
    """The file could not be claimed: the job is visible as failed."""
    job = load(session, job_uuid, lock=True)
    move(
        session, job, JobState.FAILED, actor="ingest", allowed={JobState.RECEIVED}, data={"error": error.to_dict()},
        sets={"error_code": error.code, "error": error.to_dict(), "finished_at": sa.func.ironclad_now(), "filed": True},
    )  # fmt: skip
