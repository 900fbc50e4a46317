"""The dispatcher: hands queued jobs to the executor just in time, and reaps. One leader by advisory lock."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa

from ironclad import log
from ironclad.db import wire
from ironclad.errors import DatabaseUnavailable, IroncladError, PrefectRefused, PrefectUnavailable
from ironclad.jobs import control, lease, pipeline, pools, reap, slots
from ironclad.jobs.executor import FlowRequest, RunState
from ironclad.jobs.feed import EVENT, Feed
from ironclad.jobs.refusals import Refusals, refused
from ironclad.jobs.transition import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.jobs.executor import Executor

_LEADER = 0x1C0_0002
_MIN_TICK = 0.05
_EXECUTOR_PAUSE = 2.0
_RETIRE_SECONDS = 30.0
_LIVENESS_SECONDS = 2.0  # while something runs: how soon a process that died without a word is noticed
_BATCH = 50
_LOST_RUNS_SECONDS = 86_400.0
# Events after which there may be something to dispatch; everything else only waits for the next look.
_WAKES = frozenset({
    "queued", "released", "retried", "replayed", "control", "undispatched", "succeeded", "failed", "cancelled",
    "skipped", "quarantined", "waiting_retry",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picked:
    """A job marked as dispatched."""

    job_uuid: UUID
    request: FlowRequest
    seq: int
    """Which dispatch of the job this is."""


def pick(session: Session, pool: str, limit: int) -> list[Picked]:
    """Mark the first `limit` jobs of a pool's queue as dispatched: by priority, then fair among users."""
    rows = session.execute(
        sa.text(
            # MATERIALIZED: as a plain subquery the planner may run it once for each row of a nested loop, and every
            # run skips what the one before has locked, so that more than `limit` jobs are taken.
            "WITH head AS MATERIALIZED (SELECT job_uuid FROM job WHERE state = 'queued' AND NOT held "
            "AND dispatched_at IS NULL AND pool = :pool ORDER BY priority DESC, fair_key, job_uuid "
            "LIMIT :limit FOR UPDATE SKIP LOCKED) "
            "UPDATE job SET dispatched_at = ironclad_now(), dispatch_seq = dispatch_seq + 1, run_id = NULL "
            "FROM head WHERE job.job_uuid = head.job_uuid "
            "RETURNING job.job_uuid, attempt, stage, pool, dispatch_seq, title, artist, user_id, trace_id, "
            "priority, fair_key"
        ),
        {"pool": pool, "limit": limit},
    ).all()
    picked = []
    for row in sorted(rows, key=lambda row: (-row.priority, row.fair_key, row.job_uuid)):
        name = " - ".join(part for part in (row.artist, row.title) if part) or str(row.job_uuid)
        request = FlowRequest(
            job_uuid=row.job_uuid, attempt=row.attempt + 1, stage=row.stage, pool=row.pool, name=name[:200],
            key=f"{row.job_uuid}:{row.attempt + 1}:{row.stage}:{row.dispatch_seq}",
            tags=(f"job:{row.job_uuid}", f"user:{row.user_id}", f"trace:{row.trace_id}"),
        )  # fmt: skip
        picked.append(Picked(row.job_uuid, request, row.dispatch_seq))
        record(
            session, row.job_uuid, "dispatched", actor="dispatch", attempt=row.attempt, stage=row.stage, pool=row.pool
        )
    return picked


def in_flight(session: Session, pool: str) -> int:
    """Jobs of a pool that the executor has: dispatched or running."""
    return int(
        session.scalar(
            sa.text(
                "SELECT (SELECT count(*) FROM job "
                "        WHERE state = 'queued' AND dispatched_at IS NOT NULL AND pool = :pool)"
                " + (SELECT count(*) FROM job WHERE state = 'running' AND pool = :pool)"
            ),
            {"pool": pool},
        )
        or 0
    )


