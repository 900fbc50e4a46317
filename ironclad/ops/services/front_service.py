"""`ironclad run prefect` and `ironclad run worker`: services that live in a front, found by entry point."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, Self

from ironclad.ops import directory, engine_hosts, fronts

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings
    from ironclad.ops.service import ServiceRuntime

_STARTING_SECONDS = 0.05
_RUNNING_SECONDS = 5.0


class Front(Protocol):
    """What a front offers: a loop that an event ends, and whether it does its work."""

    @property
    def ready(self) -> bool:
        """Whether it works."""
        ...

    @property
    def running(self) -> int:
        """What it has at hand; a server has nothing."""
        ...

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set."""
        ...


class FrontService:
    """Runs a front and reports whether it is ready.

    Args:
        name: the service's name.
        make: makes the front; called in the service's process.
        remedy: what to do when it does not work.
        pool: of a worker.
    """

    def __init__(self, name: str, make: Callable[[], Front], remedy: str, pool: str = "") -> None:
        self.name = name
        self._pool = pool
        self._make = make
        self._remedy = remedy

    @classmethod
    def prefect(cls, settings: Settings) -> Self:
        """The Prefect server."""
        return cls("prefect", lambda: fronts.load("prefect-server")(settings), "See logs/prefect.jsonl.")

    @classmethod
    def worker(cls, settings: Settings, pool: str) -> Self:
        """The warm worker of a pool."""
        remedy = "It goes on by itself when the Prefect server answers; see `ironclad doctor`."
        return cls(directory.worker(pool), lambda: fronts.load("prefect-worker")(settings, pool), remedy, pool)

    def run(self, runtime: ServiceRuntime) -> None:
        """Run until the runtime stops."""
        front = self._make()
        if self._pool:
            _count_runs(front, runtime, self._pool)
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(front, runtime, done), name="readiness", daemon=True)
        watcher.start()
        try:
            front.run(runtime.stopping)
        finally:
            done.set()
            watcher.join()

    def _watch(self, front: Front, runtime: ServiceRuntime, done: threading.Event) -> None:
        """A front has no event for this, so it is asked: often while it starts, rarely later."""
        while not done.wait(_STARTING_SECONDS):
            if front.ready:
                runtime.health.ok(self.name)
                runtime.ready()
                break
        while not done.wait(_RUNNING_SECONDS):
            if front.ready:
                runtime.health.ok(self.name)
            elif not runtime.stopping.is_set():
                runtime.health.failed(self.name, "it does not do its work at the moment", self._remedy)


def _count_runs(front: Front, runtime: ServiceRuntime, pool: str) -> None:
    """A worker's own metrics."""
    slots = runtime.settings.pools[pool].slots

    def refresh() -> None:
        runtime.metrics.gauge("ironclad_worker_runs").set(front.running)
        runtime.metrics.gauge("ironclad_worker_slots").set(slots)

    runtime.metrics.on_scrape(refresh)
    engine_hosts.EngineHostReader(runtime.metrics, engine_hosts.installed)
