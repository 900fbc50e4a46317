from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import errors
from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.plan import plan
from ironclad.engines.pool import HostPool, PoolLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.engines.plan import HostPlan

(CENTER,) = ironclad_engines()
ONE = plan(CENTER)
TWO = replace(ONE, engine="two")
THREE = replace(ONE, engine="three")
GB = 10**9
NOBODY = 2**22 + 1
"""No process has this number: such a host holds no memory. What this process holds depends on the tests before."""


class Stand:
    """What the pool sees of a host; the real one is in the integration tests."""

    separations = 0

    def __init__(self, made: HostPlan) -> None:
        self.plan = made
        self.pid = NOBODY
        self.alive = False
        self.closed = threading.Event()
        self.fails = self.silent = False

    def start(self, _check: Callable[[], None] | None = None) -> Stand:
        if self.fails:
            raise errors.ModelBroken("no")
        self.alive = True
        return self

    def ping(self) -> None:
        if self.silent:
            raise errors.EngineStalled("no answer")

    def close(self) -> None:
        self.alive = False
        self.closed.set()


class Factory:
    def __init__(self) -> None:
        self.made: list[Stand] = []
        self.fail_next = False
        self.pid = NOBODY

    def __call__(self, made: HostPlan) -> Any:
        stand = Stand(made)
        stand.fails, self.fail_next = self.fail_next, False
        stand.pid = self.pid
        self.made.append(stand)
        return stand

    @property
    def names(self) -> list[str]:
        return [stand.plan.engine for stand in self.made]


@dataclass
class Memory:
    """A machine with so much memory; hosts of the tests hold nothing that is seen here."""

    free: int

    def total(self) -> int:
        return self.free

    def available(self) -> int:
        return self.free


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture
def pool(factory: Factory) -> Iterator[HostPool]:
    with HostPool(PoolLimits(hosts=2, idle_seconds=60), make=factory) as made:
        yield made


def test_the_second_lease_finds_the_host_warm(pool: HostPool, factory: Factory) -> None:
    with pool.lease(ONE) as first:
        pass
    with pool.lease(plan(CENTER, model="none")) as second:
        assert second is first
    with pool.lease(replace(ONE, device="cuda:0")) as third:
        assert third is not first
    assert len(factory.made) == 2


def test_the_host_idle_longest_makes_room(pool: HostPool, factory: Factory) -> None:
    for spec in (ONE, TWO, ONE, THREE):
        with pool.lease(spec):
            pass
    assert factory.names == ["center", "two", "three"]
    assert [stand.closed.is_set() for stand in factory.made] == [False, True, False]
    assert len(pool) == 2


def test_a_dead_host_is_replaced(pool: HostPool, factory: Factory) -> None:
    with pool.lease(ONE) as host:
        host.close()
    with pool.lease(ONE) as another:
        assert another is not host
    factory.made[-1].alive = False  # dies while nobody uses it
    with pool.lease(ONE):
        pass
    assert len(factory.made) == 3
    assert factory.made[1].closed.is_set()


def test_a_host_that_does_not_start_leaves_its_place(pool: HostPool, factory: Factory) -> None:
    factory.fail_next = True
    with pytest.raises(errors.ModelBroken), pool.lease(ONE):
        pytest.fail("there is no host")
    assert len(pool) == 0
    assert factory.made[0].closed.is_set()
    with pool.lease(ONE):
        pass


def test_an_error_of_the_user_keeps_a_living_host(pool: HostPool, factory: Factory) -> None:
    with pytest.raises(errors.EngineFailed), pool.lease(ONE):
        raise errors.EngineFailed
    with pool.lease(ONE):
        pass
    assert len(factory.made) == 1


def test_two_users_of_one_host_take_turns(pool: HostPool, factory: Factory) -> None:
    inside: list[int] = []
    most: list[int] = []

    def use() -> None:
        for _ in range(20):
            with pool.lease(ONE):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (max(most), len(most), len(factory.made)) == (1, 80, 1)


@pytest.mark.parametrize("wanted", [ONE, THREE])
def test_waiting_for_a_host_or_for_room_can_be_given_up(pool: HostPool, wanted: Any) -> None:
    def check() -> None:
        raise errors.Cancelled

    with pool.lease(ONE), pool.lease(TWO), pytest.raises(errors.Cancelled), pool.lease(wanted, check=check):
        pytest.fail("there is no room")


def test_a_waiter_gets_the_room_that_comes_free(pool: HostPool) -> None:
    got = threading.Event()
    waiting = threading.Event()

    def wait() -> None:
        with pool.lease(THREE, check=waiting.set):
            got.set()

    thread = threading.Thread(target=wait)
    with pool.lease(ONE), pool.lease(TWO):
        thread.start()
        assert waiting.wait(60)
        assert not got.is_set()
    thread.join(60)
    assert got.is_set()


