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
    """Seconds until `check` raises `kind`; fails if it does not in time."""
    begun = time.monotonic()
    waiter = threading.Event()
    while time.monotonic() - begun < seconds:
        try:
            check()
        except kind:
            return time.monotonic() - begun
        waiter.wait(0.02)
    pytest.fail(f"no {kind.__name__} within {seconds} s")


def test_the_lease_is_renewed_and_progress_written(database: Database, claims: Callable[..., lease.Claim]) -> None:
    claim = claims()
    with LeaseKeeper(database, claim.fence, 3.0) as keeper:
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
    with LeaseKeeper(database, claims().fence, 600.0) as keeper:
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


def test_checks_are_signs_of_life(database: Database, claims: Callable[..., lease.Claim]) -> None:
    told: list[IroncladError] = []
    with LeaseKeeper(database, claims().fence, 30.0, stall_seconds=2.0, stalled=told.append) as keeper:
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            keeper.check()
            time.sleep(0.05)
    assert not told
