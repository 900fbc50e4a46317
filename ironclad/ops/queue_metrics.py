"""What the queue and the watch roots look like, and what happened there, read from the database at each scrape.

Work happens in short-lived processes on many hosts; the database is the one place that saw all of it. Counters begin
at zero when the service starts and count the events since. Two dispatchers count the same events: use `max`, not `sum`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.errors import DatabaseUnavailable
from ironclad.jobs.states import SETTLED, JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import TextClause
    from sqlmodel import Session

    from ironclad.db.session import Database
    from ironclad.ops.metrics import Metrics

_TIMEOUT = "2s"
_BATCH: Final = 2000
# Events of transactions that were still open must not be passed over by later ones that committed first.
_LAG_SECONDS = 2.0

_COUNTS = sa.text(
    "SELECT 'state' AS what, state AS key, count(*) AS n, NULL::float AS age FROM job GROUP BY state "
    "UNION ALL SELECT 'queued', pool, count(*), "
    "extract(epoch FROM ironclad_now() - min(coalesce(queued_at, created_at)))::float "
    "FROM job WHERE state = 'queued' GROUP BY pool "
    "UNION ALL SELECT 'running', pool, count(*), NULL FROM job WHERE state = 'running' GROUP BY pool "
    "UNION ALL SELECT 'pool', name, 0, NULL FROM pool"
)
_EVENTS = sa.text(
    "SELECT e.id, e.kind, e.actor, e.stage, e.from_state, e.to_state, e.data->'error'->>'code' AS code, "
    "extract(epoch FROM s.ended_at - s.started_at)::float AS seconds, "
    "CASE WHEN e.to_state = 'succeeded' THEN j.duration_seconds END AS audio "
    "FROM job_event e JOIN job j ON j.job_uuid = e.job_uuid "
    "LEFT JOIN stage_run s ON e.kind LIKE 'stage\\_%' AND s.job_uuid = e.job_uuid AND s.attempt = e.attempt "
    "AND s.stage = e.stage "
    "WHERE e.id > :last AND e.at <= ironclad_now() - make_interval(secs => :lag) ORDER BY e.id LIMIT :batch"
)
_LAST = sa.text("SELECT coalesce(max(id), 0) FROM job_event WHERE at <= ironclad_now() - make_interval(secs => :lag)")
_STAGE_OUTCOMES = {"stage_done": "done", "stage_reused": "reused"}


class EventReader:
    """Brings metrics up to date before each scrape, in bounded time; without a database they keep their values.

    Args:
        database: where the events are.
        metrics: of the service.
        parameters: more for `events`.
        lag_seconds: how old an event must be to be counted.
    """

    events: TextClause
    """Reads rows with an `id` above `:last`, oldest first, at most `:batch`."""

    def __init__(
        self, database: Database, metrics: Metrics, parameters: Mapping[str, Any] | None = None, *,
        lag_seconds: float = _LAG_SECONDS,
    ) -> None:  # fmt: skip
        self._database = database
        self._metrics = metrics
        self._parameters = {**(parameters or {}), "lag": lag_seconds, "batch": _BATCH}
        self._lock = threading.Lock()
        self._last: int | None = None
        metrics.on_scrape(self.refresh)

    def count(self, session: Session) -> None:
        """Set the gauges."""
        raise NotImplementedError

    def event(self, event: Any) -> None:
        """Count one event."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Read how things are, and what happened since the last time."""
        up = self._metrics.gauge("ironclad_database_up")
        with self._lock:
            try:
                with self._database.session() as session:
                    session.execute(sa.text(f"SET LOCAL statement_timeout = '{_TIMEOUT}'"))
                    self.count(session)
                    self._tally(session)
                up.set(1)
            except DatabaseUnavailable:
                up.set(0)

    def _tally(self, session: Session) -> None:
        if self._last is None:
            self._last = int(session.scalar(_LAST, {"lag": self._parameters["lag"]}) or 0)
            return
        for row in session.execute(self.events, {**self._parameters, "last": self._last}):
            self.event(row)
            self._last = int(row.id)


