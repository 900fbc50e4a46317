"""The records of a retag: who may write, what was announced, and what is there now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.db import jsonb
from ironclad.errors import IllegalTransition
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load
from ironclad.stages import publish

if TYPE_CHECKING:
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.db.tables import Job

INTENDED: Final = publish.INTENDED
"""In the receipt on record, while a retag is under way."""


def locked(session: Session, job_uuid: UUID) -> Job:
    """The job's row, locked, if its files are published and nobody works on it."""
    job = load(session, job_uuid, lock=True)
    if job.state != JobState.SUCCEEDED.value:
        raise IllegalTransition(f"Job {job_uuid} is {job.state}; only what has succeeded can be retagged.")
    return job


def current(session: Session, job: Job) -> Job:
    """As `locked`, if the job has not run again since `job` was read."""
    now = locked(session, job.job_uuid)
    if now.attempt != job.attempt:
        raise IllegalTransition(f"Job {job.job_uuid} ran again meanwhile; its tags are new.")
    return now


def intend(session: Session, artifact: UUID, blake3: str) -> None:
    """Say what will be written before it is, so that a file that a crash left can be told from a changed one."""
    session.execute(
        sa.text("UPDATE artifact SET receipt = receipt || CAST(:intended AS jsonb) WHERE artifact_uuid = :id"),
        {"id": artifact, "intended": jsonb.dumps({INTENDED: blake3})},
    )


def offered(session: Session, job: Job) -> dict[str, Any]:
    """The candidates stay on record: the operator may change his mind."""
    found = session.scalar(
        sa.text(
            "SELECT data->'lookup'->'candidates' FROM stage_run WHERE job_uuid = :job AND stage = 'metadata' "
            "AND state IN ('done', 'reused') ORDER BY attempt DESC LIMIT 1"
        ),
        {"job": job.job_uuid},
    )
    return {"candidates": found or []}


def note(session: Session, job_uuid: UUID, changes: dict[str, Any]) -> None:
    """What is known about the job's tags now, where the stage left what it knew."""
    session.execute(
        sa.text(
            "UPDATE stage_run SET data = data || CAST(:changes AS jsonb) WHERE job_uuid = :job AND stage = 'metadata' "
            "AND attempt = (SELECT max(attempt) FROM stage_run WHERE job_uuid = :job AND stage = 'metadata' "
            "AND state IN ('done', 'reused'))"
        ),
        {"job": job_uuid, "changes": jsonb.dumps(changes)},
    )


def update(session: Session, artifact: UUID, size: int, blake3: str, receipt: dict[str, Any] | None) -> None:
    """The bytes that a published file has now, and its receipt (None keeps what is there)."""
    session.execute(
        sa.text(
            "UPDATE artifact SET size = :size, blake3 = :blake3, receipt = coalesce(CAST(:receipt AS jsonb), receipt) "
            "WHERE artifact_uuid = :id"
        ),
        {
            "id": artifact, "size": size, "blake3": blake3,
            "receipt": None if receipt is None else jsonb.dumps(receipt),
        },
    )  # fmt: skip
