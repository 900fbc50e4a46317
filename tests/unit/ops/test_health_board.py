from __future__ import annotations

from ironclad.ops.health import Component, HealthBoard, Status


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_readiness_follows_the_start_and_failed_components() -> None:
    board = HealthBoard()
    assert not board.ready
    board.set_ready(ready=True)
    assert board.ready
    board.degraded("disk", "tight", "free some")
    assert (board.ready, board.worst) == (True, Status.DEGRADED)
    board.failed("database", "away", "wait")
    assert (board.ready, board.worst) == (False, Status.FAILED)
    board.ok("database")
    assert board.ready
    board.forget("disk")
    assert board.worst is Status.OK
    board.set_ready(ready=False)
    assert not board.ready


def test_since_is_when_the_status_changed_and_the_detail_follows() -> None:
    clock = Clock()
    board = HealthBoard(clock=clock)
    board.failed("database", "first")
    clock.now = 200.0
    board.failed("database", "second", "a remedy")
    assert board.components() == (Component("database", Status.FAILED, "second", "a remedy", 100.0),)
    board.ok("database")
    assert board.components()[0].since == 200.0


def test_changes_of_status_are_told_once() -> None:
    told: list[tuple[str, Status]] = []
    board = HealthBoard(lambda component: told.append((component.name, component.status)))
    board.ok("a")
    board.ok("a", "still")
    board.failed("a", "now not")
    board.failed("b", "neither")
    assert told == [("a", Status.OK), ("a", Status.FAILED), ("b", Status.FAILED)]


def test_what_should_have_ended_makes_it_hung_until_it_ends() -> None:
    clock = Clock()
    board = HealthBoard(monotonic=clock)
    with board.within("a call", 10.0):
        assert board.live
        clock.now += 11.0
        assert not board.live
        assert board.overdue == ("a call",)
    assert board.live
