"""A log that stays readable: each event has its own allowance, and what was left out is counted."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from ironclad import log
from ironclad.lograte import WINDOW_SECONDS, Limiter

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quiet_again() -> Iterator[None]:
    before = (logging.root.handlers[:], logging.root.level)
    yield
    structlog.reset_defaults()
    logging.root.handlers[:], logging.root.level = before


def say(limiter: Limiter, event: str, level: str = "info") -> dict[str, Any] | None:
    try:
        return dict(limiter(None, level, {"event": event, "level": level}))
    except structlog.DropEvent:
        return None


def test_lines_and_drops_add_up_to_what_happened(clock: Clock) -> None:
    limiter = Limiter(5, 10, clock)
    passed = [line for line in (say(limiter, "again") for _ in range(1000)) if line is not None]
    assert len(passed) == 5 + 99
    last = 5 + 99 * 10  # the rest after it is told by the next line
    assert len(passed) + sum(line.get("dropped", 0) for line in passed) == last
    clock.now += WINDOW_SECONDS
    line = say(limiter, "again")
    assert line is not None
    assert line["dropped"] == 1000 - last
    assert limiter.counts() == {"info": 105, "dropped": 896}


def test_events_do_not_take_each_others_allowance(clock: Clock) -> None:
    limiter = Limiter(1, 1000, clock)
    assert [say(limiter, "a") is None for _ in range(3)] == [False, True, True]
    assert say(limiter, "b") is not None
    assert say(limiter, "a", "error") is not None  # the same words, but worse


def test_a_new_window_has_a_new_allowance(clock: Clock) -> None:
    limiter = Limiter(2, 1000, clock)
    for _ in range(3):
        assert [say(limiter, "a") is not None for _ in range(4)] == [True, True, False, False]
        clock.now += WINDOW_SECONDS


def test_memory_is_bounded_however_many_kinds_there_are(clock: Clock) -> None:
    limiter = Limiter(1, 1000, clock)
    for number in range(4900):
        say(limiter, f"event {number}")
    assert len(limiter._windows) <= 1001
    assert say(limiter, "event 4950") is None  # late kinds share one allowance


def test_no_limit(clock: Clock) -> None:
    limiter = Limiter(0, 10, clock)
    assert all(say(limiter, "a") for _ in range(500))


@pytest.mark.usefixtures("quiet_again")
def test_in_the_log_of_a_service_libraries_included() -> None:
    out = io.StringIO()
    log.configure(service="s", stream=out, burst=2, sample=4)
    for number in range(7):
        log.get().info("again", number=number)
        logging.getLogger("chatty").warning("oh no: %s", number)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    ours = [(line["number"], line.get("dropped")) for line in lines if line["event"] == "again"]
    assert ours == [(0, None), (1, None), (5, 3)]
    assert [(line["event"], line.get("dropped")) for line in lines if line.get("logger") == "chatty"] == [
        ("oh no: 0", None), ("oh no: 1", None), ("oh no: 5", 3),
    ]  # fmt: skip
    assert log.counts() == {"info": 3, "warning": 3, "dropped": 8}
