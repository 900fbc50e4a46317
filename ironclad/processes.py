"""Linux process facts: who a process id really is, dying with one's parent, waiting without polling."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STARTTIME = 19  # field 22 of /proc/PID/stat, counted after the command's closing bracket
_STATE = 0
_PARENT = 1


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name may itself hold spaces and brackets, so fields are counted from its last bracket.
    return text.rpartition(")")[2].split()


def identity(pid: int) -> str | None:
    """What tells this process from a later one with the same id: boot and start time. None if it is not alive."""
    fields = _stat(pid)
    if fields is None or fields[_STATE] in {"Z", "X"}:
        return None
    return f"{_boot()}/{fields[_STARTTIME]}"


def _boot() -> str:
    """The machine's boot: other machines, and this one before it was restarted, have another."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return "?"


def _namespace() -> str:
    """The process-id namespace: a container's process ids mean nothing outside it."""
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    return "?"


def me() -> str:
    """This process, as `gone` understands it on any machine that shares the database."""
    return f"{_namespace()}/{os.getpid()}/{identity(os.getpid())}"


def gone(process: str) -> bool:
    """Whether a process described by `me` is known to be dead. False for one that cannot be seen from here."""
    namespace, _, rest = process.partition("/")
    pid, _, was = rest.partition("/")
    if namespace != _namespace() or not pid.isdigit() or not was.startswith(f"{_boot()}/"):
        return False
    now = identity(int(pid))
    return now != was and not (now is None and _hidden(int(pid)))


def _hidden(pid: int) -> bool:
    """Whether there is such a process but /proc, mounted with `hidepid` (as by systemd's ProtectProc=), hides it."""
    if _stat(pid) is not None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat(pid) is None


def signal_on_parent_death(number: signal.Signals) -> None:
    """Have the kernel send `number` to this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Have orphaned descendants become children of this process instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_descendants() -> None:
    """SIGKILL to every child of this process and, with `adopt_orphans`, to all that they had started."""
    while left := _children():
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def children_of(pid: int) -> list[int]:
    """Process ids of a process's children, as the kernel lists them: without a look at every process of the machine.

    Those of a process that has ended, and all where the kernel keeps no such lists (CONFIG_PROC_CHILDREN), are missing.
    """
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has just ended
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _children() -> list[int]:
    me = str(os.getpid())
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if (fields := _stat(pid)) is not None and fields[_PARENT] == me]


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def signal_group(leader: int, number: signal.Signals) -> None:
    """Signal the process group that `leader` leads; nothing if it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
