"""How much memory there is for hosts: what the machine and the control groups around this process leave."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ironclad.engines.oom import control_groups

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """Memory of the machine and of the control groups (version 2) that this process is in. Zero: not known."""

    proc: Path = _PROC
    cgroups: Path = _CGROUPS

    def total(self) -> int:
        """Bytes that could be had at most."""
        return _least([self._meminfo("MemTotal"), *(limit for limit, _used in self._groups())])

    def available(self) -> int:
        """Bytes that can be had now, without pushing anything out to disk but caches."""
        return _least([self._meminfo("MemAvailable"), *(max(1, limit - used) for limit, used in self._groups())])

    def _meminfo(self, name: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            for line in (self.proc / "meminfo").read_text(encoding="ascii").splitlines():
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) * _KIB
        return 0

    def _groups(self) -> list[tuple[int, int]]:
        """Limit and use of each group around this process that has a limit; caches that can be dropped do not count."""
        found: list[tuple[int, int]] = []
        folder = self.cgroups / control_groups(proc=self.proc).get("", "")
        while folder == self.cgroups or self.cgroups in folder.parents:
            with contextlib.suppress(OSError, ValueError):
                limit = int((folder / "memory.max").read_text(encoding="ascii"))  # "max" is no number: no limit
                used = int((folder / "memory.current").read_text(encoding="ascii"))
                caches = [
                    int(line.split()[1])
                    for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
                    if line.startswith(("inactive_file ", "active_file "))
                ]
                found.append((limit, max(0, used - sum(caches))))
            folder = folder.parent
        return found


def resident(pid: int) -> int:
    """Resident bytes of a process; 0 if it is not there."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def _least(values: list[int]) -> int:
    return min((value for value in values if value > 0), default=0)
