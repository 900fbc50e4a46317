"""Leases and fences: who may write for a job, and for how long.

A claim increments `attempt` and writes a fresh `lease_token`; every later write carries both and is refused with
`LeaseLost` once the lease was lost or has run out, so that a worker that comes back from the dead changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa

from ironclad import processes
from ironclad.db.tables import Job
from ironclad.errors import Cancelled, IllegalTransition, IroncladError, LeaseLost
from ironclad.jobs import breaker, retry
from ironclad.jobs.control import pause_reason
from ironclad.jobs.states import SETTLED, TRANSITIONS, JobState
from ironclad.jobs.transition import load, record

if TYPE_CHECKING:
    from sqlmodel import Session

    from ironclad.config import JobSettings


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds that never go back, and go on while the machine sleeps: leases run out meanwhile, too."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write for a job, held by one attempt."""

    job_uuid: UUID
    attempt: int
    token: UUID

    def parameters(self) -> dict[str, Any]:
        """For SQL that contains `FENCED`."""
        return {"job": self.job_uuid, "attempt": self.attempt, "token": self.token}


FENCED = (
    "job_uuid = :job AND attempt = :attempt AND lease_token = :token AND state = 'running' "
    "AND lease_expires_at > ironclad_now()"
)
"""The condition under which an attempt may write."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed job and the fence of its attempt."""

    job: Job
    fence: Fence


_SELECT_NEXT = (
    "SELECT job_uuid FROM job WHERE state = 'queued' AND NOT held AND dispatched_at IS NULL AND pool = :pool "
    "ORDER BY priority DESC, fair_key, job_uuid LIMIT 1 FOR UPDATE SKIP LOCKED"
)
_TAKE = (
    "UPDATE job SET state = 'running', attempt = attempt + 1, lease_token = :token, worker = :worker, "
    "lease_expires_at = ironclad_now() + make_interval(secs => :lease), error_code = NULL, error = NULL, "
    "started_at = coalesce(started_at, ironclad_now()), finished_at = NULL, filed = false, "
    "run_id = coalesce(:run, run_id) "
    "WHERE state = 'queued' AND NOT held AND NOT cancel_requested AND "
)


def _taken(session: Session, row: Any, token: UUID, worker: str, run_id: str | None) -> Claim:
    job = load(session, row.job_uuid)
    session.execute(
        sa.text(
            "INSERT INTO attempt (job_uuid, attempt, worker, process, pool, run_id, first_stage) "
            "VALUES (:job, :attempt, :worker, :process, :pool, :run, :stage)"
        ),
        {
            "job": job.job_uuid, "attempt": job.attempt, "worker": worker, "process": processes.me(),
            "pool": job.pool, "run": run_id, "stage": job.stage,
        },
    )  # fmt: skip
    record(
        session, job.job_uuid, "claimed", actor=f"worker:{worker}", attempt=job.attempt,
        from_state="queued", to_state="running", stage=job.stage,
    )  # fmt: skip
    return Claim(job, Fence(job.job_uuid, job.attempt, token))


def claim(
    session: Session, job_uuid: UUID, attempt: int, *, worker: str, lease_seconds: float, run_id: str | None = None
) -> Claim | None:
    """Begin attempt number `attempt` of a queued job.

    Returns None when it must not begin now (the pipeline or pool is paused, the job is held): the dispatch is taken
    back, so that it is dispatched again later.

    Raises:
        LeaseLost: somebody else began this attempt, or the job is not queued any more.
    """
    job = load(session, job_uuid, lock=True)
    reason = pause_reason(session, job.pool) or ("held" if job.held else None)
    if reason is not None and job.state == JobState.QUEUED and job.attempt == attempt - 1:
        undispatch(session, job_uuid, reason=reason)
        return None
    token = uuid4()
    row = session.execute(
        sa.text(f"{_TAKE} job_uuid = :job AND attempt = :before RETURNING job_uuid"),
        {
            "token": token, "worker": worker, "lease": lease_seconds, "run": run_id,
            "job": job_uuid, "before": attempt - 1,
        },
    ).first()  # fmt: skip
    if row is None:
        raise LeaseLost(
            f"Attempt {attempt} of job {job_uuid} is not there to begin: it is {job.state}, at {job.attempt}."
        )
    return _taken(session, row, token, worker, run_id)


def claim_next(session: Session, pool: str, *, worker: str, lease_seconds: float) -> Claim | None:
    """Begin the next attempt of the first job in a pool's queue; None if there is nothing to do."""
    if pause_reason(session, pool) is not None:
        return None
    token = uuid4()
    row = session.execute(
        sa.text(f"{_TAKE} job_uuid = ({_SELECT_NEXT}) RETURNING job_uuid"),
        {"token": token, "worker": worker, "lease": lease_seconds, "run": None, "pool": pool},
    ).first()
    return None if row is None else _taken(session, row, token, worker, None)


def undispatch(session: Session, job_uuid: UUID, *, reason: str, dispatch_seq: int | None = None) -> bool:
    """Take a dispatch back that nobody claimed; the job stays queued. False if it was claimed meanwhile.

    With `dispatch_seq`, only that dispatch: asking the executor takes seconds, in which the job may have run, moved on
    to another pool and been dispatched anew.
    """
    row = session.execute(
        sa.text(
            "UPDATE job SET dispatched_at = NULL, run_id = NULL WHERE job_uuid = :job AND state = 'queued' "
            "AND dispatched_at IS NOT NULL AND dispatch_seq = coalesce(:seq, dispatch_seq) RETURNING attempt"
        ),
        {"job": job_uuid, "seq": dispatch_seq},
    ).first()
    if row is not None:
        record(session, job_uuid, "undispatched", actor="dispatch", attempt=row.attempt, reason=reason)
    return row is not None


