"""`ironclad run watch`: the watcher of this machine's watch roots, with their health and metrics."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from ironclad import log
from ironclad.db.session import Database
from ironclad.errors import IroncladError
from ironclad.ingest.places import absolute
from ironclad.ingest.watch import How
from ironclad.ingest.watcher import Watcher
from ironclad.ops.probes import STORAGE, DiskProbe
from ironclad.ops.queue_metrics import WatchReader

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.ingest.watch import RootStatus
    from ironclad.ops.health import HealthBoard
    from ironclad.ops.service import ServiceRuntime

_LOOK_SECONDS = 5.0
_UNREACHABLE = "Mount it again or put it right; until then nothing is concluded about its files."
_POLLED = "Files are found by listing the folder. Set watch = 'polling' for this root if that is as it must be."


class WatchService:
    """Turns files in the watch roots into jobs."""

    name = "watch"

    def run(self, runtime: ServiceRuntime) -> None:
        """Watch until the runtime stops."""
        settings = runtime.settings
        runtime.probe({STORAGE: DiskProbe(settings)})
        database = Database.open(settings)
        try:
            WatchReader(database, runtime.metrics, [str(absolute(root.path)) for root in settings.watch_roots])
            watcher = Watcher(database, settings, _engine_pool(settings))
            polled = {str(root.path) for root in settings.watch_roots if root.watch == "polling"}

            def look() -> None:
                while not runtime.stopping.wait(_LOOK_SECONDS):
                    look_once()

            def look_once() -> None:
                roots = watcher.status()
                report(runtime.health, roots, polled)
                count = Counter(root.how for root in roots)
                for how in How:
                    runtime.metrics.gauge("ironclad_watch_roots").labels(how.value).set(count[how])

            def ready() -> None:
                look_once()
                runtime.ready()

            threading.Thread(target=look, name="root health", daemon=True).start()
            watcher.run(runtime.stopping, ready)
        finally:
            database.close()


def _engine_pool(settings: Settings) -> str:
    """The work pool of the settings' engine; cpu where that engine is not there, which its jobs will then say."""
    from ironclad.engines import choice  # noqa: PLC0415 - loads the plugins

    try:
        return choice.choose(settings).pool
    except IroncladError as exc:
        log.get().error("engine_not_usable", engine=settings.engine.name, error=exc.to_dict())
        return "cpu"


def report(health: HealthBoard, roots: list[RootStatus], polled: set[str]) -> None:
    """Say of each root whether it is there, and whether its changes are seen as they happen.

    One that cannot be reached does not stop the others, so it is degraded, not failed.

    Args:
        health: where.
        roots: how they are watched.
        polled: the roots that a setting says to poll.
    """
    for number, root in enumerate(roots, start=1):
        name, events = f"root {number}", f"root {number} events"
        if root.how is How.UNKNOWN:
            health.degraded(name, f"{root.path}: {root.reason}", _UNREACHABLE)
            continue
        health.ok(name, f"{root.path}: {root.how}")
        if root.how is How.POLLING and root.path not in polled:
            health.degraded(events, f"{root.path} is polled: {root.reason}", _POLLED)
        else:
            health.ok(events, str(root.how))
