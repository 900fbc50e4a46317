"""The one way a job changes its state: a guarded UPDATE and its event, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ironclad.db import jsonb
from ironclad.db.tables import Job
from ironclad.errors import IllegalTransition, NotFound
from ironclad.jobs import notices
from ironclad.jobs.states import TRANSITIONS, JobState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlmodel import Session


def load(session: Session, job_uuid: UUID, *, lock: bool = False) -> Job:
    """The job's row. Raises `NotFound`."""
    job = session.get(Job, job_uuid, with_for_update=lock, populate_existing=True)
    if job is None:
        raise NotFound(f"There is no job {job_uuid}.")
    return job


def record(
    session: Session, job_uuid: UUID, kind: str, *, actor: str, attempt: int,
    from_state: str | None = None, to_state: str | None = None, stage: str | None = None, **data: Any,
) -> None:  # fmt: skip
    """Write one event, and what operators should hear of it; listeners hear of it when the transaction commits."""
    session.execute(
        sa.text(
            "INSERT INTO job_event (job_uuid, kind, from_state, to_state, attempt, stage, actor, data) "
            "VALUES (:job, :kind, :from, :to, :attempt, :stage, :actor, CAST(:data AS jsonb))"
        ),
        {
            "job": job_uuid, "kind": kind, "from": from_state, "to": to_state, "attempt": attempt, "stage": stage,
            "actor": jsonb.text(actor), "data": jsonb.dumps(data),
        },
    )  # fmt: skip
    if from_state != to_state:
        notices.job_moved(session, job_uuid, to_state)


def move(
    session: Session, job: Job, to: JobState, *, actor: str, kind: str | None = None,
    sets: dict[str, Any] | None = None, data: dict[str, Any] | None = None,
    allowed: Iterable[JobState] | None = None,
) -> Job:  # fmt: skip
    """Move a job that nobody leases to another state.

    `running` is entered by a claim and left by the end of its attempt (`lease`), never from here: the attempt's own
    row and its stages go with it.

    Args:
        session: the transaction.
        job: the job as read; its state is part of the guard.
        to: the new state.
        actor: who does it (`user:ana`, `reaper`, `watch` …), for the audit trail.
        kind: the event's name; the new state's by default.
        sets: more columns to write.
        data: more data for the event.
        allowed: states it may come from; all that the table allows by default.

    Raises:
        IllegalTransition: the table forbids it, or somebody else moved the job meanwhile.
    """
    origin = JobState(job.state)
    leased = JobState.RUNNING in {origin, to}
    if leased or to not in TRANSITIONS[origin] or (allowed is not None and origin not in set(allowed)):
        raise IllegalTransition(f"Job {job.job_uuid} is {origin}; it cannot become {to}.")
    values: dict[str, Any] = {"state": to.value, **(sets or {})}
    table = Job.__table__  # type: ignore[attr-defined]  # SQLModel adds it
    row = session.execute(
        sa.update(table)
        .where(table.c.job_uuid == job.job_uuid, table.c.state == origin.value, table.c.attempt == job.attempt)
        .values(values)
        .returning(table.c.job_uuid)
    ).first()
    if row is None:
        raise IllegalTransition(f"Job {job.job_uuid} was changed by somebody else meanwhile; it is no longer {origin}.")
    record(
        session, job.job_uuid, kind or to.value, actor=actor, attempt=job.attempt,
        from_state=origin.value, to_state=to.value, stage=job.stage, **(data or {}),
    )  # fmt: skip
    return load(session, job.job_uuid)
