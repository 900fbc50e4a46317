"""What operators do: hold, release, cancel, retry, replay, pause and resume."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.db import jsonb
from ironclad.errors import BadRequest, IllegalTransition
from ironclad.jobs import pipeline
from ironclad.jobs.states import SETTLED, JobState
from ironclad.jobs.transition import load, move, record

if TYPE_CHECKING:
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.db.tables import Job

PIPELINE = "pipeline"
"""The name of the switch that pauses everything."""
DISK = "disk"
"""The name of the switch that the disk floor sets."""


def switch(session: Session, name: str) -> dict[str, Any]:
    """A switch of the installation; empty if it was never set."""
    value = session.scalar(sa.text("SELECT value FROM control WHERE name = :name"), {"name": name})
    return dict(value or {})


def set_switch(session: Session, name: str, value: dict[str, Any]) -> None:
    """Write a switch; listeners hear of it on commit."""
    session.execute(
        sa.text(
            "INSERT INTO control (name, value) VALUES (:name, CAST(:value AS jsonb)) ON CONFLICT (name) "
            "DO UPDATE SET value = EXCLUDED.value, updated_at = ironclad_now()"
        ),
        {"name": name, "value": jsonb.dumps(value)},
    )
    told(session, name)


def told(session: Session, name: str) -> None:
    """Have listeners hear, on commit, that a switch or a pool has changed."""
    session.execute(
        sa.text("SELECT pg_notify('ironclad_event', :payload)"),
        {"payload": jsonb.dumps({"kind": "control", "name": name})},
    )


def pause_reason(session: Session, pool: str) -> str | None:
    """Why nothing may start on a pool now; None if it may."""
    row = session.execute(
        sa.text(
            "SELECT "
            "coalesce((SELECT (value->>'paused')::bool FROM control WHERE name = 'pipeline'), false) AS all_paused, "
            "coalesce((SELECT (value->>'low')::bool FROM control WHERE name = 'disk'), false) AS disk_low, "
            "coalesce((SELECT paused FROM pool WHERE name = :pool), false) AS pool_paused"
        ),
        {"pool": pool},
    ).one()
    if row.all_paused:
        return "the pipeline is paused"
    if row.pool_paused:
        return f"pool {pool} is paused"
    if row.disk_low:
        return "the disk is almost full"
    return None


def pause(session: Session, pool: str | None, *, paused: bool, actor: str) -> None:
    """Pause or resume one pool, or (None) the whole pipeline. Running jobs finish; nothing new starts."""
    if pool is None:
        set_switch(session, PIPELINE, {"paused": paused, "by": actor})
        return
    row = session.execute(
        sa.text("UPDATE pool SET paused = :paused, updated_at = ironclad_now() WHERE name = :pool RETURNING name"),
        {"pool": pool, "paused": paused},
    ).first()
    if row is None:
        known = session.scalars(sa.text("SELECT name FROM pool ORDER BY name")).all()
        raise BadRequest(f"There is no pool {pool}; there is {', '.join(known) or 'none yet'}.")
    told(session, pool)


def declare_pools(session: Session, pools: dict[str, int]) -> None:
    """Make the pools' rows exist with their slots; a pause, and slots that an operator changed, stay as they are."""
    for name, slots in pools.items():
        session.execute(
            sa.text(
                "INSERT INTO pool (name, slots) SELECT CAST(:name AS text), coalesce("
                "  (SELECT (value->>'slots')::int FROM control WHERE name = 'slots:' || CAST(:name AS text)), :slots) "
                "ON CONFLICT (name) DO UPDATE SET slots = EXCLUDED.slots, updated_at = ironclad_now() "
                "WHERE pool.slots <> EXCLUDED.slots"
            ),
            {"name": name, "slots": slots},
        )


def hold(session: Session, job_uuid: UUID, *, held: bool, actor: str) -> Job:
    """Keep a job from starting (or let it go). A running one finishes its attempt."""
    job = load(session, job_uuid, lock=True)
    if held and JobState(job.state) in SETTLED:
        raise IllegalTransition(f"Job {job_uuid} is {job.state}; there is nothing to hold.")
    session.execute(sa.text("UPDATE job SET held = :held WHERE job_uuid = :job"), {"held": held, "job": job_uuid})
    record(session, job_uuid, "held" if held else "released", actor=actor, attempt=job.attempt)
    return load(session, job_uuid)


