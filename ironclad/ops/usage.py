"""How much a service uses: what the cockpit shows beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from ironclad import processes
from ironclad.engines.contract import GPU_POOL

_SECONDS: Final = 2.0
_QUERY: Final = ("--query-gpu=name,memory.used,memory.total", "--format=csv,noheader,nounits")


def facts(pool: str | None) -> dict[str, Any]:
    """`rss_bytes` of the calling process with all that it started, and `gpu` in words where the pool is one of GPUs."""
    found: dict[str, Any] = {"rss_bytes": memory()}
    if pool == GPU_POOL and (gpus := gpu()):
        found["gpu"] = gpus
    return found


def memory() -> int:
    """Resident bytes of this process and of all that it started; a page that they share counts for each."""
    left, total = [os.getpid()], 0
    while left:
        pid = left.pop()
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            total += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        left += processes.children_of(pid)
    return total * os.sysconf("SC_PAGE_SIZE")


def gpu() -> str:
    """Each GPU of this machine with its memory in use, as its driver tells; empty if there is none that tells."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines()]
    told = [row for row in rows if len(row) == 3 and row[1].isdecimal() and row[2].isdecimal()]  # noqa: PLR2004 - as asked
    return "; ".join(f"{name} {int(used) / 1024:.1f}/{int(total) / 1024:.0f} GB" for name, used, total in told)
