from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import errors
from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.pool import HostPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

(ONE,) = ironclad_engines()
TWO = replace(ONE, name="two")
THREE = replace(ONE, name="three")


class Stand:
    """What the pool sees of a host; the real one is in the integration tests."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device
        self.alive = False
        self.closed = threading.Event()
        self.fails = False

    def start(self, check: Callable[[], None] | None = None) -> Stand:
        self.check = check
        if self.fails:
            raise errors.ModelBroken("no")
        self.alive = True
        return self

    def close(self) -> None:
        self.alive = False
        self.closed.set()


class Factory:
    def __init__(self) -> None:
        self.made: list[Stand] = []
        self.fail_next = False

    def __call__(self, spec: Any, model: str, device: str) -> Any:
        assert model == "none"
        stand = Stand(spec.name, device)
        stand.fails, self.fail_next = self.fail_next, False
        self.made.append(stand)
        return stand


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture
def pool(factory: Factory) -> Iterator[HostPool]:
    with HostPool(factory, limit=2, idle_seconds=60) as made:
        yield made


def test_the_second_lease_finds_the_host_warm(pool: HostPool, factory: Factory) -> None:
    with pool.lease(ONE) as first:
        pass
    with pool.lease(ONE, model="none") as second:
        assert second is first
    with pool.lease(ONE, device="cuda:0") as third:
        assert third is not first
    assert len(factory.made) == 2


def test_the_host_idle_longest_makes_room(pool: HostPool, factory: Factory) -> None:
    for spec in (ONE, TWO, ONE, THREE):
        with pool.lease(spec):
            pass
    assert [stand.name for stand in factory.made] == ["center", "two", "three"]
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
        thread.join(20)
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
        assert waiting.wait(5)
        assert not got.is_set()
    thread.join(5)
    assert got.is_set()


def test_an_idle_host_is_ended_in_time_and_a_busy_one_is_not(factory: Factory) -> None:
    with HostPool(factory, limit=2, idle_seconds=0.1) as pool:
        with pool.lease(ONE):
            with pool.lease(TWO):
                pass
            assert factory.made[1].closed.wait(5)
            assert not factory.made[0].closed.is_set()
        released = time.monotonic()
        assert factory.made[0].closed.wait(5)
        assert time.monotonic() - released >= 0.05
        assert len(pool) == 0


def test_closing_ends_every_host_and_refuses_new_leases(factory: Factory) -> None:
    pool = HostPool(factory, limit=2)
    with pool.lease(ONE):
        pass
    with pool.lease(TWO) as held:
        pool.close()
        assert held.closed.is_set()  # type: ignore[attr-defined]
    assert all(stand.closed.is_set() for stand in factory.made)
    with pytest.raises(RuntimeError, match="closed"), pool.lease(ONE):
        pytest.fail("closed")


def test_a_pool_without_room_makes_no_sense(factory: Factory) -> None:
    with pytest.raises(ValueError, match="room"):
        HostPool(factory, limit=0)
