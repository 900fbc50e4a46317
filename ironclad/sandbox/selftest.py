"""Targets that misbehave on purpose: they show `ironclad doctor` and the tests that each limit holds here."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ironclad.errors import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 20
_PR_GET_DUMPABLE = 3


def echo(request: dict[str, Any], report: Callable[[float], None]) -> dict[str, Any]:
    """The request again, after two steps of progress and some noise on stdout."""
    print("noise of a library", flush=True)  # noqa: T201 -- shows that prints stay out of the reply
    report(0.5)
    report(1.0)
    return request


def describe(_request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """What this process may do and has: limits, environment names, network interfaces, process group, flags, files."""
    return {
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
            for name in ("AS", "CPU", "FSIZE", "NOFILE", "NPROC", "CORE")
        },
        "environment": sorted(os.environ),
        "interfaces": _interfaces(),
        "own_group": os.getpgrp() == os.getpid(),
        "isolated": sys.flags.isolated,
        "no_new_privs": "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(encoding="ascii"),
        "dumpable": ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0),
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 -- names, no paths; one is the listing's own
        "processor_seconds": time.process_time(),
        "folder": str(Path.cwd()),
        "pid": os.getpid(),
        "parent": os.getppid(),
    }


def _interfaces() -> list[str]:
    """Names of network interfaces, without the socket that asking for them takes: a unit may forbid it."""
    rows = Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines()[2:]
    return [row.partition(":")[0].strip() for row in rows]


def remember(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """What an earlier order left in this process under `name`; leave something there."""
    seen = os.environ.get(request["name"])
    os.environ[request["name"]] = "left"
    return {"seen": seen}


def allocate(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """Take `bytes` of memory."""
    return {"length": len(bytearray(request["bytes"]))}


def spin(_request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """Burn processor time for ever."""
    while True:
        pass


def wait(request: dict[str, Any], report: Callable[[float], None]) -> dict[str, Any]:
    """Start a helper process, write both ids to `pids`, then wait for ever without using the processor."""
    helper = subprocess.Popen(["/bin/sleep", "3600"])
    Path(request["pids"]).write_text(f"{os.getpid()} {helper.pid}", encoding="ascii")
    report(0.0)
    threading.Event().wait()
    return {}


def write(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """Write to `path` for ever."""
    with Path(request["path"]).open("wb") as file:
        while True:
            file.write(bytes(_CHUNK))


def crash(_request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """Die as a decoder with a memory error does."""
    signal.raise_signal(signal.SIGSEGV)
    return {}


def babble(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """Return `length` characters."""
    return {"text": "x" * request["length"]}


def leave(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """End the process with `status` and no reply."""
    os._exit(request["status"])


def fail(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """Raise the catalogue's `code`, or a ValueError without one."""
    if "code" not in request:
        raise ValueError("a bug")
    raise CATALOGUE[request["code"]]("as asked", seconds=3)
