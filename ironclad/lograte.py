"""Keeping a log readable when one event comes a thousand times a second, with a count of what was dropped."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, MutableMapping

DROPPED: Final = "dropped"
"""The key of a line that says how many of its kind were left out before it."""
WINDOW_SECONDS: Final = 10.0
_KEYS: Final = 1000
_OTHERS: Final = "*"


@dataclass(slots=True)
class _Window:
    began: float
    seen: int = 0
    dropped: int = 0


class Limiter:
    """A structlog processor: of each event, `burst` lines in ten seconds, then one in `sample`. Thread-safe.

    A line that passes after others were dropped carries their number as `dropped`, so that the sum of lines and numbers
    is what happened. Events beyond the first thousand kinds share one window.

    Args:
        burst: lines of one event in ten seconds; 0: no limit.
        sample: beyond that, one line in so many.
        clock: seconds that never go back.
    """

    def __init__(self, burst: int, sample: int = 100, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._sample = max(1, sample)
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Pass the event on, or raise `structlog.DropEvent`."""
        dropped = self._count(str(event.get("level", method)), str(event.get("event")))
        if dropped is None:
            raise structlog.DropEvent
        if dropped:
            event[DROPPED] = dropped
        return event

    def admit(self, record: logging.LogRecord) -> bool:
        """The same as a filter of the standard library's logging; the number dropped is put on the record."""
        dropped = self._count(record.levelname.lower(), str(record.msg))
        if dropped:
            vars(record)[DROPPED] = dropped
        return dropped is not None

    def counts(self) -> dict[str, int]:
        """Lines so far by level, and under `dropped` those left out."""
        with self._lock:
            return dict(self._counts)

    def _count(self, level: str, event: str) -> int | None:
        with self._lock:
            dropped = self._passes(f"{level}/{event}") if self._burst else 0
            kind = DROPPED if dropped is None else level
            self._counts[kind] = self._counts.get(kind, 0) + 1
        return dropped

    def _passes(self, key: str) -> int | None:
        """How many lines of this key were dropped since the last that passed; None: so is this one."""
        now = self._clock()
        if key not in self._windows and len(self._windows) >= _KEYS:
            key = _OTHERS
        window = self._windows.setdefault(key, _Window(now))
        if now - window.began >= WINDOW_SECONDS:
            window.began, window.seen = now, 0
        window.seen += 1
        if window.seen > self._burst and (window.seen - self._burst) % self._sample:
            window.dropped += 1
            return None
        dropped, window.dropped = window.dropped, 0
        return dropped
