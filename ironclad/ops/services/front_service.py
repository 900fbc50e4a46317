"""`ironclad run prefect` and `ironclad run worker`: services that live in a front, found by entry point."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

from ironclad.errors import IroncladError
from ironclad.ops import directory, engine_hosts, fronts
from ironclad.ops.health import Status
from ironclad.ops.probes import PREFECT, STORAGE, DiskProbe, EngineProbe, GpuProbe, PrefectProbe

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings
    from ironclad.ops.probes import Verdict
    from ironclad.ops.service import ServiceRuntime

_STARTING_SECONDS = 0.05
_RUNNING_SECONDS = 5.0
_GPU_POOL = "gpu"


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
        prepare: called with the front before it runs, for metrics and probes of its own.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Front],
        remedy: str,
        prepare: Callable[[Front, ServiceRuntime], None] = lambda _front, _runtime: None,
    ) -> None:
        self.name = name
        self._prepare = prepare
        self._make = make
        self._remedy = remedy

    @classmethod
    def prefect(cls, settings: Settings) -> Self:
        """The Prefect server."""
        return cls(
            "prefect", lambda: fronts.load("prefect-server")(settings), "See logs/prefect.jsonl.", _watch_prefect
        )

    @classmethod
    def worker(cls, settings: Settings, pool: str, forked: object = None) -> Self:
        """The warm worker of a pool; `forked` is what `prefork` returned."""
        remedy = "It goes on by itself when the Prefect server answers; see `ironclad doctor`."
        return cls(
            directory.worker(pool),
            lambda: fronts.load("prefect-worker")(settings, pool, forked=forked),
            remedy,
            partial(_watch_worker, pool=pool),
        )

    @staticmethod
    def prefork(settings: Settings, pool: str) -> object:
        """What a worker has to do before its process has any thread; None if it cannot, and it will say why itself."""
        try:
            return fronts.load("prefect-worker").prefork(settings, pool)
        except IroncladError:
            return None

    def run(self, runtime: ServiceRuntime) -> None:
        """Run until the runtime stops."""
        front = self._make()
        self._prepare(front, runtime)
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


def _watch_prefect(_front: Front, runtime: ServiceRuntime) -> None:
    """Its own API answers."""
    runtime.probe({PREFECT: PrefectProbe(runtime.settings, Status.FAILED)})


def _watch_worker(front: Front, runtime: ServiceRuntime, pool: str) -> None:
    """A worker's own metrics and dependencies."""
    settings, metrics = runtime.settings, runtime.metrics
    slots = settings.pools[pool].slots

    def refresh() -> None:
        metrics.gauge("ironclad_worker_runs").set(front.running)
        metrics.gauge("ironclad_worker_slots").set(slots)

    metrics.on_scrape(refresh)
    hosts = engine_hosts.EngineHostReader(metrics, engine_hosts.installed)
    probes: dict[str, Callable[[], Verdict]] = {
        STORAGE: DiskProbe(settings), PREFECT: PrefectProbe(settings, Status.FAILED), "engine": EngineProbe(settings),
    }  # fmt: skip
    if pool == _GPU_POOL and not settings.engine.device.startswith("mps"):
        probes["gpu"] = GpuProbe(lambda: front.running, hosts.gpu_bytes)
    runtime.probe(probes)
