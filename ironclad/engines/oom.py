"""Whether the kernel has killed a process to free memory, which it tells by counters, not of a single process."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

RECENT_SECONDS: Final = 10.0
"""How long before its end was noticed a process may have been killed: letting go of its memory takes time."""
_EVERY_SECONDS: Final = 1.0


def control_groups(pid: int | str = "self", proc: Path = Path("/proc")) -> dict[str, str]:
    """A process's control groups, relative to where they are mounted, by controller; "" is the one of version 2."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            found |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
    return found


class OomWatch:
    """Watches the kernel's count of such kills that is nearest to one process.

    That is its control group's, of which only processes of the group are counted (version 1: `memory.oom_control`,
    version 2: `memory.events`), else the machine's (`/proc/vmstat`). Kills before the last `RECENT_SECONDS` were of
    others, since the process lived on; hence `look` has to be called while it does.
    """

    def __init__(
        self, pid: int, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._pid, self._proc, self._cgroups, self._clock = pid, proc, cgroups, clock
        self._files: set[Path] = set()
        """All that were the nearest: a process may be put into another group, and one that goes is in none."""
        self._seen: deque[tuple[float, dict[Path, int]]] = deque()
        """The latest that is not recent any more, and what is."""
        self.look()

    def look(self) -> None:
        """Remember what the counters say now. May be called as often as is convenient."""
        now, nearest = self._clock(), self._nearest()
        if nearest in self._files and now - self._seen[-1][0] < _EVERY_SECONDS:
            return
        self._files.add(nearest)
        self._seen.append((now, self._counts()))
        while len(self._seen) > 1 and now - self._seen[1][0] >= RECENT_SECONDS:
            self._seen.popleft()

    def killed(self) -> bool:
        """Whether there was such a kill lately. Without a counter nothing is claimed."""
        before: dict[Path, int] = {}
        for _, counts in reversed(self._seen):
            before |= counts
        return any(count > before.get(file, count) for file, count in self._counts().items())

    def _nearest(self) -> Path:
        groups = control_groups(self._pid, self._proc)
        if (path := groups.get("memory")) is not None:
            base, name = self._cgroups / "memory", "memory.oom_control"
        else:
            base, name, path = self._cgroups, "memory.events", groups.get("", "")
        # Inside a container, the group's path may be that of outside, and what is mounted is the group itself.
        files = (base / path / name, base / name, self._proc / "vmstat")
        return next((file for file in files if _kills(file) is not None), files[-1])

    def _counts(self) -> dict[Path, int]:
        return {file: kills for file in self._files if (kills := _kills(file)) is not None}


def _kills(file: Path) -> int | None:
    """The number in a line `oom_kill N`; None without."""
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None
