"""A service with the real runtime in a process of its own: `runtime_script.py KIND`."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from ironclad import config, log
from ironclad.errors import DatabaseUnavailable, MonoInput, PortInUse
from ironclad.ops.service import leave, run_service

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.ops.service import Service, ServiceRuntime


class Steady:
    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        runtime.ready()
        runtime.stopping.wait()


class Chatty:
    """Writes to its output at all times, also when nobody reads it any more."""

    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        runtime.ready()
        while not runtime.stopping.wait(0.01):
            log.get().info("still here")
        for stream in (sys.stdout, sys.stderr):
            stream.write("the end\n")
            stream.flush()


class Stubborn:
    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        child = subprocess.Popen(["sleep", "600"])
        runtime.facts["grandchild"] = child.pid
        runtime.health.ok("grandchild", str(child.pid))
        runtime.ready()
        threading.Event().wait()


class Hung:
    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        runtime.ready()
        with runtime.health.within("a call", 0.1):
            runtime.stopping.wait()


class SlowStart:
    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        runtime.status("thinking")
        while not runtime.stopping.is_set():
            time.sleep(0.01)


class Raises:
    name = "notify"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def run(self, _runtime: ServiceRuntime) -> None:
        raise self.error


KINDS: dict[str, Callable[[], Service]] = {
    "steady": Steady,
    "chatty": Chatty,
    "stubborn": Stubborn,
    "hung": Hung,
    "slow-start": SlowStart,
    "config": lambda: Raises(PortInUse("127.0.0.1:1")),
    "dependency": lambda: Raises(DatabaseUnavailable("gone")),
    "other": lambda: Raises(MonoInput()),
    "bug": lambda: Raises(ZeroDivisionError("a bug")),
}

if __name__ == "__main__":
    leave(run_service("notify", KINDS[sys.argv[1]], config.load()))
