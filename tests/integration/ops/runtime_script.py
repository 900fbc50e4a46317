"""A service with the real runtime in a process of its own: `runtime_script.py KIND`."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from ironclad import config, log
from ironclad.errors import DatabaseUnavailable, MonoInput, PortInUse
from ironclad.ops import service as service_module
from ironclad.ops.service import leave, run_service
from ironclad.ops.signals import STOP_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.ops.service import Service, ServiceRuntime


class Steady:
    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        runtime.ready()
        runtime.stopping.wait()


class Deaf:
    """Its main thread hears of no signal: the kernel gives each to another one."""

    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        runtime.ready()
        runtime.stopping.wait()


class Borrowing:
    """An event loop has taken over by what signals wake the interpreter."""

    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        asyncio.run(self._serve(runtime))

    @staticmethod
    async def _serve(runtime: ServiceRuntime) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
        runtime.ready()
        await asyncio.to_thread(runtime.stopping.wait)


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
    "deaf": Deaf,
    "borrowing": Borrowing,
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
    # Signals of a dying supervisor are one request, also where this process gets a core between them only now and then.
    service_module._BURST_SECONDS = 60.0
    leave(run_service("notify", KINDS[sys.argv[1]], config.load()))
