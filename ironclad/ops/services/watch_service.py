"""`ironclad run watch`: the watcher of this machine's watch roots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad.db.session import Database
from ironclad.ingest.watcher import Watcher

if TYPE_CHECKING:
    from ironclad.ops.service import ServiceRuntime


class WatchService:
    """Turns files in the watch roots into jobs."""

    name = "watch"

    def run(self, runtime: ServiceRuntime) -> None:
        """Watch until the runtime stops."""
        database = Database.open(runtime.settings)
        try:
            Watcher(database, runtime.settings).run(runtime.stopping, runtime.ready)
        finally:
            database.close()