class QueueReader(EventReader):
    """The dispatcher's metrics."""

    events = _EVENTS

    def __init__(self, database: Database, metrics: Metrics, *, lag_seconds: float = _LAG_SECONDS) -> None:
        self._pools: set[str] = set()
        super().__init__(database, metrics, lag_seconds=lag_seconds)

    def count(self, session: Session) -> None:
        """Jobs by state and pool."""
        rows = session.execute(_COUNTS).all()
        jobs = self._metrics.gauge("ironclad_jobs")
        depth, age, running = (
            self._metrics.gauge(f"ironclad_{name}")
            for name in ("queue_depth", "queue_oldest_age_seconds", "jobs_running")
        )
        self._pools.update(row.key for row in rows if row.what != "state")
        for state in JobState:
            jobs.labels(state.value).set(0)
        for pool in self._pools:  # one that emptied must fall to zero, not keep its last value
            for gauge in (depth, age, running):
                gauge.labels(pool).set(0)
        for row in rows:
            match row.what:
                case "state":
                    jobs.labels(row.key).set(row.n)
                case "queued":
                    depth.labels(row.key).set(row.n)
                    age.labels(row.key).set(max(0.0, row.age))
                case "running":
                    running.labels(row.key).set(row.n)

    def event(self, event: Any) -> None:
        """Claims, ends, errors, stages."""
        metrics = self._metrics
        if event.kind == "received":
            metrics.counter("ironclad_jobs_received_total").inc()
        if event.kind == "claimed":
            metrics.counter("ironclad_claims_total").inc()
        if event.actor == "reaper" and event.to_state is not None:
            metrics.counter("ironclad_jobs_reaped_total").labels(event.to_state).inc()
            if event.from_state == JobState.RUNNING:
                metrics.counter("ironclad_leases_lost_total").inc()
        if event.to_state in SETTLED:
            metrics.counter("ironclad_jobs_finished_total").labels(event.to_state).inc()
        if event.code is not None:
            metrics.counter("ironclad_errors_total").labels(event.code).inc()
        if event.audio is not None:
            metrics.counter("ironclad_audio_seconds_total").inc(event.audio)
        if event.kind in _STAGE_OUTCOMES and event.seconds is not None:
            outcome = _STAGE_OUTCOMES[event.kind]
            metrics.histogram("ironclad_stage_duration_seconds").labels(event.stage, outcome).observe(event.seconds)


_RECEIVED = sa.text(
    "SELECT e.id, extract(epoch FROM j.created_at - o.changed_at)::float AS seconds "
    "FROM job_event e JOIN job j ON j.job_uuid = e.job_uuid "
    "LEFT JOIN observation o ON o.root = j.watch_root AND o.job_uuid = j.job_uuid "
    "WHERE e.id > :last AND e.kind = 'received' AND j.watch_root = ANY(:roots) "
    "AND e.at <= ironclad_now() - make_interval(secs => :lag) ORDER BY e.id LIMIT :batch"
)
_OBSERVATIONS = sa.text("SELECT status, count(*) AS n FROM observation WHERE root = ANY(:roots) GROUP BY status")


class WatchReader(EventReader):
    """The watcher's metrics, for the given roots."""

    events = _RECEIVED

    def __init__(
        self, database: Database, metrics: Metrics, roots: list[str], *, lag_seconds: float = _LAG_SECONDS
    ) -> None:
        self._roots = roots
        self._statuses: set[str] = set()
        super().__init__(database, metrics, {"roots": roots}, lag_seconds=lag_seconds)

    def count(self, session: Session) -> None:
        """Files by status."""
        gauge = self._metrics.gauge("ironclad_watch_observations")
        rows = session.execute(_OBSERVATIONS, {"roots": self._roots}).all()
        self._statuses.update(row.status for row in rows)
        for status in self._statuses:
            gauge.labels(status).set(0)
        for row in rows:
            gauge.labels(row.status).set(row.n)

    def event(self, event: Any) -> None:
        """A file that became a job."""
        self._metrics.counter("ironclad_watch_files_received_total").inc()
        if event.seconds is not None:
            self._metrics.histogram("ironclad_watch_pickup_seconds").observe(max(0.0, event.seconds))