def heartbeat(session: Session, fence: Fence, *, lease_seconds: float, progress: float | None = None) -> bool:
    """Renew the lease and write progress (0..1). Returns whether somebody asked to cancel. Raises `LeaseLost`."""
    row = session.execute(
        sa.text(
            "UPDATE job SET lease_expires_at = ironclad_now() + make_interval(secs => :lease), "
            f"progress = coalesce(:progress, progress) WHERE {FENCED} RETURNING cancel_requested"
        ),
        {
            **fence.parameters(),
            "lease": lease_seconds,
            "progress": None if progress is None else min(1.0, max(0.0, progress)),
        },
    ).first()
    if row is None:
        raise LeaseLost(f"Attempt {fence.attempt} of job {fence.job_uuid} lost its lease.")
    return bool(row.cancel_requested)


def assert_held(session: Session, fence: Fence) -> None:
    """Lock the job's row for the rest of the transaction if the lease is live; else raise `LeaseLost`."""
    row = session.execute(sa.text(f"SELECT 1 FROM job WHERE {FENCED} FOR UPDATE"), fence.parameters()).first()
    if row is None:
        raise LeaseLost(f"Attempt {fence.attempt} of job {fence.job_uuid} lost its lease.")


def finish(
    session: Session, fence: Fence, to: JobState, *, actor: str, error: IroncladError | None = None,
    delay_seconds: float = 0.0, failures: int | None = None, pool: str | None = None, **data: Any,
) -> Job:  # fmt: skip
    """End the attempt: the job goes to `to`, the lease is gone. Raises `LeaseLost`.

    A job that somebody asked to cancel meanwhile does not go back to the queue or wait for a retry: it is cancelled.
    The returned job says where it went.

    Args:
        session: the transaction; everything the attempt wants to keep is in it or before it.
        fence: the attempt.
        to: succeeded, failed, cancelled, skipped, quarantined, waiting_retry, or queued (hand-off, drain).
        actor: who does it.
        error: why, if it did not succeed.
        delay_seconds: for waiting_retry, when it is due.
        failures: the job's new count of failures.
        pool: for queued, the pool that the next stage needs.
        data: more for the event.
    """
    assert_held(session, fence)
    return end_attempt(
        session, load(session, fence.job_uuid), to, actor=actor, error=error, delay_seconds=delay_seconds,
        failures=failures, pool=pool, **data,
    )  # fmt: skip


def end_attempt(
    session: Session, job: Job, to: JobState, *, actor: str, error: IroncladError | None,
    delay_seconds: float = 0.0, failures: int | None = None, pool: str | None = None, **data: Any,
) -> Job:  # fmt: skip
    """As `finish`, for a caller that has locked the running job's row (the reaper)."""
    if to not in TRANSITIONS[JobState.RUNNING]:
        raise IllegalTransition(f"An attempt of job {job.job_uuid} cannot end as {to}.")
    if job.cancel_requested and to not in SETTLED:
        to, error, pool = JobState.CANCELLED, Cancelled(), None
    described = None if error is None else error.to_dict()
    table = Job.__table__  # type: ignore[attr-defined]  # SQLModel adds it
    now = sa.func.ironclad_now()
    values: dict[str, Any] = {
        "state": to.value, "lease_token": None, "lease_expires_at": None, "worker": None, "dispatched_at": None,
        "not_before": now + sa.func.make_interval(0, 0, 0, 0, 0, 0, delay_seconds)
        if to is JobState.WAITING_RETRY else None,
        "error_code": None if error is None else error.code, "error": described,
        "finished_at": now if to in SETTLED else None, "cancel_requested": False,
    }  # fmt: skip
    if failures is not None:
        values["failures"] = failures
    if pool is not None:
        values["pool"] = pool
    if to is JobState.SUCCEEDED:
        values["progress"] = 1.0
    ended = session.execute(
        sa.update(table)
        .where(table.c.job_uuid == job.job_uuid, table.c.lease_token == job.lease_token, table.c.state == "running")
        .values(values)
        .returning(table.c.job_uuid)
    ).first()
    if ended is None:
        raise LeaseLost(f"Attempt {job.attempt} of job {job.job_uuid} has ended already.")
    outcome = {"job": job.job_uuid, "attempt": job.attempt, "code": values["error_code"]}
    session.execute(
        sa.text(
            "UPDATE attempt SET ended_at = ironclad_now(), outcome = :outcome, error_code = :code "
            "WHERE job_uuid = :job AND attempt = :attempt AND ended_at IS NULL"
        ),
        {**outcome, "outcome": to.value},
    )
    session.execute(
        sa.text(
            "UPDATE stage_run SET state = 'failed', ended_at = ironclad_now(), error_code = :code "
            "WHERE job_uuid = :job AND attempt = :attempt AND state = 'running'"
        ),
        outcome,
    )
    record(
        session, job.job_uuid, to.value, actor=actor, attempt=job.attempt, from_state="running", to_state=to.value,
        stage=job.stage, **({"error": described} if described else {}), **data,
    )  # fmt: skip
    return load(session, job.job_uuid)


def fail(session: Session, fence: Fence, error: IroncladError, *, actor: str, settings: JobSettings) -> Job:
    """End the attempt by an error: retry later or fail for good, as the error's kind says. Raises `LeaseLost`."""
    assert_held(session, fence)
    job = load(session, fence.job_uuid)
    verdict = retry.decide(error, failures=job.failures, settings=settings)
    verdict = breaker.judged(session, job, error, verdict, settings)
    return end_attempt(
        session, job, verdict.state, actor=actor, error=error,
        delay_seconds=verdict.delay_seconds, failures=verdict.failures, retry_in=verdict.delay_seconds,
    )  # fmt: skip
