"""The inline runner: `ironclad process` runs the pipeline's own stages in this process, without any service.

Jobs go into a pool of their own (`inline:…`), which no dispatcher looks at. The pool's advisory lock lives as long as
the process does, so a later run finds out what a killed one left behind and cancels it.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import sqlalchemy as sa

from ironclad import log
from ironclad.cli import results
from ironclad.cli.queueing import queue
from ironclad.config import PoolSettings
from ironclad.db import wire
from ironclad.engines.admission import own_hosts
from ironclad.errors import DatabaseUnavailable, DiskFull, IllegalTransition, IroncladError, Paused, SourceMissing
from ironclad.jobs import control, lease, query, reap
from ironclad.jobs.feed import PROGRESS, Feed
from ironclad.jobs.states import SETTLED, JobState
from ironclad.ops.disk import space
from ironclad.stages.runner import run_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    import psycopg

    from ironclad.cli.queueing import Found, Wishes
    from ironclad.cli.results import Result
    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.engines.hosts import LocalHosts
    from ironclad.stages.runner import StageOutcome

PREFIX: Final = "inline:"
_WAIT_SECONDS: Final = 0.3
_DATABASE_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 20.0
_CANCEL_SECONDS: Final = 5.0
_LOCKED_STATES: Final = tuple(state.value for state in JobState if state not in SETTLED)


class Display(Protocol):
    """What is told of the progress; called from several threads."""

    def stage(self, job_uuid: str, title: str, stage: str) -> None:
        """A job begins a stage."""
        ...

    def progress(self, job_uuid: str, fraction: float) -> None:
        """How far the stage is, 0 to 1."""
        ...

    def finished(self, result: Result) -> None:
        """A file is done with."""
        ...


@dataclass(slots=True)
class _Shared:
    """What the threads share; `lock` guards all of it."""

    files: list[Found]
    lock: threading.Lock = field(default_factory=threading.Lock)
    jobs: dict[UUID, Found] = field(default_factory=dict)
    results: dict[UUID | str, Result] = field(default_factory=dict)
    claiming: int = 0
    failure: BaseException | None = None


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Stop as cleanly for `kill` and service managers as for Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Worker(threading.Thread):
    """A thread that can be waited for by somebody who is interrupted meanwhile.

    A `join` that Ctrl-C breaks off takes the thread for ended, and so does every later one (CPython before 3.13).
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._ended = threading.Event()

    def run(self) -> None:
        """Work."""
        try:
            self._work()
        finally:
            self._ended.set()

    def ended(self, seconds: float) -> bool:
        """Whether it has ended, or never begun, at most so many seconds from now."""
        return self.ident is None or self._ended.wait(max(0.0, seconds))


