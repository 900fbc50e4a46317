"""A worker's fork server, forked from the worker itself before that has any thread.

Prefect's client alone is 80 MB in each process that imports it. The worker imports what both need, forks the fork
server, which imports the rest, and both share the pages. It has to happen first of all: a fork takes one thread along,
and a lock that another one holds stays locked for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ironclad_flows import environment, forkserver, preload
from ironclad_flows.processes import native_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ironclad.config import Settings

SHARED_MODULES = (*preload.PREFECT_MODULES, "ironclad_flows.worker", "ironclad.db.session")
"""What both processes need; each has its reason to import these by itself."""
_ARGUMENTS_BEGIN = 45  # fields 48 and 49 of /proc/PID/stat, counted after the command's closing bracket
_TITLE = b"python\0-m\0ironclad_flows.forkserver\0"


@dataclass(frozen=True, slots=True)
class Forked:
    """A fork server that was forked from this process; has what `ForkServer` uses of a `subprocess.Popen`."""

    pid: int
    connection: socket.socket

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code as soon as it has ended. Raises `subprocess.TimeoutExpired`."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return 0
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(_TITLE.decode(), timeout or 0.0)
        finally:
            os.close(handle)
        with contextlib.suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return 0

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def fork_server(
    settings: Settings, service: str, modules: Sequence[str] = preload.STAGE_MODULES
) -> Forked | None:  # fmt: skip
    """Import what worker and fork server share, and fork; None where that cannot be: then the worker starts one.

    Args:
        settings: ours.
        service: what lines that are logged say as theirs.
        modules: what the fork server preloads besides Prefect.
    """
    os.environ.setdefault("IRONCLAD_DATA_DIR", str(settings.layout.root))
    # Prefect reads its settings when it is imported. The URL may be known later only: see `WorkerService`.
    environment.apply(environment.prefect_environment(settings))
    forkserver.log_as(service, settings.log)
    try:
        for module in SHARED_MODULES:
            importlib.import_module(module)
    except Exception:  # noqa: BLE001 - the worker imports the same, and says what is wrong where it is logged
        return None
    if native_threads() != 1:
        return None
    gc.collect()
    gc.freeze()  # a collection would write to each object's head, and so copy its page
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _become_server(theirs, service, modules)
    theirs.close()
    return Forked(pid, ours)


def _become_server(connection: socket.socket, service: str, modules: Sequence[str]) -> NoReturn:
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.close(null)
        with contextlib.suppress(OSError, ValueError, IndexError):
            _rename()
        code = forkserver.serve(connection, service, modules)
    except BaseException:  # noqa: BLE001 - nothing may run on as a second worker
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _rename() -> None:
    """Have `ps` show this process as the fork server that it is, not as a second worker."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    begin, end = map(int, fields[_ARGUMENTS_BEGIN : _ARGUMENTS_BEGIN + 2])
    if 0 < begin < end and end - begin >= len(_TITLE):
        ctypes.memset(begin, 0, end - begin)
        ctypes.memmove(begin, _TITLE, len(_TITLE))
