"""What the queue and the watch roots look like, and what happened there, read from the database at each scrape.

Work happens in short-lived processes on many hosts; the database is the one place that saw all of it. Counters begin
at zero when the service starts and count the events since. Two dispatchers count the same events: use `max`, not `sum`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.engines.contract import GPU_POOL
from ironclad.errors import DatabaseUnavailable, ErrorKind
from ironclad.jobs.states import SETTLED, JobState
from ironclad.ops.installation_metrics import DEADLINE_RESULTS, InstallationGauges

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
    "CASE WHEN e.to_state = 'succeeded' THEN j.duration_seconds END AS audio, "
    "CASE WHEN e.to_state = 'succeeded' THEN (SELECT count(*) FROM artifact a WHERE a.job_uuid = e.job_uuid "
    "AND a.attempt = e.attempt AND a.state = 'published' AND a.kind NOT LIKE '%:%') END AS stems, "
    "e.data->'error'->>'kind' AS error_class, j.pool, j.engine_pool, j.engine, j.duration_seconds, "
    "extract(epoch FROM e.at - j.created_at)::float AS age, extract(epoch FROM e.at - j.queued_at)::float AS waited, "
    "s.data->>'engine' AS separator, s.data->>'device' AS device "
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
                    self._metrics.gauge("ironclad_clock_offset_seconds").set(_clock_offset(session))
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


def _clock_offset(session: Session) -> float:
    asked = time.time()
    offset = session.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())::float"))
    return float(offset or asked) - (asked + time.time()) / 2


class QueueReader(EventReader):
    """The dispatcher's metrics.

    Args:
        database: where the events are.
        metrics: of the dispatcher.
        deadline_seconds: `jobs.deadline_seconds`.
        lag_seconds: how old an event must be to be counted.
    """

    events = _EVENTS

    def __init__(
        self, database: Database, metrics: Metrics, *, deadline_seconds: float = 86_400.0,
        lag_seconds: float = _LAG_SECONDS,
    ) -> None:  # fmt: skip
        self._pools: set[str] = set()
        self._installation = InstallationGauges(metrics, deadline_seconds)
        self._deadline = deadline_seconds
        for result in DEADLINE_RESULTS:
            metrics.counter("ironclad_job_deadlines_total").labels(result)
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
        self._installation.count(session)

    def event(self, event: Any) -> None:
        """Claims, ends, errors, stages."""
        self._begun(event)
        self._moved(event)
        if event.to_state in SETTLED:
            self._ended(event)
        if event.code is not None:
            self._metrics.counter("ironclad_errors_total").labels(event.code).inc()
        if event.kind in _STAGE_OUTCOMES and event.seconds is not None:
            self._stage(event)

    def _begun(self, event: Any) -> None:
        metrics = self._metrics
        match event.kind:
            case "received":
                metrics.counter("ironclad_jobs_received_total").inc()
            case "claimed":
                metrics.counter("ironclad_claims_total").inc()
                if event.waited is not None:
                    metrics.histogram("ironclad_queue_wait_seconds").labels(event.pool).observe(max(0.0, event.waited))
            case "step_down":
                metrics.counter("ironclad_engine_step_downs_total").labels(event.engine).inc()

    def _moved(self, event: Any) -> None:
        if event.actor == "reaper" and event.to_state is not None:
            self._metrics.counter("ironclad_jobs_reaped_total").labels(event.to_state).inc()
            if event.from_state == JobState.RUNNING:
                self._metrics.counter("ironclad_leases_lost_total").inc()
        if event.to_state == JobState.WAITING_RETRY:
            self._metrics.counter("ironclad_retries_total").labels(event.error_class or "unknown").inc()

    def _ended(self, event: Any) -> None:
        metrics = self._metrics
        metrics.counter("ironclad_jobs_finished_total").labels(event.to_state).inc()
        metrics.histogram("ironclad_job_duration_seconds").labels(event.to_state).observe(max(0.0, event.age))
        if event.audio is not None:
            metrics.counter("ironclad_audio_input_seconds_total").inc(event.audio)
            metrics.counter("ironclad_audio_output_seconds_total").inc(event.audio * (event.stems or 0))
        # What ends later was counted as missed at its deadline; what somebody cancelled promises nothing.
        if event.age <= self._deadline and event.to_state != JobState.CANCELLED:
            good = event.to_state in {JobState.SUCCEEDED, JobState.SKIPPED} or event.error_class == ErrorKind.INPUT
            metrics.counter("ironclad_job_deadlines_total").labels("met" if good else "missed").inc()

    def _stage(self, event: Any) -> None:
        outcome = _STAGE_OUTCOMES[event.kind]
        self._metrics.histogram("ironclad_stage_duration_seconds").labels(event.stage, outcome).observe(event.seconds)
        if event.kind == "stage_done" and event.separator and event.duration_seconds:
            ratio = self._metrics.histogram("ironclad_separation_realtime_ratio")
            ratio.labels(event.separator, event.device or "cpu").observe(event.seconds / event.duration_seconds)
        if event.kind == "stage_done" and event.separator and event.engine_pool == GPU_POOL and event.device == "cpu":
            self._metrics.counter("ironclad_gpu_fallbacks_total").inc()


_RECEIVED = sa.text(
    "SELECT e.id, extract(epoch FROM j.created_at - o.changed_at)::float AS seconds "
    "FROM job_event e JOIN job j ON j.job_uuid = e.job_uuid "
    "LEFT JOIN observation o ON o.root = j.watch_root AND o.job_uuid = j.job_uuid "
    "WHERE e.id > :last AND e.kind = 'received' AND j.watch_root = ANY(:roots) "
    "AND e.at <= ironclad_now() - make_interval(secs => :lag) ORDER BY e.id LIMIT :batch"
)
_OBSERVATIONS = sa.text(
    "SELECT status, count(*) AS n, extract(epoch FROM ironclad_now() - min(first_seen_at))::float AS age "
    "FROM observation WHERE root = ANY(:roots) GROUP BY status"
)


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
        lag = self._metrics.gauge("ironclad_watch_lag_seconds")
        lag.set(0)
        for row in rows:
            gauge.labels(row.status).set(row.n)
            if row.status == "growing":
                lag.set(max(0.0, row.age))

    def event(self, event: Any) -> None:
        """A file that became a job."""
        self._metrics.counter("ironclad_watch_files_received_total").inc()
        if event.seconds is not None:
            self._metrics.histogram("ironclad_watch_pickup_seconds").observe(max(0.0, event.seconds))
