"""The query layer: what the CLI, the TUI and the API show. Read only; rows as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col, select

from ironclad.db.tables import Artifact, Attempt, Job, JobEvent, Pool, StageRun, Worker
from ironclad.errors import BadRequest, NotFound
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlmodel import Session

_UUID_LENGTH = 36
_PREFIX_LENGTH = 4
_NAMED = 3
"""So many of the jobs that an id may mean are told."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list, newest first; None is no restriction."""

    states: tuple[str, ...] = ()
    user: str | None = None
    text: str | None = None
    """Part of title, artist, album or path, letter case aside."""
    error_code: str | None = None
    since: datetime | None = None
    """Only jobs received at that time or later."""
    before: UUID | None = None
    """Only jobs older than this one (the last of the page before)."""
    limit: int = 50


def find(session: Session, reference: str) -> UUID:
    """A job by its id or the beginning or end of it. Raises `NotFound`, or `BadRequest` if several match."""
    reference = reference.strip().lower()
    if len(reference) == _UUID_LENGTH:
        try:
            return UUID(reference)
        except ValueError as exc:
            raise BadRequest(f"{reference} is not a job id.") from exc
    if len(reference) < _PREFIX_LENGTH or not set(reference) <= set("0123456789abcdef-"):
        raise BadRequest(f"{reference!r} is not a job id; give at least {_PREFIX_LENGTH} characters of one.")
    found = session.scalars(
        sa.text(
            "SELECT job_uuid FROM job WHERE job_uuid::text LIKE :begin OR job_uuid::text LIKE :end "
            "ORDER BY created_at DESC LIMIT :most"
        ),
        {"begin": f"{reference}%", "end": f"%{reference}", "most": _NAMED + 1},
    ).all()
    if not found:
        raise NotFound(f"No job has an id like {reference}.")
    if len(found) > 1:
        more = " and others" if len(found) > _NAMED else ""
        names = ", ".join(map(str, found[:_NAMED]))
        raise BadRequest(f"Several jobs have an id like {reference}: {names}{more}. Give more of it.")
    only: UUID = found[0]
    return only


def jobs(session: Session, wanted: JobFilter) -> Sequence[Job]:
    """One page of jobs, newest first."""
    unknown = set(wanted.states) - {state.value for state in JobState}
    if unknown:
        raise BadRequest(f"There is no state {', '.join(sorted(unknown))}; there is {', '.join(JobState)}.")
    statement = select(Job).order_by(col(Job.job_uuid).desc()).limit(wanted.limit)
    if wanted.states:
        statement = statement.where(col(Job.state).in_(wanted.states))
    if wanted.user:
        statement = statement.where(Job.user_id == wanted.user)
    if wanted.error_code:
        statement = statement.where(Job.error_code == wanted.error_code)
    if wanted.since:
        statement = statement.where(col(Job.created_at) >= wanted.since)
    if wanted.before:
        statement = statement.where(col(Job.job_uuid) < wanted.before)
    if wanted.text:
        escaped = wanted.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        statement = statement.where(
            sa.or_(*(col(c).ilike(f"%{escaped}%") for c in (Job.title, Job.artist, Job.album, Job.source_path)))
        )
    return session.exec(statement).all()


@dataclass(frozen=True, slots=True)
class JobDetail:
    """Everything about one job."""

    job: Job
    attempts: Sequence[Attempt]
    stages: Sequence[StageRun]
    events: Sequence[JobEvent]
    artifacts: Sequence[Artifact]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON-ready data."""
        return {
            "job": as_dict(self.job),
            "attempts": [as_dict(row) for row in self.attempts],
            "stages": [as_dict(row) for row in self.stages],
            "events": [as_dict(row) for row in self.events],
            "artifacts": [as_dict(row) for row in self.artifacts],
        }


def name_of(job: Job) -> str:
    """`Artist - Title`, or what is known of it."""
    return " - ".join(part for part in (job.artist, job.title) if part) or job.relative_path


def events(session: Session, job_uuid: UUID, *, after: int = 0, limit: int = 100) -> Sequence[JobEvent]:
    """One page of a job's history, oldest first, from behind the event `after`."""
    statement = select(JobEvent).where(JobEvent.job_uuid == job_uuid, col(JobEvent.id) > after)
    return session.exec(statement.order_by(col(JobEvent.id)).limit(limit)).all()


def artifacts(session: Session, job_uuid: UUID) -> Sequence[Artifact]:
    """The published files of a job, in the order of their publishing."""
    statement = select(Artifact).where(Artifact.job_uuid == job_uuid, Artifact.state == "published")
    return session.exec(statement.order_by(col(Artifact.artifact_uuid))).all()


