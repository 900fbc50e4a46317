"""When a file has stopped growing: a state machine without clock, disk or threads of its own.

A file is complete when its size and mtime stayed the same for the quiet time and nothing was heard of it meanwhile. A
rename into place is complete at once: whoever renames has finished writing. Times are seconds of a monotonic clock,
given by the caller.

Writing itself is not listened to (a large copy makes thousands of events a second); a file that grew shows it by its
size and mtime when its quiet time is over, and the wait starts anew.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad.jobs.submit import source_key

if TYPE_CHECKING:
    import os

_NANO = 1_000_000_000
_UNANSWERED = float("inf")  # given out by `take_due`, and nothing was said of it yet


@dataclass(frozen=True, slots=True)
class Print:
    """What tells one version of a file from another."""

    key: str
    """Device, inode, size and mtime, as in `Job.source_key`."""
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Print:
        """The print of a file as stat'ed."""
        return cls(source_key(status), status.st_size, status.st_mtime_ns)


@dataclass(slots=True)
class Growing:
    """One file under observation."""

    print: Print
    changed_at: float
    """When it changed last, as far as known."""
    due: float
    """When it is looked at again."""
    reason: str | None = None
    """Why it is not taken although it is quiet (busy, disk full …)."""


def quiet_before(mtime_ns: int, wall_ns: int, unseen: float, stability: float) -> float:
    """Seconds that a changed file has been quiet already when the change is seen.

    A look sees a change late, by up to the time since the look before (`unseen`); the mtime says when it was. It is
    believed only if it lies within that time, and for half the quiet time at most, since clocks of file servers differ
    and copying programs set the mtime to what they like.
    """
    since = (wall_ns - mtime_ns) / _NANO
    return min(since, stability / 2) if 0.0 < since <= unseen else 0.0


class Tracker:
    """The files of one watch root that are not jobs yet.

    Args:
        stability: the quiet time, in seconds.
    """

    def __init__(self, stability: float) -> None:
        self.stability = stability
        self._files: dict[str, Growing] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def get(self, path: str) -> Growing | None:
        """What is known of a file."""
        return self._files.get(path)

    def paths(self) -> list[str]:
        """All files under observation."""
        return list(self._files)

    def see(self, path: str, found: Print, now: float, *, quiet: float = 0.0) -> bool:
        """A look at the file. True if it is new or has changed since the last look: its wait starts (anew)."""
        known = self._files.get(path)
        if known is not None and known.print == found:
            return False
        self._wait(path, Growing(found, now - quiet, now - quiet + self.stability))
        return True

    def stir(self, path: str, now: float) -> None:
        """Something happened to the file (it was closed, created again …): its wait starts anew."""
        known = self._files.get(path)
        if known is not None:
            self._wait(path, Growing(known.print, now, now + self.stability))

    def complete(self, path: str, found: Print, now: float) -> None:
        """The file was renamed into place: it is due at once."""
        self._wait(path, Growing(found, now, now))

    def rename(self, old: str, new: str, found: Print, now: float) -> None:
        """A file under observation has another name now. That says nothing of whether it is complete."""
        known = self._files.pop(old, None)
        if known is None or known.print != found:
            self.see(new, found, now)
        else:
            due = now if known.due == _UNANSWERED else max(known.due, now)
            self._wait(new, Growing(found, known.changed_at, due))

    def hold(self, path: str, until: float, reason: str) -> None:
        """It is quiet but cannot be taken now: look again later."""
        known = self._files.get(path)
        if known is not None:
            self._wait(path, Growing(known.print, known.changed_at, until, reason))

    def forget(self, path: str) -> bool:
        """The file is a job now, or gone. True if it was under observation."""
        return self._files.pop(path, None) is not None

    def take_due(self, now: float) -> list[str]:
        """The files whose wait is over, oldest first. Each must be answered: `see`, `hold` or `forget`."""
        paths: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            due, path = heapq.heappop(self._heap)
            known = self._files.get(path)
            if known is not None and known.due == due:
                known.due = _UNANSWERED
                paths.append(path)
        return paths

    def next_due(self) -> float | None:
        """When `take_due` has something to give; None if nothing waits."""
        while self._heap:
            due, path = self._heap[0]
            known = self._files.get(path)
            if known is not None and known.due == due:
                return due
            heapq.heappop(self._heap)  # answered, forgotten or set to another time since
        return None

    def _wait(self, path: str, growing: Growing) -> None:
        self._files[path] = growing
        heapq.heappush(self._heap, (growing.due, path))
