"""The installation at each scrape, as its database knows it: errors, pools, services, deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import sqlalchemy as sa

from ironclad.jobs import control

if TYPE_CHECKING:
    from sqlmodel import Session

    from ironclad.ops.metrics import Metrics

_Series: TypeAlias = dict[tuple[str, ...], Any]
"""Values by labels."""

DEADLINE_RESULTS: Final = ("met", "missed")
_SILENT_SECONDS = 30.0

_ERRORS = sa.text(
    "SELECT state, coalesce(error->>'kind', 'unknown') AS kind, count(*) AS n FROM job "
    "WHERE state IN ('failed', 'quarantined', 'waiting_retry') GROUP BY 1, 2"
)
_HELD = sa.text("SELECT count(*) FROM job WHERE held")
_POOLS = sa.text("SELECT name, slots FROM pool")
_SERVICES = sa.text(
    "SELECT kind, pool, ironclad_now() - seen_at < make_interval(secs => :silent) AS alive, count(*) AS n "
    "FROM worker GROUP BY 1, 2, 3"
)
_NOW = sa.text("SELECT ironclad_now()")
_MISSED = sa.text(
    "SELECT count(*) FROM job WHERE created_at > CAST(:since AS timestamptz) - make_interval(secs => :deadline) "
    "AND created_at <= CAST(:now AS timestamptz) - make_interval(secs => :deadline) AND NOT held "
    "AND CASE WHEN finished_at IS NOT NULL THEN finished_at > created_at + make_interval(secs => :deadline) "
    "ELSE state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped', 'quarantined') END"
)


class InstallationGauges:
    """Reads what is not an event; called with a session of limited time.

    Args:
        metrics: of the dispatcher.
        deadline_seconds: jobs that are older and have not ended are counted as missed, once.
    """

    def __init__(self, metrics: Metrics, deadline_seconds: float) -> None:
        self._metrics = metrics
        self._deadline = deadline_seconds
        self._looked: Any = None
        self._seen: dict[str, set[tuple[str, ...]]] = {}

    def count(self, session: Session) -> None:
        """Set the gauges; count the deadlines that passed since the last time."""
        errors: _Series = {(row.state, row.kind): row.n for row in session.execute(_ERRORS)}
        self._set("ironclad_jobs_in_error", errors)
        self._metrics.gauge("ironclad_jobs_held").set(session.scalar(_HELD) or 0)
        pools: _Series = {(row.name,): row.slots for row in session.execute(_POOLS)}
        self._set("ironclad_pool_slots", pools)
        paused: _Series = {name: float(control.pause_reason(session, name[0]) is not None) for name in pools}
        self._set("ironclad_pool_paused", paused)
        self._services(session, pools)
        self._deadlines(session)

    def _services(self, session: Session, pools: _Series) -> None:
        alive: _Series = {}
        silent: _Series = {}
        workers: _Series = dict.fromkeys(pools, 0.0)
        for row in session.execute(_SERVICES, {"silent": _SILENT_SECONDS}):
            found, other = (alive, silent) if row.alive else (silent, alive)
            found[row.kind,] = found.get((row.kind,), 0.0) + row.n
            other.setdefault((row.kind,), 0.0)
            if row.pool and row.alive:
                workers[row.pool,] = workers.get((row.pool,), 0.0) + row.n
        self._set("ironclad_services_alive", alive)
        self._set("ironclad_services_silent", silent)
        self._set("ironclad_workers", workers)

    def _deadlines(self, session: Session) -> None:
        now = session.scalar(_NOW)
        if self._looked is not None:
            missed = session.scalar(_MISSED, {"since": self._looked, "now": now, "deadline": self._deadline}) or 0
            self._metrics.counter("ironclad_job_deadlines_total").labels("missed").inc(missed)
        self._looked = now

    def _set(self, name: str, values: _Series) -> None:
        """Set a gauge's series; one that is no longer there falls to zero instead of keeping its last value."""
        gauge = self._metrics.gauge(name)
        seen = self._seen.setdefault(name, set())
        for labels in seen - values.keys():
            gauge.labels(*labels).set(0)
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        seen.update(values)
