from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from ironclad.db.session import Database
from ironclad.errors import Cancelled, EngineStalled, IroncladError, LeaseLost
from ironclad.jobs import control
from ironclad.stages.keeper import LeaseKeeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.jobs import lease


def raised(check: Callable[[], None], kind: type[Exception], seconds: float = 60.0) -> float:
    """Wait until `check` raises `kind`; fails if it does not in time. Returns for how many seconds it did not."""
    begun = time.monotonic()
    waiter = threading.Event()
    passed = 0.0
    while (asked := time.monotonic() - begun) < seconds:
        try:
            check()
        except kind:
            return passed
        passed = asked
        waiter.wait(0.02)
    pytest.fail(f"no {kind.__name__} within {seconds} s")


class Clock:
    """Stands in for the module `time` where the keeper looks for signs of life."""

    def __init__(self) -> None:
        self.now = 0.0
        self._looked = threading.Event()

    def monotonic(self) -> float:
        if threading.current_thread().name == "lease":
            self._looked.set()
        return self.now

    def until_looked(self) -> None:
        """Wait until the keeper has looked once more."""
        self._looked.clear()
        assert self._looked.wait(60)


def test_the_lease_is_renewed_and_progress_written(database: Database, claims: Callable[..., lease.Claim]) -> None:
    claim = claims()
    with LeaseKeeper(database, claim.fence, 15.0) as keeper:
        keeper.report(0.25)
        with database.session() as session:
            first = session.scalar(sa.text("SELECT lease_expires_at FROM job"))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with database.session() as session:
                row = session.execute(sa.text("SELECT lease_expires_at, progress FROM job")).one()
            if row.progress == pytest.approx(0.25) and row.lease_expires_at != first:
                break
            threading.Event().wait(0.05)
        else:
            pytest.fail("no heartbeat came")
        keeper.check()


def test_a_cancel_reaches_the_attempt_at_once(database: Database, claims: Callable[..., lease.Claim]) -> None:
    claim = claims()
    with LeaseKeeper(database, claim.fence, 600.0) as keeper:  # a heartbeat, which would tell it, too, is far off
        deadline = time.monotonic() + 60
        listening = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        heard = 0
        while not heard and time.monotonic() < deadline:
            with database.session() as session:
                heard = session.scalar(listening) or 0
        assert heard
        with database.session() as session:
            control.cancel(session, claim.fence.job_uuid, actor="user:ana")
        raised(keeper.check, Cancelled)


def test_a_cancel_from_before_it_listened_reaches_the_attempt(
    database: Database, claims: Callable[..., lease.Claim]
) -> None:
    claim = claims()
    with database.session() as session:
        control.cancel(session, claim.fence.job_uuid, actor="user:ana")
    with LeaseKeeper(database, claim.fence, 600.0) as keeper:  # a heartbeat, which would tell it, too, is far off
        raised(keeper.check, Cancelled)


def test_a_lost_lease_ends_the_attempt(database: Database, claims: Callable[..., lease.Claim]) -> None:
    claim = claims()
    with database.session() as session:
        session.execute(sa.text("UPDATE job SET lease_token = gen_random_uuid()"))
    with LeaseKeeper(database, claim.fence, 0.6) as keeper:
        raised(keeper.check, LeaseLost)


def test_an_attempt_that_cannot_renew_stops_itself_before_anybody_may_take_over(
    claims: Callable[..., lease.Claim],
) -> None:
    claim = claims()
    nowhere = Database("postgresql://ironclad@/none?host=/nonexistent")
    with LeaseKeeper(nowhere, claim.fence, 3.0) as keeper:
        assert raised(keeper.check, LeaseLost) < 3.0
    nowhere.close()


def test_an_attempt_whose_machine_slept_stops_itself(
    database: Database, claims: Callable[..., lease.Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    gettime = time.clock_gettime
    longer = sa.text("SELECT lease_expires_at > ironclad_now() + interval '300 seconds' FROM job")
    with LeaseKeeper(database, claims().fence, 600.0) as keeper:
        deadline = time.monotonic() + 60
        renewed = False
        while not renewed and time.monotonic() < deadline:  # as it listens; the next time is far off
            with database.session() as session:
                renewed = bool(session.scalar(longer))
        assert renewed
        keeper.check()
        # A suspended machine's monotonic clock stands still; this one goes on.
        monkeypatch.setattr(time, "clock_gettime", lambda clock: gettime(clock) + 3600)
        with pytest.raises(LeaseLost, match="not renewed"):
            keeper.check()


def test_an_attempt_without_a_sign_of_life_is_ended(database: Database, claims: Callable[..., lease.Claim]) -> None:
    claim = claims()
    told: queue.SimpleQueue[IroncladError] = queue.SimpleQueue()
    with LeaseKeeper(database, claim.fence, 30.0, stall_seconds=0.3, stalled=told.put) as keeper:
        assert told.get(timeout=60).code == "E_STALLED"
        with pytest.raises(EngineStalled):
            keeper.check()


def test_checks_are_signs_of_life(
    database: Database, claims: Callable[..., lease.Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("ironclad.stages.keeper.time", clock)
    told: queue.SimpleQueue[IroncladError] = queue.SimpleQueue()
    with LeaseKeeper(database, claims().fence, 30.0, stall_seconds=0.3, stalled=told.put) as keeper:
        for _ in range(5):
            clock.now += 0.2
            keeper.check()
            clock.until_looked()
        assert told.empty()
        clock.now += 0.4
        assert told.get(timeout=60).code == "E_STALLED"