def cancel(session: Session, job_uuid: UUID, *, actor: str) -> Job:
    """Cancel a job: at once if it waits, within seconds if it runs (its worker hears of it).

    `dispatched_at` stays, so that the dispatcher takes the waiting flow run out of the executor.
    """
    job = load(session, job_uuid, lock=True)
    state = JobState(job.state)
    if state in SETTLED:
        raise IllegalTransition(f"Job {job_uuid} is {job.state} already.")
    if state is JobState.RUNNING:
        session.execute(sa.text("UPDATE job SET cancel_requested = true WHERE job_uuid = :job"), {"job": job_uuid})
        record(session, job_uuid, "cancel_requested", actor=actor, attempt=job.attempt, stage=job.stage)
        return load(session, job_uuid)
    return move(
        session, job, JobState.CANCELLED, actor=actor,
        sets={"finished_at": sa.func.ironclad_now(), "not_before": None},
    )  # fmt: skip


def requeue(
    session: Session, job_uuid: UUID, *, actor: str, kind: str, pools: frozenset[str],
    stage: str | None = None, sets: dict[str, Any] | None = None, options: dict[str, Any] | None = None,
) -> Job:  # fmt: skip
    """Put a settled job back into the queue with a clean count of failures."""
    from ironclad.jobs.submit import fair_key  # noqa: PLC0415 - submit builds on the transitions that this module uses

    job = load(session, job_uuid, lock=True)
    waiting = JobState(job.state) is JobState.WAITING_RETRY
    if job.content_hash is None:
        raise IllegalTransition(f"Job {job_uuid} never got its file; drop or submit the file again.")
    wanted = stage or job.stage
    pool = pipeline.pool_of(wanted, job.engine_pool, pools)
    return move(
        session, job, JobState.QUEUED, actor=actor, kind=kind, allowed={JobState.WAITING_RETRY, *SETTLED},
        sets={
            "stage": wanted, "pool": pool, "failures": 0, "not_before": None, "dispatched_at": None, "run_id": None,
            "finished_at": None, "progress": 0.0, "filed": False, "held": job.held and waiting,
            "fair_key": fair_key(session, pool, job.user_id, priority=job.priority),
            "queued_at": sa.func.ironclad_now(),
            "options": {**job.options, **(options or {})}, **(sets or {}),
        },
        data={"first_stage": wanted, **(options or {})},
    )  # fmt: skip


def retry(session: Session, job_uuid: UUID, *, actor: str, pools: frozenset[str]) -> Job:
    """Try a job again from where it stopped (finished stages are reused), or at once if it waits for its retry."""
    return requeue(session, job_uuid, actor=actor, kind="retried", pools=pools, options={"force": True})


_RESULTS: Final = sa.text(
    "SELECT DISTINCT coalesce(receipt->>'result', '') FROM artifact WHERE job_uuid = :job AND state = 'published' "
    "AND kind !~ '^(receipt|cover):'"
)


def _result(session: Session, job_uuid: UUID, engine: str) -> str:
    """What a new result is called beside those that are there; empty if there is none."""
    taken = set(session.scalars(_RESULTS, {"job": job_uuid}))
    names = itertools.chain([engine], (f"{engine} {number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken) if taken else ""


def replay(
    session: Session, job_uuid: UUID, *, stage: str, actor: str, pools: frozenset[str],
    engine: str | None = None, engine_pool: str = "cpu", parameters: dict[str, Any] | None = None,
    keep: bool = False,
) -> Job:  # fmt: skip
    """Run a settled job again from a stage on; earlier stages' results are reused where they are still there.

    With `keep`, the files that it has published stay in the library beside the new ones, which are called after the
    engine in title, album and folder: two files of one name and number are one track to a media server.
    """
    if stage not in pipeline.STAGES:
        raise BadRequest(f"There is no stage {stage}; the stages are {', '.join(pipeline.STAGES)}.")
    job = load(session, job_uuid, lock=True)
    sets: dict[str, Any] = {}
    if engine is not None:
        sets |= {"engine": engine, "engine_pool": engine_pool}
    if parameters is not None:
        sets["parameters"] = parameters
    asked: dict[str, Any] = {} if engine is None and parameters is None else {pipeline.ENGINE_ASKED: True}
    result = _result(session, job_uuid, engine or job.engine) if keep else ""
    if result or job.options.get("result"):
        asked["result"] = result
    return requeue(
        session, job_uuid, actor=actor, kind="replayed", pools=pools, stage=pipeline.FIRST, sets=sets,
        options={"replay_from": stage, "replay_attempt": job.attempt + 1, "force": True, "keep_results": keep, **asked},
    )  # fmt: skip