def detail(session: Session, job_uuid: UUID, *, events: int = 200) -> JobDetail:
    """One job with its attempts, stage runs, artifacts and last events (oldest first). Raises `NotFound`."""
    job = session.get(Job, job_uuid, populate_existing=True)
    if job is None:
        raise NotFound(f"There is no job {job_uuid}.")
    last = session.exec(
        select(JobEvent).where(JobEvent.job_uuid == job_uuid).order_by(col(JobEvent.id).desc()).limit(events)
    ).all()
    return JobDetail(
        job=job,
        attempts=session.exec(select(Attempt).where(Attempt.job_uuid == job_uuid).order_by(col(Attempt.attempt))).all(),
        stages=session.exec(
            select(StageRun).where(StageRun.job_uuid == job_uuid).order_by(col(StageRun.started_at))
        ).all(),
        events=list(reversed(last)),
        artifacts=session.exec(
            select(Artifact).where(Artifact.job_uuid == job_uuid).order_by(col(Artifact.created_at))
        ).all(),
    )


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool at a glance."""

    name: str
    slots: int
    paused: bool
    running: int
    dispatched: int
    waiting: int
    oldest_waiting_seconds: float | None
    fed: bool = True
    """Whether the leading dispatcher's settings name it: nothing starts on a pool that it does not feed."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The installation at a glance."""

    states: dict[str, int]
    held: int
    pools: tuple[PoolView, ...]
    paused: bool
    disk_low: bool
    workers: Sequence[Worker]


_POOLS = sa.text(
    "SELECT pool, count(*) FILTER (WHERE state = 'running') AS running, "
    "count(*) FILTER (WHERE state = 'queued' AND dispatched_at IS NOT NULL) AS dispatched, "
    "count(*) FILTER (WHERE state = 'queued' AND dispatched_at IS NULL) AS waiting, "
    "extract(epoch FROM ironclad_now() - min(queued_at) FILTER (WHERE state = 'queued')) AS oldest "
    "FROM job WHERE state IN ('running', 'queued') GROUP BY pool"
)


def overview(session: Session) -> Overview:
    """Counts, pools, switches and services."""
    states: dict[str, int] = {state.value: 0 for state in JobState}
    counts = session.execute(sa.text("SELECT state, count(*) AS jobs FROM job GROUP BY state"))
    states |= {row.state: row.jobs for row in counts}
    live: dict[str, Any] = {row.pool: row for row in session.execute(_POOLS)}
    switches = {row.name: row.value for row in session.execute(sa.text("SELECT name, value FROM control"))}
    pools = []
    for pool in session.exec(select(Pool).order_by(col(Pool.name))).all():
        row = live.get(pool.name)
        pools.append(
            PoolView(
                name=pool.name, slots=pool.slots, paused=pool.paused,
                running=row.running if row else 0, dispatched=row.dispatched if row else 0,
                waiting=row.waiting if row else 0,
                oldest_waiting_seconds=float(row.oldest) if row and row.oldest is not None else None,
                fed=pool.name in switches.get("pools", {}).get("fed", [pool.name]),
            )
        )  # fmt: skip
    held = session.scalar(sa.text("SELECT count(*) FROM job WHERE held AND state IN ('queued', 'waiting_retry')"))
    return Overview(
        states=states, held=int(held or 0), pools=tuple(pools),
        paused=bool(switches.get("pipeline", {}).get("paused")), disk_low=bool(switches.get("disk", {}).get("low")),
        workers=session.exec(select(Worker).order_by(col(Worker.name))).all(),
    )  # fmt: skip


def unsettled(session: Session, job_uuids: Sequence[UUID]) -> int:
    """How many of these jobs are not in a settled state yet."""
    if not job_uuids:
        return 0
    table = Job.__table__  # type: ignore[attr-defined]  # SQLModel adds it
    return int(
        session.scalar(
            sa.select(sa.func.count()).select_from(table).where(
                table.c.job_uuid.in_(job_uuids),
                table.c.state.in_(["received", "queued", "running", "waiting_retry"]),
            )
        ) or 0
    )  # fmt: skip


def as_dict(row: Any) -> dict[str, Any]:
    """A table row as JSON-ready data; bytes and secrets of the lease are left out."""
    data: dict[str, Any] = row.model_dump(mode="json", exclude={"source_path_raw", "lease_token", "path_raw"})
    return data
