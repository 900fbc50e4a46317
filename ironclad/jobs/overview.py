"""The whole installation at a glance: what the cockpit and `ironclad top` show. Fast at 100,000 jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.jobs.query import PoolView
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlmodel import Session

LATE_SECONDS: Final = 30.0
"""A service that did not report for so long counts as missing."""
MINUTES: Final = 60
"""How far back the throughput goes."""
_NAME_LIMIT: Final = 300
_RUNNING_LIMIT: Final = 200
_PACE_JOBS: Final = 200
_RECENT_MINUTES: Final = 15


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that is being worked on."""

    job_uuid: UUID
    name: str
    user_id: str
    pool: str
    worker: str
    engine: str
    attempt: int
    stage: str
    stage_progress: float
    message: str | None
    progress: float
    """Of the whole job, 0..1."""
    elapsed_seconds: float
    """Since this attempt began."""
    eta_seconds: float | None
    """Seconds left, by how fast this installation was lately; None if nothing tells."""
    cancelling: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A service that reports to the database."""

    name: str
    kind: str
    host: str
    pid: int
    pool: str | None
    started_at: datetime | None
    seen_at: datetime | None
    late: bool
    data: Mapping[str, Any]

    @property
    def status(self) -> str:
        """`ok`, `starting`, `degraded`, `failed` or `missing`."""
        return "missing" if self.late else str(self.data.get("status", "ok"))


@dataclass(frozen=True, slots=True)
class Event:
    """One line of what happened."""

    id: int
    job_uuid: UUID
    at: datetime
    kind: str
    state: str | None
    stage: str | None
    actor: str
    name: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Glance:
    """Everything at one moment."""

    at: datetime
    """The database's clock."""
    states: Mapping[str, int]
    held: int
    paused: bool
    disk_low: bool
    pools: tuple[PoolView, ...] = ()
    running: tuple[RunningJob, ...] = ()
    services: tuple[Service, ...] = ()
    succeeded: tuple[int, ...] = (0,) * MINUTES
    """Jobs that succeeded in each of the last minutes, oldest first."""
    failed: tuple[int, ...] = (0,) * MINUTES
    """Likewise, failed or quarantined."""
    events: tuple[Event, ...] = ()
    """Newest first."""
    dead_letters: int = 0
    """Notifications that were given up."""

    @property
    def waiting(self) -> int:
        """Jobs that no worker has begun or that wait for a retry."""
        return sum(self.states.get(state, 0) for state in ("received", "queued", "waiting_retry"))

    @property
    def broken(self) -> int:
        """Jobs that failed for good."""
        return self.states.get("failed", 0) + self.states.get("quarantined", 0)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: `text` for people, `where` names the screen that shows more."""

    severity: str
    """`bad`: work stops or fails; `warn`: somebody should look; `ok`: nothing is wrong."""
    text: str
    where: str


# Each count walks a part of one index, and waiting jobs, which may be many, are walked once for state and pool both.
_COUNTED: Final = ", ".join(
    f"'{state}', (SELECT count(*) FROM job WHERE state = '{state}')"
    for state in JobState
    if state not in {JobState.QUEUED, JobState.RUNNING}
)
_SUMMARY = sa.text(
    "WITH waiting AS MATERIALIZED (SELECT pool, count(*) AS jobs FROM job "
    "  WHERE state = 'queued' AND NOT held AND dispatched_at IS NULL GROUP BY pool), "
    "dispatched AS MATERIALIZED (SELECT pool, count(*) AS jobs FROM job "
    "  WHERE state = 'queued' AND dispatched_at IS NOT NULL GROUP BY pool), "
    "running AS MATERIALIZED (SELECT pool, count(*) AS jobs FROM job WHERE state = 'running' GROUP BY pool) "
    f"SELECT ironclad_now() AS at, json_build_object({_COUNTED}, "
    "'queued', coalesce((SELECT sum(jobs) FROM waiting), 0) + coalesce((SELECT sum(jobs) FROM dispatched), 0) "
    "  + (SELECT count(*) FROM job WHERE held AND state = 'queued' AND dispatched_at IS NULL), "
    "'running', coalesce((SELECT sum(jobs) FROM running), 0)) AS states, "
    "(SELECT count(*) FROM job WHERE held AND state IN ('queued', 'waiting_retry')) AS held, "
    "(SELECT count(*) FROM message WHERE state = 'dead') AS dead_letters, "
    "(SELECT json_object_agg(name, value) FROM control) AS switches, "
    "(SELECT json_agg(json_build_object('name', p.name, 'slots', p.slots, 'paused', p.paused, "
    "  'running', coalesce(running.jobs, 0), 'dispatched', coalesce(dispatched.jobs, 0), "
    "  'waiting', coalesce(waiting.jobs, 0), 'oldest_waiting_seconds', (SELECT extract(epoch FROM ironclad_now() "
    "    - min(j.queued_at)) FROM job j WHERE j.state = 'queued' AND j.pool = p.name)::float) ORDER BY p.name) "
    "  FROM pool p LEFT JOIN waiting ON waiting.pool = p.name LEFT JOIN dispatched ON dispatched.pool = p.name "
    "  LEFT JOIN running ON running.pool = p.name) AS pools"
)
_RUNNING = sa.text(
    "SELECT j.job_uuid, left(j.artist, :length) AS artist, left(j.title, :length) AS title, "
    "right(j.relative_path, :length) AS path, j.user_id, j.pool, coalesce(j.worker, '') AS worker, j.engine, "
    "j.attempt, j.stage, coalesce(r.progress, 0) AS stage_progress, r.message, j.progress, j.duration_seconds, "
    "j.cancel_requested, extract(epoch FROM ironclad_now() - a.started_at)::float AS elapsed "
    "FROM job j LEFT JOIN attempt a ON a.job_uuid = j.job_uuid AND a.attempt = j.attempt "
    "LEFT JOIN stage_run r ON r.job_uuid = j.job_uuid AND r.attempt = j.attempt AND r.stage = j.stage "
    "WHERE j.state = 'running' ORDER BY j.job_uuid LIMIT :limit"
)
_SERVICES = sa.text(
    "SELECT name, kind, host, pid, pool, started_at, seen_at, data, "
    "seen_at < ironclad_now() - make_interval(secs => :late) AS late FROM worker ORDER BY name"
)
_THROUGHPUT = sa.text(
    "SELECT floor(extract(epoch FROM CAST(:at AS timestamptz) - finished_at)::float / 60)::int AS age, "
    "state = 'succeeded' AS good, count(*) AS jobs FROM job "
    "WHERE finished_at > CAST(:at AS timestamptz) - make_interval(mins => :minutes) "
    "AND finished_at <= CAST(:at AS timestamptz) "
    "AND state IN ('succeeded', 'failed', 'quarantined') GROUP BY 1, 2"
)
_EVENTS = sa.text(
    "SELECT e.id, e.job_uuid, e.at, e.kind, e.to_state, e.stage, e.actor, e.data->'error'->>'code' AS code, "
    "left(j.artist, :length) AS artist, left(j.title, :length) AS title, right(j.relative_path, :length) AS path "
    "FROM (SELECT * FROM job_event ORDER BY id DESC LIMIT :limit) e JOIN job j USING (job_uuid) ORDER BY e.id DESC"
)
# How many seconds of work a second of music took, for each engine, in its last jobs on this installation.
_PACE = sa.text(
    "SELECT engine, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / duration) AS pace FROM ("
    " SELECT j.engine, extract(epoch FROM a.ended_at - a.started_at)::float AS seconds, j.duration_seconds AS duration"
    " FROM (SELECT job_uuid, attempt, engine, duration_seconds, state FROM job WHERE finished_at IS NOT NULL"
    "       ORDER BY finished_at DESC, job_uuid DESC LIMIT :jobs) j"
    " JOIN attempt a ON a.job_uuid = j.job_uuid AND a.attempt = j.attempt"
    " WHERE j.state = 'succeeded' AND j.duration_seconds > 0 AND a.first_stage = 'validate'"
    ") recent GROUP BY engine"
)


def pace(session: Session) -> dict[str, float]:
    """Seconds of work for a second of music, by engine: the median of the last jobs that ran from the beginning."""
    rows = session.execute(_PACE, {"jobs": _PACE_JOBS})
    return {row.engine: float(row.pace) for row in rows if row.pace is not None}


def glance(session: Session, *, events: int = 20, paces: Mapping[str, float] | None = None) -> Glance:
    """The installation now.

    Args:
        session: the transaction.
        events: how many of the last events.
        paces: what `pace` said lately; asked for if not given.
    """
    paces = pace(session) if paces is None else paces
    summary = session.execute(_SUMMARY).one()
    switches = summary.switches or {}
    succeeded, failed = throughput(session, summary.at)
    services = session.execute(_SERVICES, {"late": LATE_SECONDS})
    return Glance(
        at=summary.at,
        states=summary.states,
        held=summary.held,
        paused=bool(switches.get("pipeline", {}).get("paused")),
        disk_low=bool(switches.get("disk", {}).get("low")),
        pools=tuple(
            PoolView(**pool, fed=pool["name"] in switches.get("pools", {}).get("fed", [pool["name"]]))
            for pool in summary.pools or ()
        ),
        running=tuple(
            _running(row, paces) for row in session.execute(_RUNNING, {"length": _NAME_LIMIT, "limit": _RUNNING_LIMIT})
        ),
        services=tuple(
            Service(
                name=row.name, kind=row.kind, host=row.host, pid=row.pid, pool=row.pool, started_at=row.started_at,
                seen_at=row.seen_at, late=bool(row.late), data=row.data,
            )
            for row in services
        ),
        succeeded=succeeded,
        failed=failed,
        events=last_events(session, limit=events),
        dead_letters=summary.dead_letters,
    )  # fmt: skip


def last_events(session: Session, *, limit: int) -> tuple[Event, ...]:
    """The newest events of all jobs, newest first."""
    rows = session.execute(_EVENTS, {"limit": limit, "length": _NAME_LIMIT})
    return tuple(
        Event(row.id, row.job_uuid, row.at, row.kind, row.to_state, row.stage, row.actor, _name(row), row.code)
        for row in rows
    )


def throughput(session: Session, at: datetime) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Jobs that succeeded and that failed in each of the last `MINUTES` minutes before `at`, oldest first."""
    good, bad = [0] * MINUTES, [0] * MINUTES
    for row in session.execute(_THROUGHPUT, {"at": at, "minutes": MINUTES}):
        if 0 <= row.age < MINUTES:
            (good if row.good else bad)[MINUTES - 1 - row.age] += row.jobs
    return tuple(good), tuple(bad)


