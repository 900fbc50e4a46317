"""The reaper: what only the database can see is found and put right from the database alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ironclad import processes
from ironclad.errors import Cancelled, WorkerLost
from ironclad.jobs import breaker, lease, retry
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load, move

if TYPE_CHECKING:
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import JobSettings
    from ironclad.db.tables import Job

_BATCH = 200


@dataclass(slots=True)
class Reaped:
    """What one pass did."""

    lost: list[UUID] = field(default_factory=list)
    """Jobs whose lease had run out."""
    runs: list[str] = field(default_factory=list)
    """Flow runs of those jobs, whose process is gone."""
    due: int = 0
    """Jobs whose retry came due."""


def expired(session: Session, settings: JobSettings, result: Reaped) -> None:
    """End the attempts whose lease has run out; their jobs are tried again or fail, as the retry rules say."""
    rows = session.execute(
        sa.text(
            "SELECT job_uuid FROM job WHERE state = 'running' AND lease_expires_at <= ironclad_now() "
            "ORDER BY lease_expires_at LIMIT :batch FOR UPDATE SKIP LOCKED"
        ),
        {"batch": _BATCH},
    ).all()
    for row in rows:
        _end(session, load(session, row.job_uuid), settings, result)


def vanished(session: Session, settings: JobSettings, result: Reaped) -> None:
    """As `expired`, for attempts whose process is seen to be dead from this machine: no need to wait for the lease."""
    rows = session.execute(
        sa.text(
            "SELECT a.job_uuid, a.attempt, a.process FROM attempt a JOIN job j USING (job_uuid) "
            "WHERE j.state = 'running' AND a.ended_at IS NULL AND a.process IS NOT NULL"
        )
    ).all()
    for row in rows:
        if processes.gone(row.process):
            job = load(session, row.job_uuid, lock=True)
            if job.state == JobState.RUNNING and job.attempt == row.attempt:
                _end(session, job, settings, result)


def _end(session: Session, job: Job, settings: JobSettings, result: Reaped) -> None:
    if job.run_id:
        result.runs.append(job.run_id)
    if job.cancel_requested:
        lease.end_attempt(session, job, JobState.CANCELLED, actor="reaper", error=Cancelled())
    else:
        error = WorkerLost(f"{job.worker} at stage {job.stage}, attempt {job.attempt}.")
        verdict = retry.decide(error, failures=job.failures, settings=settings)
        verdict = breaker.judged(session, job, error, verdict, settings)
        lease.end_attempt(
            session, job, verdict.state, actor="reaper", error=error,
            delay_seconds=verdict.delay_seconds, failures=verdict.failures,
        )  # fmt: skip
    result.lost.append(job.job_uuid)


def due(session: Session, result: Reaped) -> None:
    """Queue the jobs whose retry is due. They keep their place in the fair order."""
    rows = session.execute(
        sa.text(
            "SELECT job_uuid FROM job WHERE state = 'waiting_retry' AND not_before <= ironclad_now() AND NOT held "
            "ORDER BY not_before LIMIT :batch FOR UPDATE SKIP LOCKED"
        ),
        {"batch": _BATCH},
    ).all()
    for row in rows:
        move(
            session, load(session, row.job_uuid), JobState.QUEUED, actor="reaper",
            sets={"not_before": None, "run_id": None, "queued_at": sa.func.ironclad_now()},
        )  # fmt: skip
        result.due += 1


def seconds_to_next(session: Session) -> float | None:
    """Seconds until the next lease runs out or retry comes due; None if there is neither."""
    value = session.scalar(
        sa.text(
            "SELECT extract(epoch FROM min(at) - ironclad_now()) FROM ("
            "(SELECT min(lease_expires_at) AS at FROM job WHERE state = 'running') UNION ALL "
            "(SELECT min(not_before) FROM job WHERE state = 'waiting_retry' AND NOT held)) AS next"
        )
    )
    return None if value is None else max(0.0, float(value))


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A dispatch, and the flow run it made (None: it is not recorded yet)."""

    job_uuid: UUID
    run_id: str | None
    seq: int


def unstarted(session: Session, seconds: float) -> list[Dispatched]:
    """Queued jobs that were dispatched longer than `seconds` ago and that no worker has claimed."""
    rows = session.execute(
        sa.text(
            "SELECT job_uuid, run_id, dispatch_seq FROM job WHERE state = 'queued' AND dispatched_at IS NOT NULL "
            "AND dispatched_at < ironclad_now() - make_interval(secs => :seconds) ORDER BY dispatched_at LIMIT :batch"
        ),
        {"seconds": seconds, "batch": _BATCH},
    ).all()
    return [Dispatched(row.job_uuid, row.run_id, row.dispatch_seq) for row in rows]


def withdrawn(session: Session) -> list[Dispatched]:
    """Jobs that were cancelled while a flow run for them waits in the executor."""
    rows = session.execute(
        sa.text(
            "SELECT job_uuid, run_id, dispatch_seq FROM job WHERE state = 'cancelled' AND dispatched_at IS NOT NULL "
            "AND run_id IS NOT NULL ORDER BY dispatched_at LIMIT :batch"
        ),
        {"batch": _BATCH},
    ).all()
    return [Dispatched(row.job_uuid, row.run_id, row.dispatch_seq) for row in rows]


def forget(session: Session, dispatched: Dispatched) -> None:
    """The flow run of a cancelled job has been told to end."""
    session.execute(
        sa.text(
            "UPDATE job SET dispatched_at = NULL WHERE job_uuid = :job AND state = 'cancelled' AND dispatch_seq = :seq"
        ),
        {"job": dispatched.job_uuid, "seq": dispatched.seq},
    )


def lost_runs(session: Session, seconds: float) -> list[str]:
    """Flow runs of attempts whose worker was lost within the last `seconds`, latest first, a hundred at most."""
    return list(
        session.scalars(
            sa.text(
                "SELECT run_id FROM attempt WHERE ended_at > ironclad_now() - make_interval(secs => :seconds) "
                "AND error_code = 'E_WORKER_LOST' AND run_id IS NOT NULL ORDER BY ended_at DESC LIMIT 100"
            ),
            {"seconds": seconds},
        )
    )


def unrecorded(session: Session) -> list[UUID]:
    """Dispatched jobs without a flow run: the dispatcher died between marking and creating it."""
    return list(
        session.scalars(
            sa.text("SELECT job_uuid FROM job WHERE state = 'queued' AND dispatched_at IS NOT NULL AND run_id IS NULL")
        )
    )
