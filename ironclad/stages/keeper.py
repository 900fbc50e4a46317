"""Keeps an attempt's lease alive, and tells the attempt when it must end."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import TYPE_CHECKING, Self

from ironclad import log
from ironclad.errors import Cancelled, DatabaseUnavailable, EngineStalled, IroncladError, LeaseLost
from ironclad.jobs import lease
from ironclad.jobs.feed import CONNECTED, EVENT, Feed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ironclad.db.session import Database


class LeaseKeeper:
    """A thread that renews the lease every third of its length and listens for a wish to cancel.

    `check()` raises in the attempt's own thread once the lease is lost, could not be renewed for two thirds of its
    length (the attempt stops itself before anybody else may take over), or a cancel was asked for.

    It is a watchdog, too: an attempt that calls neither `check()` nor `report()` for `stall_seconds` hangs, whatever
    its lease says. `stalled` is called then, once and from the keeper's thread.
    """

    def __init__(
        self, database: Database, fence: lease.Fence, lease_seconds: float, *, stall_seconds: float = math.inf,
        stalled: Callable[[IroncladError], None] = lambda _error: None,
    ) -> None:  # fmt: skip
        self._database = database
        self._fence = fence
        self._lease_seconds = lease_seconds
        self._stopping = threading.Event()
        self._reason: IroncladError | None = None
        self._renewed = lease.clock()
        self._progress: float | None = None
        self._stall_seconds = stall_seconds
        self._stalled = stalled
        self._sign_of_life = time.monotonic()
        self._beat = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._ear = threading.Thread(target=self._hear, name="lease-feed", daemon=True)

    def __enter__(self) -> Self:
        self._beat.start()
        self._ear.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._beat.join(timeout=self._lease_seconds)
        self._ear.join(timeout=5)

    def report(self, fraction: float) -> None:
        """The job's progress, written with the next heartbeat."""
        self._progress = fraction
        self._sign_of_life = time.monotonic()

    def check(self) -> None:
        """Raise if the attempt must end."""
        self._sign_of_life = time.monotonic()
        self._check_lease()

    def lost(self, reason: LeaseLost) -> None:
        """Somebody else was told that the lease is gone; the next `check()` says so."""
        self._reason = reason

    def _check_lease(self) -> None:
        if self._reason is not None:
            raise self._reason
        silent = lease.clock() - self._renewed
        if silent > self._lease_seconds * 2 / 3:
            self._reason = LeaseLost(f"The lease of attempt {self._fence.attempt} was not renewed for {silent:.0f} s.")
            raise self._reason

    def _keep(self) -> None:
        while not self._stopping.wait(min(self._lease_seconds, self._stall_seconds) / 3):
            silent = time.monotonic() - self._sign_of_life
            if silent > self._stall_seconds:
                self._reason = EngineStalled(f"no sign of life for {silent:.0f} s")
                self._stalled(self._reason)
                return
            self._renew()
            if self._reason is not None:
                return

    def _renew(self) -> None:
        begun = lease.clock()
        try:
            with self._database.session() as session:
                cancelled = lease.heartbeat(
                    session, self._fence, lease_seconds=self._lease_seconds, progress=self._progress
                )
        except LeaseLost as exc:
            self._reason = exc
        except DatabaseUnavailable as exc:
            log.get().warning("heartbeat_failed", job_uuid=str(self._fence.job_uuid), error=str(exc))
            self._stopping.wait(min(1.0, self._lease_seconds / 10))
            with contextlib.suppress(IroncladError):
                self._check_lease()
            if self._reason is None and not self._stopping.is_set():
                self._renew()
        else:
            self._renewed = begun
            if cancelled:
                self._reason = Cancelled()

    def _hear(self) -> None:
        feed = Feed(self._database.dsn, (EVENT,))
        mine = str(self._fence.job_uuid)
        for notice in feed.listen(self._stopping, tick_seconds=0.5):
            if notice is None:
                continue
            if notice.channel == CONNECTED:
                self._renew()  # what was asked before anybody listened is not told again
                continue
            asked = notice.data.get("job") == mine and notice.data.get("kind") == "cancel_requested"
            if asked and not self._stopping.is_set():
                self._reason = Cancelled()
                return
