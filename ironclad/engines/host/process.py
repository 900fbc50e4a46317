"""What the host does to its own process: keep the pipe to itself, die with its parent, yield under memory pressure."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OOM_SCORE_ADJ = 800


def claim_pipes() -> tuple[int, int]:
    """Private descriptors of the pipe: `(requests, events)`.

    Libraries print. From here on, what they write to standard output goes to standard error, and what reads standard
    input finds it empty, so neither can garble the protocol.
    """
    requests, events = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdout.flush()
    os.dup2(2, 1)
    return requests, events


def die_with_parent(parent: int) -> None:
    """Be killed by the kernel when the thread that started this process ends, and take children that fork along.

    `parent` is that thread's process: if it is gone already, exit now. Without prctl (not Linux), end of file on the
    pipe does the same unless the engine holds the interpreter's lock.
    """
    if not _set_death_signal():
        return
    if os.getppid() != parent:
        os._exit(0)
    forked_by_main = threading.Event()

    def before() -> None:
        # The signal is sent when the *thread* that forked ends: only the main thread is as old as the process.
        if threading.current_thread() is threading.main_thread():
            forked_by_main.set()
        else:
            forked_by_main.clear()

    def in_child() -> None:
        if forked_by_main.is_set():
            _set_death_signal()

    os.register_at_fork(before=before, after_in_child=in_child)


def _set_death_signal() -> bool:
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    return prctl is not None and prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0


def volunteer_for_oom() -> None:
    """Ask the kernel, when memory runs out, to kill this process before the worker or the database."""
    with contextlib.suppress(OSError):  # no /proc, or a container that forbids it: the limit still holds
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ), encoding="ascii")


def limit_memory(limit: int) -> None:
    """Let allocations fail beyond `limit` bytes of private memory (RLIMIT_DATA); 0: no limit."""
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def end_group() -> None:
    """End this process and, if it leads a process group, everything in it, now."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def forget_peak() -> None:
    """Let the peak of the resident memory begin anew, where the kernel lets it (proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_bytes() -> tuple[int, int]:
    """Resident memory of this process now and at its peak, in bytes; zeros where /proc is missing.

    Not `getrusage`: its peak is inherited from the process that started this one.
    """
    found = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name in {"VmRSS", "VmHWM"}:
                found[name] = int(value.split()[0]) * 1024
    return found.get("VmRSS", 0), found.get("VmHWM", 0)
