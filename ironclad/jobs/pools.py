"""Jobs of pools that are gone: taken out of the settings, and served by nobody any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ironclad.jobs import control, pipeline
from ironclad.jobs.submit import fair_key
from ironclad.jobs.transition import load, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlmodel import Session

SWITCH: Final = "pools"
"""The switch in which the leading dispatcher says which pools it feeds."""
_ALIVE_SECONDS: Final = 60.0
"""A worker that reported within this time is there; workers report several times in it."""
_BATCH: Final = 200


@dataclass(slots=True)
class Rerouted:
    """What one look did."""

    moved: dict[str, int] = field(default_factory=dict)
    """Jobs that were moved away, by the pool they waited for."""
    runs: list[str] = field(default_factory=list)
    """Flow runs that wait for them in the executor."""
    left: tuple[str, ...] = ()
    """Pools with workers that this dispatcher's settings do not name: their jobs stay."""


def fed(session: Session) -> frozenset[str] | None:
    """The pools of the dispatcher that leads, or led last; None if none ever did."""
    value = control.switch(session, SWITCH)
    return frozenset(value["fed"]) if "fed" in value else None


def declare(session: Session, pools: Mapping[str, int]) -> None:
    """Make the pools (name: slots) known as those that are fed from now on."""
    control.declare_pools(session, dict(pools))
    if fed(session) != frozenset(pools):
        control.set_switch(session, SWITCH, {"fed": sorted(pools)})


def reroute(session: Session, pools: Iterable[str]) -> Rerouted:
    """Send the jobs that wait for a pool nobody feeds or serves where new jobs like them would go.

    A pool that a live worker serves is left alone: another machine's settings name it. A pool that has no job left is
    forgotten.
    """
    names = frozenset(pools)
    result = Rerouted()
    gone = session.execute(
        sa.text(
            "SELECT p.name, EXISTS (SELECT 1 FROM worker w WHERE w.pool = p.name "
            "AND w.seen_at > ironclad_now() - make_interval(secs => :alive)) AS served "
            "FROM pool p WHERE NOT p.name = ANY(:names) ORDER BY p.name"
        ),
        {"names": sorted(names), "alive": _ALIVE_SECONDS},
    ).all()
    result.left = tuple(row.name for row in gone if row.served)
    for row in gone:
        if not row.served:
            _empty(session, row.name, names, result)
    return result


def _empty(session: Session, pool: str, names: frozenset[str], result: Rerouted) -> None:
    jobs = session.scalars(
        sa.text(
            "SELECT job_uuid FROM job WHERE state IN ('queued', 'waiting_retry') AND pool = :pool "
            "ORDER BY priority DESC, fair_key, job_uuid LIMIT :batch FOR UPDATE SKIP LOCKED"
        ),
        {"pool": pool, "batch": _BATCH},
    ).all()
    for job_uuid in jobs:
        job = load(session, job_uuid)
        target = pipeline.pool_of(job.stage, job.engine_pool, names)
        if job.run_id and job.dispatched_at is not None:
            result.runs.append(job.run_id)
        session.execute(
            sa.text(
                "UPDATE job SET pool = :target, fair_key = :fair, dispatched_at = NULL, run_id = NULL "
                "WHERE job_uuid = :job"
            ),
            {
                "job": job_uuid, "target": target,
                "fair": fair_key(session, target, job.user_id, priority=job.priority),
            },
        )  # fmt: skip
        record(
            session, job_uuid, "rerouted", actor="dispatch", attempt=job.attempt, stage=job.stage,
            **{"from": pool, "to": target}, reason=f"nobody serves pool {pool}, and the settings do not name it",
        )  # fmt: skip
    if jobs:
        result.moved[pool] = len(jobs)
        return
    session.execute(
        sa.text(
            "DELETE FROM pool WHERE name = :pool AND NOT EXISTS (SELECT 1 FROM job "
            "WHERE job.pool = :pool AND state IN ('received', 'queued', 'running', 'waiting_retry'))"
        ),
        {"pool": pool},
    )