def eta(progress: float, elapsed: float, duration: float | None, pace: float | None) -> float | None:
    """Seconds left of a job.

    Args:
        progress: of the whole job, 0..1.
        elapsed: seconds since it began.
        duration: of the music, in seconds.
        pace: seconds of work for a second of music.
    """
    if duration and pace:
        return max(0.0, duration * pace * (1.0 - progress))
    if progress >= 0.05:  # noqa: PLR2004 - before, a projection says nothing
        return max(0.0, elapsed / progress * (1.0 - progress))
    return None


def worst(view: Glance) -> Problem:
    """The worst of what is wrong, or that all is well."""
    late = [service for service in view.services if service.late]
    failing, degraded = (
        [service for service in view.services if service.status == status] for status in ("failed", "degraded")
    )
    recent = sum(view.failed[-_RECENT_MINUTES:])
    paused = ", ".join(pool.name for pool in view.pools if pool.paused)
    unfed = ", ".join(pool.name for pool in view.pools if not pool.fed and (pool.waiting or pool.dispatched))
    stuck = ", ".join(pool.name for pool in view.pools if _stuck(pool))
    found = (  # in the order of their weight
        (view.disk_low, "bad", "The disk is almost full: nothing new starts.", "maintenance"),
        (late, "bad", f"{_listed(late)} does not report.", "workers"),
        (failing, "bad", f"{_listed(failing)} does not work.", "health"),
        (not view.services and view.waiting, "bad", "No service is running: `ironclad up` starts them.", "health"),
        (recent, "bad", f"{_jobs(recent)} failed in the last {_RECENT_MINUTES} minutes.", "failures"),
        (view.paused, "warn", "The pipeline is paused: nothing new starts.", "workers"),
        (paused, "warn", f"Paused: {paused}.", "workers"),
        (degraded, "warn", f"{_listed(degraded)} works worse than it should.", "health"),
        (view.dead_letters, "warn", f"{_letters(view.dead_letters)} could not be delivered.", "health"),
        (unfed, "warn", f"Jobs wait for pool {unfed}, which is not among the dispatcher's pools.", "workers"),
        (stuck, "warn", f"Jobs wait for pool {stuck}, but none is running.", "workers"),
        (view.broken, "warn", f"{_jobs(view.broken)} failed and can be retried.", "failures"),
        (True, "ok", "All is well.", "overview"),
    )
    return next(Problem(severity, text, where) for wrong, severity, text, where in found if wrong)