class InlineRunner:
    """Processes files with `slots` threads.

    Args:
        database: the queue.
        settings: the installation.
        wishes: what is asked for; its pool is set here.
        slots: files at a time.
        display: told of the progress.
    """

    def __init__(
        self, database: Database, settings: Settings, wishes: Callable[[str], Wishes], slots: int, display: Display
    ) -> None:
        self.pool = f"{PREFIX}{secrets.token_hex(6)}"
        pools = {**settings.pools, self.pool: PoolSettings(slots=slots)}
        self._settings = settings.model_copy(update={"pools": pools})
        self._database = database
        self._wishes = wishes(self.pool)
        self._slots = slots
        self._display = display
        self._stopping = threading.Event()
        self._worker = f"inline/{self.pool.removeprefix(PREFIX)}"

    def run(self, files: Sequence[Found]) -> list[Result]:
        """Process all files; the results in their order.

        Raises `Paused` or `DiskFull` before anything is done, `DatabaseUnavailable`, and KeyboardInterrupt after Ctrl-C
        when everything has been cancelled.
        """
        shared = _Shared(list(files))
        connected = wire.connect(self._database.dsn, autocommit=True, connect_timeout=10)
        with _sigterm_as_interrupt(), connected as guard, own_hosts(self._settings, self._slots) as hosts:
            guard.execute("SELECT pg_advisory_lock(hashtextextended(%s, 2))", (self.pool,))
            self._cancel_left_behind(guard)
            self._require_open()
            listener = threading.Thread(target=self._listen, name="inline-feed", daemon=True)
            listener.start()
            threads = [_Worker(lambda: self._work(shared, hosts), f"inline-{number}") for number in range(self._slots)]
            try:
                for thread in threads:
                    thread.start()
                self._await(threads)
            except KeyboardInterrupt:
                self._cancel(shared, threads)
                raise
            finally:
                self._stopping.set()
                listener.join(timeout=5)
        if shared.failure is not None:
            raise shared.failure
        return [shared.results[key] for key in self._order(shared, files)]

    # --- before and after -----------------------------------------------------------------------------------------

    def _cancel_left_behind(self, guard: psycopg.Connection[Any]) -> None:
        """Jobs of inline runs whose process is gone: nobody will ever run them."""
        with self._database.session() as session:
            rows = session.execute(
                sa.text("SELECT job_uuid, pool FROM job WHERE pool LIKE 'inline:%' AND state = ANY(:states)"),
                {"states": list(_LOCKED_STATES)},
            ).all()
        for pool in {row.pool for row in rows} - {self.pool}:
            taken = guard.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 2))", (pool,)).fetchone()
            if taken is not None and taken[0]:
                for row in rows:
                    if row.pool == pool:
                        self._cancel_one(row.job_uuid)
                guard.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 2))", (pool,))
        with self._database.session() as session:
            reap.expired(session, self._settings.jobs, reap.Reaped())
            reap.vanished(session, self._settings.jobs, reap.Reaped())

    def _require_open(self) -> None:
        """Nothing may start while the pipeline is paused or the disk is full; say so instead of waiting for ever."""
        found = space(self._settings.layout, self._settings.disk.min_free_bytes)
        if found.low():
            raise DiskFull(f"{found.path} has {found.free_bytes} bytes free; {found.floor_bytes} must stay free.")
        with self._database.session() as session:
            if control.switch(session, control.DISK).get("low"):
                control.set_switch(session, control.DISK, {"low": False})  # left by services that run no more
            reason = control.pause_reason(session, self.pool)
        if reason is not None:
            raise Paused(f"{reason[0].upper()}{reason[1:]}.")

    def _await(self, threads: Sequence[_Worker]) -> None:
        for thread in threads:
            while not thread.ended(_WAIT_SECONDS):
                pass

    def _cancel(self, shared: _Shared, threads: Sequence[_Worker]) -> None:
        """Ctrl-C: cancel what was queued, ask what runs to end, and wait for it (a second Ctrl-C does not)."""
        self._stopping.set()
        with shared.lock:
            shared.files.clear()
            jobs = [job for job in shared.jobs if job not in shared.results]
        for job_uuid in jobs:
            self._cancel_one(job_uuid)
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in threads:
            thread.ended(deadline - time.monotonic())
        if shared.failure is not None:  # whoever pressed Ctrl-C may have done so because of it
            log.get().error("inline_run_failed", error=repr(shared.failure))

    def _cancel_one(self, job_uuid: UUID) -> None:
        def cancel() -> None:
            with self._database.session() as session:
                control.cancel(session, job_uuid, actor="cli:process")

        with contextlib.suppress(IllegalTransition, DatabaseUnavailable):
            self._database.patiently(cancel, seconds=_CANCEL_SECONDS)

    def _order(self, shared: _Shared, files: Sequence[Found]) -> list[UUID | str]:
        by_path = {found.path: job for job, found in shared.jobs.items()}
        return [by_path.get(found.path, str(found.path)) for found in files]

    # --- the threads ----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for notice in Feed(self._database.dsn, (PROGRESS,)).listen(self._stopping, tick_seconds=0.5):
            if notice is not None and notice.channel == PROGRESS:
                self._display.progress(notice.data["job"], float(notice.data["progress"]))

    def _work(self, shared: _Shared, hosts: LocalHosts) -> None:
        try:
            while not self._stopping.is_set():
                if not self._database.patiently(lambda: self._step(shared, hosts), seconds=_DATABASE_SECONDS):
                    return
        except BaseException as exc:  # noqa: BLE001 - raised again by the thread that waits
            shared.failure = exc
            self._stopping.set()

    def _step(self, shared: _Shared, hosts: LocalHosts) -> bool:
        """Run a queued job, else queue a file, else wait for the others; False when everything is settled."""
        with self._database.session() as session:
            claimed = lease.claim_next(
                session, self.pool, worker=self._worker, lease_seconds=self._settings.jobs.lease_seconds
            )
        if claimed is not None:
            self._run(shared, claimed, hosts)
            return True
        with shared.lock:
            found = shared.files.pop(0) if shared.files else None
            shared.claiming += found is not None
        if found is not None:
            try:
                self._queue(shared, found)
            finally:
                shared.claiming -= 1
            return True
        return self._wait(shared)

    def _run(self, shared: _Shared, claimed: lease.Claim, hosts: LocalHosts) -> None:
        job = claimed.job

        def around(stage: str, call: Callable[[], StageOutcome]) -> StageOutcome:
            self._display.stage(str(job.job_uuid), results.name_of(job), stage)
            return call()

        run_claim(self._database, self._settings, claimed, worker=self._worker, around=around, hosts=hosts)
        self._settle(shared, job.job_uuid)

    def _queue(self, shared: _Shared, found: Found) -> None:
        try:
            outcome = queue(self._database, self._settings, self._wishes, found)
        except DatabaseUnavailable:
            with shared.lock:
                shared.files.insert(0, found)
            raise
        except IroncladError as exc:
            self._keep(shared, str(found.path), results.refused(found.path, exc))
            return
        except OSError as exc:  # it went away since it was listed
            self._keep(shared, str(found.path), results.refused(found.path, SourceMissing(f"{exc.strerror}")))
            return
        with shared.lock:
            shared.jobs[outcome.job_uuid] = found
        self._settle(shared, outcome.job_uuid)

    def _settle(self, shared: _Shared, job_uuid: UUID) -> None:
        """If the job is settled, keep its result."""
        with self._database.session() as session:
            result = results.of(session, job_uuid)
        if result.settled:
            self._keep(shared, job_uuid, result)

    def _keep(self, shared: _Shared, key: UUID | str, result: Result) -> None:
        with shared.lock:
            new = key not in shared.results
            shared.results[key] = result
        if new:
            self._display.finished(result)

    def _wait(self, shared: _Shared) -> bool:
        with shared.lock:
            left = [job for job in shared.jobs if job not in shared.results]
            busy = bool(shared.claiming or shared.files)
        if not left and not busy:
            return False
        with self._database.session() as session:
            reap.due(session, reap.Reaped())
            settled = [] if query.unsettled(session, left) == len(left) else left
        for job_uuid in settled:
            self._settle(shared, job_uuid)
        self._stopping.wait(_WAIT_SECONDS)
        return True
