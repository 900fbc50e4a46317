"""Services that a killed supervisor left behind: they have been told to stop by the kernel; nobody waits for long."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Final

from ironclad import processes
from ironclad.ops import directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.ops.directory import Announcement

PATIENCE_SECONDS: Final = 5.0


def end(run: Path, tell: Callable[[Announcement], None], patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for every service that some earlier supervisor started, then kill it with its process group.

    Services that somebody started by hand or by systemd (no supervisor in their announcement) are left alone.
    """
    left = [entry for entry in directory.announced(run) if entry.supervisor is not None and entry.alive]
    deadline = time.monotonic() + patience_seconds
    for entry in left:
        tell(entry)
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(entry.pid)
            try:
                if not _ended(pidfd, deadline - time.monotonic()) and entry.alive:
                    processes.signal_group(entry.pid, signal.SIGKILL)
                    _ended(pidfd, PATIENCE_SECONDS)
            finally:
                os.close(pidfd)


def _ended(pidfd: int, seconds: float) -> bool:
    return bool(select.select([pidfd], [], [], max(0.0, seconds))[0])