def _stuck(pool: PoolView) -> bool:
    waits = pool.oldest_waiting_seconds or 0.0
    return bool(pool.waiting and not pool.running and not pool.dispatched and waits > LATE_SECONDS)


def _jobs(number: int) -> str:
    return f"{number:,} job" if number == 1 else f"{number:,} jobs"


def _letters(number: int) -> str:
    return f"{number:,} notification" if number == 1 else f"{number:,} notifications"


def _listed(services: list[Service]) -> str:
    return ", ".join(service.name.partition("@")[0] for service in services)


def _name(row: Any) -> str:
    return " - ".join(part for part in (row.artist, row.title) if part) or row.path


def _running(row: Any, paces: Mapping[str, float]) -> RunningJob:
    elapsed = max(0.0, row.elapsed or 0.0)
    return RunningJob(
        job_uuid=row.job_uuid, name=_name(row), user_id=row.user_id, pool=row.pool, worker=row.worker,
        engine=row.engine, attempt=row.attempt, stage=row.stage, stage_progress=row.stage_progress,
        message=row.message, progress=row.progress, elapsed_seconds=elapsed,
        eta_seconds=eta(row.progress, elapsed, row.duration_seconds, paces.get(row.engine)),
        cancelling=row.cancel_requested,
    )  # fmt: skip