def test_an_idle_host_is_ended_in_time_and_a_busy_one_is_not(factory: Factory) -> None:
    with HostPool(PoolLimits(hosts=2, idle_seconds=0.1), make=factory) as pool:
        with pool.lease(ONE):
            with pool.lease(TWO):
                pass
            assert factory.made[1].closed.wait(60)
            assert not factory.made[0].closed.is_set()
            released = time.monotonic()  # before the pool begins to count
        assert factory.made[0].closed.wait(60)
        assert time.monotonic() - released >= 0.09
        assert len(pool) == 0


def test_closing_ends_every_host_and_refuses_new_leases(factory: Factory) -> None:
    pool = HostPool(PoolLimits(hosts=2), make=factory)
    with pool.lease(ONE):
        pass
    with pool.lease(TWO) as held:
        pool.close()
        assert held.closed.is_set()  # type: ignore[attr-defined]
    assert all(stand.closed.is_set() for stand in factory.made)
    with pytest.raises(RuntimeError, match="closed"), pool.lease(ONE):
        pytest.fail("closed")


def test_a_pool_without_room_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="room"):
        HostPool(PoolLimits(hosts=0))


def test_a_warm_host_that_does_not_answer_is_replaced(pool: HostPool, factory: Factory) -> None:
    with pool.lease(ONE):
        pass
    factory.made[0].silent = True
    with pool.lease(ONE) as another:
        assert another is factory.made[1]
    assert factory.made[0].closed.is_set()


def test_copies_of_a_host_work_side_by_side_and_no_more_than_that(pool: HostPool, factory: Factory) -> None:
    with pool.lease(ONE, copies=2), pool.lease(ONE, copies=2):
        assert len(pool) == 2
    with (
        pool.lease(ONE),
        pool.lease(ONE, copies=2),
        pytest.raises(errors.Cancelled),
        pool.lease(ONE, copies=2, check=cancelled),
    ):
        pytest.fail("there are two")
    assert len(factory.made) == 2


def cancelled() -> None:
    raise errors.Cancelled


def test_a_host_that_keeps_too_much_memory_is_not_used_again(factory: Factory) -> None:
    limits = PoolLimits(hosts=1, recycle_bytes=2 * GB, recycle_device_bytes=GB)
    with HostPool(limits, make=factory) as pool:
        for rss, device in ((2 * GB, GB), (2 * GB + 1, 0), (0, GB + 1), (0, 0)):
            with pool.lease(ONE) as host:
                pool.finished(host, rss=rss, device_bytes=device)
        assert [stand.closed.is_set() for stand in factory.made] == [True, True, False]


def test_what_needs_memory_waits_for_who_has_it(factory: Factory) -> None:
    said: list[str] = []
    got = threading.Event()
    with HostPool(PoolLimits(hosts=4, reserve_bytes=GB), make=factory, memory=Memory(11 * GB)) as pool:

        def wait() -> None:
            with pool.lease(TWO, need=6 * GB, waiting=said.append):
                got.set()

        thread = threading.Thread(target=wait)
        with pool.lease(ONE, need=5 * GB):
            thread.start()
            deadline = time.monotonic() + 60
            while not said:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert not got.is_set()
        thread.join(60)
    assert got.is_set()
    assert said[0].startswith("waiting for memory: 6.00 GB are needed")
    # The idle host was ended for its memory only if it held any that was promised: it was not busy any more.
    assert factory.names == ["center", "two"]


def test_an_idle_host_is_ended_for_the_memory_of_another(factory: Factory) -> None:
    memory = Memory(8 * GB)
    with HostPool(PoolLimits(hosts=4), make=factory, memory=memory) as pool:
        with pool.lease(ONE, need=5 * GB):
            pass
        memory.free = 2 * GB  # what the idle host holds is gone

        def freed(reason: str) -> None:
            assert "idle engine" in reason
            memory.free = 8 * GB

        with pool.lease(TWO, need=6 * GB, waiting=freed):
            assert factory.made[0].closed.is_set()


def test_memory_that_others_hold_is_not_waited_for_without_end(factory: Factory) -> None:
    with (
        HostPool(PoolLimits(hosts=1, wait_seconds=0.05), make=factory, memory=Memory(GB)) as pool,
        pytest.raises(errors.OutOfMemory, match=r"6\.00 GB are needed, 5\.00 GB more than free") as caught,
        pool.lease(ONE, need=6 * GB),
    ):
        pytest.fail("there is no memory")
    assert caught.value.context["waited"]
    assert not factory.made


def test_what_is_warm_can_be_seen(pool: HostPool, factory: Factory) -> None:
    factory.pid = os.getpid()
    with pool.lease(ONE, need=5):
        (busy,) = pool.stats()["hosts"]
    (idle,) = pool.stats()["hosts"]
    assert (busy["engine"], busy["busy"], busy["need"], busy["pid"]) == ("center", True, 5, os.getpid())
    assert (idle["busy"], pool.stats()["starts"], pool.stats()["limit"]) == (False, 1, 2)
    assert idle["rss"] > 0
