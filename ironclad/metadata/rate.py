"""One request a second for the whole installation: MusicBrainz' rule, whoever asks."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Protocol

from ironclad import durable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_STEP_SECONDS = 0.1
_MAX_AHEAD_SECONDS = 3600.0


class Gate(Protocol):
    """Hands out points in time, one for each request, to everybody who shares it.

    `FileGate` shares them among the processes of one machine; a row in the database can share them among many:
    `UPDATE … SET next = greatest(next, now()) + interval RETURNING next - interval`.
    """

    def reserve(self, interval: float) -> float:
        """Take the next free point in time, `interval` seconds after the one before; returns seconds until then."""
        ...


class FileGate:
    """Shares by a locked file that holds the next free point in time (seconds since 1970)."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def reserve(self, interval: float) -> float:
        """Take the next free point in time. The lock is held for microseconds; the waiting is the caller's."""
        with durable.stored(self._path):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                now = self._clock()
                begin = max(now, _point(os.pread(fd, 64, 0), now))
                os.pwrite(fd, f"{begin + interval:<32.6f}".encode(), 0)
            finally:
                os.close(fd)  # unlocks
        return begin - now


def _point(content: bytes, now: float) -> float:
    """The point that the file holds; nonsense, and a point far ahead (the clock was set back), count as none."""
    try:
        point = float(content)
    except ValueError:
        return 0.0
    return point if point - now < _MAX_AHEAD_SECONDS else 0.0


def wait(
    seconds: float, check: Callable[[], None] | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Sleep for so long, calling `check` (which may raise, for example `Cancelled`) ten times a second."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if check is not None:
            check()
        sleep(min(left, _STEP_SECONDS))
