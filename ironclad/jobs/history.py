"""What an attempt writes while it works: stage runs, facts about the song, artifacts. All of it is fenced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ironclad.db import jsonb
from ironclad.db.tables import Artifact
from ironclad.errors import BadRequest, LeaseLost
from ironclad.jobs.ids import uuid7
from ironclad.jobs.lease import Fence, assert_held
from ironclad.jobs.transition import record

if TYPE_CHECKING:
    from uuid import UUID

    from sqlmodel import Session

FACTS = frozenset({"title", "artist", "album", "duration_seconds"})
"""Columns of a job that stages fill in."""
_MESSAGE_LIMIT = 500  # characters; a notification holds 8000 bytes


def _held_job(session: Session, fence: Fence, values: dict[str, Any]) -> None:
    """Write columns of the job's row. `assert_held` has locked it, so a lease that runs out just now loses nothing."""
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    session.execute(
        sa.text(f"UPDATE job SET {assignments} WHERE job_uuid = :job AND lease_token = :token"),
        {**fence.parameters(), **values},
    )


def stage_started(session: Session, fence: Fence, stage: str) -> None:
    """A stage begins. Raises `LeaseLost`, as everything here."""
    assert_held(session, fence)
    session.execute(
        sa.text(
            "INSERT INTO stage_run (job_uuid, attempt, stage, state) VALUES (:job, :attempt, :stage, 'running') "
            "ON CONFLICT (job_uuid, attempt, stage) DO UPDATE SET state = 'running', started_at = ironclad_now(), "
            "ended_at = NULL, error_code = NULL, progress = 0, message = NULL"
        ),
        {**fence.parameters(), "stage": stage},
    )
    _held_job(session, fence, {"stage": stage})
    record(session, fence.job_uuid, "stage_started", actor="worker", attempt=fence.attempt, stage=stage)


def stage_progress(session: Session, fence: Fence, stage: str, fraction: float, message: str | None = None) -> None:
    """A running stage's progress (0..1); listeners of `ironclad_progress` hear of it. A stage that ended has none."""
    assert_held(session, fence)
    fraction = min(1.0, max(0.0, fraction))
    message = None if message is None else jsonb.text(message)[:_MESSAGE_LIMIT]
    running = session.execute(
        sa.text(
            "UPDATE stage_run SET progress = :fraction, message = :message "
            "WHERE job_uuid = :job AND attempt = :attempt AND stage = :stage AND state = 'running' RETURNING true"
        ),
        {**fence.parameters(), "stage": stage, "fraction": fraction, "message": message},
    ).first()
    if running is None:  # it was said before the end, and written after it
        return
    payload = {"job": str(fence.job_uuid), "stage": stage, "progress": round(fraction, 4), "message": message}
    session.execute(sa.text("SELECT pg_notify('ironclad_progress', :payload)"), {"payload": jsonb.dumps(payload)})


def stage_ended(
    session: Session, fence: Fence, stage: str, *, reused: bool, data: dict[str, Any],
    following: str | None, facts: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """A stage is done (or its marker matched): the job moves on to the `following` stage in the same attempt."""
    values = {name: value for name, value in (facts or {}).items() if value is not None}
    unknown = set(values) - FACTS
    if unknown:
        raise BadRequest(f"A stage may not write {', '.join(sorted(unknown))}.")
    assert_held(session, fence)
    state = "reused" if reused else "done"
    session.execute(
        sa.text(
            "UPDATE stage_run SET state = :state, progress = 1, ended_at = ironclad_now(), message = NULL, "
            "data = CAST(:data AS jsonb) WHERE job_uuid = :job AND attempt = :attempt AND stage = :stage"
        ),
        {**fence.parameters(), "stage": stage, "state": state, "data": jsonb.dumps(data)},
    )
    _held_job(session, fence, {"stage": following or stage, **jsonb.plain(values)})
    record(session, fence.job_uuid, "stage_" + state, actor="worker", attempt=fence.attempt, stage=stage)


def note(session: Session, fence: Fence, kind: str, stage: str | None, **data: Any) -> None:
    """Something worth keeping in the job's history (a step-down, a warning, a deletion)."""
    assert_held(session, fence)
    record(session, fence.job_uuid, kind, actor="worker", attempt=fence.attempt, stage=stage, **data)


def engine_chosen(session: Session, fence: Fence, *, engine: str, engine_pool: str, parameters: dict[str, Any]) -> None:
    """The job gets another engine than it was received with, as the rules of the settings say."""
    assert_held(session, fence)
    values = {"engine": engine, "engine_pool": engine_pool, "parameters": jsonb.dumps(parameters)}
    session.execute(
        sa.text(
            "UPDATE job SET engine = :engine, engine_pool = :engine_pool, parameters = CAST(:parameters AS jsonb) "
            "WHERE job_uuid = :job AND lease_token = :token"
        ),
        {**fence.parameters(), **values},
    )
    record(session, fence.job_uuid, "engine_chosen", actor="worker", attempt=fence.attempt, engine=engine)


def intend(
    session: Session, fence: Fence, *, kind: str, path: str, size: int, blake3: str, receipt: dict[str, Any] | None,
    since: int = 0,
) -> UUID | None:  # fmt: skip
    """Record that a file is about to be published. Its own older files of the same kind or name are superseded.

    Those of attempts before `since` are kept beside the new one (a replay that keeps both results).

    Returns the artifact's id, or None if another job owns the path (letter case aside), or another kind of this very
    attempt does: the caller picks another.
    """
    assert_held(session, fence)
    # Two jobs that want one name at the same time are decided here, not by a failed insert.
    session.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(lower(:path), 1))"), {"path": path})
    owner = session.scalar(
        sa.text(
            "SELECT job_uuid FROM artifact WHERE lower(path) = lower(:path) AND state <> 'superseded' "
            "AND (job_uuid <> :job OR attempt = :attempt AND kind <> :kind)"
        ),
        {"path": path, "job": fence.job_uuid, "attempt": fence.attempt, "kind": kind},
    )
    if owner is not None:
        return None
    session.execute(
        sa.text(
            "UPDATE artifact SET state = 'superseded' WHERE job_uuid = :job AND state <> 'superseded' "
            "AND (kind = :kind AND attempt >= :since OR lower(path) = lower(:path))"
        ),
        {"job": fence.job_uuid, "kind": kind, "path": path, "since": since},
    )
    artifact = uuid7()
    session.add(
        Artifact(
            artifact_uuid=artifact,
            job_uuid=fence.job_uuid,
            attempt=fence.attempt,
            kind=kind,
            path=path,
            size=size,
            blake3=blake3,
            state="intent",
            receipt=receipt,
        )
    )
    session.flush()
    return artifact


def published(session: Session, fence: Fence, artifact: UUID, path: str) -> None:
    """The file has its final name: this attempt's intent becomes a fact. Saying so twice is fine."""
    assert_held(session, fence)
    row = session.execute(
        sa.text(
            "UPDATE artifact SET state = 'published', published_at = coalesce(published_at, ironclad_now()) "
            "WHERE artifact_uuid = :id AND job_uuid = :job AND attempt = :attempt AND state <> 'superseded' "
            "RETURNING artifact_uuid"
        ),
        {"id": artifact, "job": fence.job_uuid, "attempt": fence.attempt},
    ).first()
    if row is None:
        raise LeaseLost(f"Artifact {artifact} is no intent of attempt {fence.attempt} of job {fence.job_uuid}.")
    record(session, fence.job_uuid, "published", actor="worker", attempt=fence.attempt, stage="organize", path=path)