class Dispatcher:
    """The loop. Several may run; one at a time leads.

    Args:
        database: the queue.
        settings: pools, factors, leases.
        executor: what runs flows.
        housekeeping: called once a tick by the leader (disk floor, filing of failed jobs …).
    """

    def __init__(
        self, database: Database, settings: Settings, executor: Executor,
        housekeeping: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._database = database
        self._settings = settings
        self._executor = executor
        self._housekeeping = housekeeping
        self._log = log.get(component="dispatch")
        self._prepared = False
        self._paused: dict[str, bool] = {}
        self._executor_back_at = 0.0
        self._orphans: list[str] = []
        self._running_since: dict[str, float] = {}
        self._look_at = 0.0
        self._more = False
        self._reroute_at = 0.0
        self._refusals = Refusals()
        self._retire_at = time.monotonic() + _RETIRE_SECONDS

    def run(self, stopping: threading.Event, ready: Callable[[], None]) -> None:
        """Lead when nobody else does, until `stopping` is set. `ready` is called when it leads or stands by."""
        while not stopping.is_set():
            try:
                with self._leadership(stopping, ready) as guard:
                    if guard is not None:
                        self._log.info("leading")
                        self._lead(stopping, ready, guard)
            except (DatabaseUnavailable, psycopg.OperationalError) as exc:
                self._log.warning("database_unavailable", error=str(exc))
                stopping.wait(1.0)

    @contextlib.contextmanager
    def _leadership(
        self, stopping: threading.Event, ready: Callable[[], None]
    ) -> Iterator[psycopg.Connection[Any] | None]:
        """Wait for the leader's lock; yields the connection that holds it, or None when `stopping` came first."""
        with wire.connect(
            self._database.dsn, autocommit=True, connect_timeout=10, application_name="ironclad-dispatch"
        ) as connection:
            while not stopping.is_set():
                row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LEADER,)).fetchone()
                if row is not None and row[0]:
                    yield connection
                    return
                ready()
                stopping.wait(self._settings.dispatch.tick_seconds / 2)
        yield None

    def _lead(self, stopping: threading.Event, ready: Callable[[], None], guard: psycopg.Connection[Any]) -> None:
        with self._database.session() as session:
            self._orphans = list(dict.fromkeys([*self._orphans, *reap.lost_runs(session, _LOST_RUNS_SECONDS)]))
            pools.declare(session, {name: pool.slots for name, pool in self._settings.pools.items()})
            for job_uuid in reap.unrecorded(session):
                lease.undispatch(session, job_uuid, reason="the dispatcher stopped before the flow run was made")
        feed = Feed(self._database.dsn, (EVENT,))
        wake, done = threading.Event(), threading.Event()

        def listen() -> None:
            for notice in feed.listen(done, tick_seconds=1.0):
                woken = notice is not None and (notice.channel != EVENT or notice.data.get("kind") in _WAKES)
                if woken or stopping.is_set():
                    wake.set()

        listener = threading.Thread(target=listen, name="dispatch-feed", daemon=True)
        listener.start()
        try:
            while not stopping.is_set():
                wake.clear()
                guard.execute("SELECT 1")  # the leader's lock lives as long as this connection
                pause = self.tick()
                ready()
                wake.wait(pause)
        finally:
            done.set()
            listener.join(timeout=5)

    def tick(self) -> float:
        """Reap, look after what is in flight, dispatch. Returns the seconds until the next look."""
        try:
            self._housekeeping()
        except DatabaseUnavailable:
            raise
        except (IroncladError, OSError) as exc:  # a full or failing disk must not keep leases from being reaped
            self._log.warning("housekeeping_failed", error=str(exc))
        result = reap.Reaped()
        with self._database.session() as session:
            reap.expired(session, self._settings.jobs, result)
            reap.vanished(session, self._settings.jobs, result)
            reap.due(session, result)
        for job_uuid in result.lost:
            self._log.warning("lease_expired", job_uuid=str(job_uuid))
        self._orphans += result.runs
        self._reroute()
        try:
            if time.monotonic() >= self._executor_back_at:
                self._prepare()
                self._bury()
                self._withdraw()
                self._dispatch()
                self._look_after()
                self._retire()
        except PrefectUnavailable as exc:
            self._log.warning("executor_unavailable", error=str(exc))
            self._executor_back_at = time.monotonic() + _EXECUTOR_PAUSE
            self._prepared = False
        return self._pause()

    def _pause(self) -> float:
        if self._more and time.monotonic() >= self._executor_back_at:
            return _MIN_TICK
        with self._database.session() as session:
            coming = reap.seconds_to_next(session)
        pause = self._settings.dispatch.tick_seconds if coming is None else min(coming, _LIVENESS_SECONDS)
        if time.monotonic() < self._executor_back_at:
            pause = min(pause, self._executor_back_at - time.monotonic())
        return min(max(pause, _MIN_TICK), self._settings.dispatch.tick_seconds)

    def _prepare(self) -> None:
        if not self._prepared:
            self._executor.prepare({name: pool.slots for name, pool in self._settings.pools.items()})
            self._paused.clear()
            self._prepared = True

    def _bury(self) -> None:
        """End the flow runs of lost attempts: they hold slots of the executor. Only what was told is forgotten.

        A run that the executor refuses to end goes to the back; it must not keep jobs from being dispatched.
        """
        while self._orphans:
            run_id = self._orphans.pop(0)
            try:
                self._executor.abandon(run_id, "its lease ran out")
            except PrefectUnavailable as exc:
                self._orphans.append(run_id)
                self._log.warning("run_not_abandoned", run_id=run_id, error=str(exc))
                return

    def _withdraw(self) -> None:
        """End the flow runs that wait for jobs that were cancelled."""
        with self._database.session() as session:
            dispatches = reap.withdrawn(session)
        for dispatched in dispatches:
            try:
                if dispatched.run_id is not None:
                    self._executor.cancel(dispatched.run_id)
            except PrefectUnavailable as exc:  # likewise
                self._log.warning("run_not_cancelled", run_id=dispatched.run_id, error=str(exc))
                continue
            with self._database.session() as session:
                reap.forget(session, dispatched)

    def _look_after(self) -> None:
        """Flow runs that ended or vanished before a worker claimed their job are made anew.

        Not at every wake-up: each waiting run costs a call to the executor.
        """
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + self._settings.dispatch.tick_seconds
        with self._database.session() as session:
            waiting = reap.unstarted(session, self._settings.dispatch.unclaimed_seconds)
        seen, self._running_since = self._running_since, {}
        for dispatched in waiting:
            run_id = dispatched.run_id
            state = RunState.UNKNOWN if run_id is None else self._executor.state(run_id)
            if state is RunState.WAITING or (run_id and state is RunState.RUNNING and not self._late(run_id, seen)):
                continue
            if run_id is not None and state is RunState.RUNNING:
                self._executor.abandon(run_id, "it runs without having claimed its job")
            with self._database.session() as session:
                lease.undispatch(
                    session, dispatched.job_uuid, dispatch_seq=dispatched.seq,
                    reason=f"its flow run was {state} and had not claimed it",
                )  # fmt: skip

    def _retire(self) -> None:
        """Runs that have no job any more, but never told Prefect that they ended."""
        if time.monotonic() < self._retire_at:
            return
        self._retire_at = time.monotonic() + _RETIRE_SECONDS
        with self._database.session() as session:
            active = session.scalars(
                sa.text(
                    "SELECT run_id FROM job WHERE run_id IS NOT NULL "
                    "AND (state = 'running' OR (state = 'queued' AND dispatched_at IS NOT NULL))"
                )
            ).all()
        ended = self._executor.retire(frozenset(active))
        if ended:
            self._log.warning("runs_retired", runs=ended)

    def _reroute(self) -> None:
        """Jobs of pools that were taken out of the settings would wait for ever."""
        if time.monotonic() < self._reroute_at:
            return
        self._reroute_at = time.monotonic() + self._settings.dispatch.tick_seconds
        with self._database.session() as session:
            result = pools.reroute(session, self._settings.pools)
        self._orphans += result.runs
        if result.moved:
            self._reroute_at = 0.0  # there may be more
            self._log.warning("jobs_rerouted", **result.moved)
        if result.left:
            self._log.info("pools_left_to_their_workers", pools=result.left)

    def _late(self, run_id: str, seen: dict[str, float]) -> bool:
        """Whether a run that has not claimed its job has been running for too long.

        A run may wait for hours until a slot is free, so it counts from when it was first seen running: it may be
        starting just now, or waiting for the database.
        """
        now = time.monotonic()
        since = self._running_since[run_id] = seen.get(run_id, now)
        return now - since >= self._settings.dispatch.unclaimed_seconds

    def _dispatch(self) -> None:
        self._more = False
        for pool, declared in self._settings.pools.items():
            with self._database.session() as session:
                paused = control.pause_reason(session, pool)
                bound = slots.now(session, pool, declared.slots)
                # A number that an operator set is exact, whatever the workers' own numbers are.
                factor = 1.0 if bound.changed else self._settings.dispatch.in_flight_factor
                room = math.ceil(bound.number * factor) - in_flight(session, pool)
            if self._paused.get(pool) != (paused is not None):
                self._executor.set_paused(pool, paused=paused is not None)
                self._paused[pool] = paused is not None
            if paused is None and room > 0:
                # A full batch: there may be more, so that the next look is at once, after reaping and all else.
                self._more |= self._submit(pool, min(room, _BATCH)) == _BATCH

    def _submit(self, pool: str, limit: int) -> int:
        with self._database.session() as session:
            picked = pick(session, pool, limit)
        for index, job in enumerate(picked):
            try:
                run_id = self._executor.submit(job.request)
            except PrefectUnavailable as exc:
                if isinstance(exc, PrefectRefused) and self._refusals.is_the_jobs_own(time.monotonic()):
                    with self._database.session() as session:
                        refused(session, job.job_uuid, job.seq, exc)
                    continue
                with self._database.session() as session:
                    for left in picked[index:]:
                        lease.undispatch(session, left.job_uuid, dispatch_seq=left.seq, reason=exc.what().rstrip("."))
                raise
            self._refusals.forget()
            with self._database.session() as session:
                session.execute(
                    sa.text(
                        "UPDATE job SET run_id = :run "
                        "WHERE job_uuid = :job AND dispatch_seq = :seq AND dispatched_at IS NOT NULL"
                    ),
                    {"run": run_id, "job": job.job_uuid, "seq": job.seq},
                )
        return len(picked)

    @property
    def pools(self) -> frozenset[str]:
        """The pools this dispatcher feeds."""
        return frozenset(self._settings.pools)


def default_pool(settings: Settings, engine_pool: str) -> str:
    """The pool of a new job's first stage."""
    return pipeline.pool_of(pipeline.FIRST, engine_pool, frozenset(settings.pools))
