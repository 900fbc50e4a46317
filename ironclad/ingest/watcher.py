"""The watcher service: every root in its own thread, one intake, and the upkeep of what outlives a single file."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from ironclad import log
from ironclad.errors import DatabaseUnavailable, IroncladError
from ironclad.ingest import claim, observations, skipped
from ironclad.ingest.intake import Intake
from ironclad.ingest.places import absolute, require_a_place_of_its_own
from ironclad.ingest.root import RootWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.ingest.watch import RootStatus

_FIRST_LISTING_SECONDS = 10.0
_JOIN_SECONDS = 10.0
_SKIPPED_SECONDS = 0.5
_FIRST_RETRY_SECONDS = 2.0


class Watcher:
    """Watches all roots until told to stop. Two watchers at a time do no harm: a row is unique, a claim is locked.

    Args:
        database: open; when it does not answer, files wait and nothing is lost.
        settings: the installation.
        engine_pool: the work pool of the settings' engine.

    Raises `ConfigError` for a root that is in a folder of Ironclad's own.
    """

    def __init__(self, database: Database, settings: Settings, engine_pool: str = "cpu") -> None:
        for root in settings.watch_roots:
            require_a_place_of_its_own(settings, root)
        self._database = database
        self._settings = settings
        self._intake = Intake(database, settings, engine_pool)
        self._upkeep = _Upkeep(database, settings, self._rescan)
        self._roots = [
            RootWatch(
                database, settings, root, self._intake,
                unfinished=self._upkeep.unfinished, skipped=self._upkeep.skipped,
            )
            for root in settings.watch_roots
        ]  # fmt: skip

    def run(self, stopping: threading.Event, ready: Callable[[], None]) -> None:
        """Watch until `stopping` is set. Claims that have begun are finished before it returns.

        `ready` is called once every root was listed, or is known to be out of reach.
        """
        self._settings.layout.create()
        if not self._upkeep.recover_at_start(stopping):
            return
        for root in self._roots:
            root.start()
        self._upkeep.start()
        try:
            deadline = time.monotonic() + _FIRST_LISTING_SECONDS
            for root in self._roots:
                while not root.listed.wait(0.1) and time.monotonic() < deadline and not stopping.is_set():
                    continue
            ready()
            stopping.wait()
        finally:
            for root in self._roots:
                root.stop()
            for root in self._roots:
                root.join(_JOIN_SECONDS)
            self._intake.close()
            self._upkeep.stop()

    def status(self) -> list[RootStatus]:
        """How each root is watched now."""
        return [root.status for root in self._roots]

    def _rescan(self) -> None:
        for root in self._roots:
            root.rescan()


class _Upkeep:
    """Claims that wait for better times, the list of skipped files, and forgetting what is long past."""

    def __init__(self, database: Database, settings: Settings, rescan: Callable[[], None]) -> None:
        self._database = database
        self._settings = settings
        self._rescan = rescan
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="watch upkeep", daemon=True)
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._times: dict[str, float] = {"all": 0.0}

    def unfinished(self) -> None:
        """A claim did not come to its end."""
        self._orders.put("recover")

    def skipped(self) -> None:
        """A job was skipped."""
        self._orders.put("skipped")

    def recover_at_start(self, stopping: threading.Event) -> bool:
        """Finish what an earlier run began, before anything is looked at. Waits for the database; False: stopped."""
        while not stopping.is_set():
            try:
                recovery = claim.recover(self._database, self._settings)
            except DatabaseUnavailable as exc:
                log.get().warning("watch_database_unavailable", error=str(exc))
                stopping.wait(_FIRST_RETRY_SECONDS)
            else:
                if recovery.pending:
                    self.unfinished()
                return True
        return False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, with the list of skipped files up to date."""
        self._orders.put("stop")
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            order = self._wait(max(0.0, min(self._times.values()) - now))
            if order == "stop":
                self._guarded("skipped", self._write_skipped) if "skipped" in self._times else None
                return
            if order is not None:
                delay = self._retry_seconds if order == "recover" else _SKIPPED_SECONDS
                self._times.setdefault(order, time.monotonic() + delay)
            for name, work in (("recover", self._recover), ("skipped", self._write_skipped), ("all", self._everything)):
                if self._times.get(name, float("inf")) <= time.monotonic():
                    del self._times[name]
                    self._guarded(name, work)
            self._times.setdefault("all", time.monotonic() + self._settings.ingest.rescan_seconds)

    def _wait(self, seconds: float) -> str | None:
        try:
            return self._orders.get(timeout=seconds)
        except queue.Empty:
            return None

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except IroncladError as exc:
            log.get().warning("watch_upkeep_failed", what=name, error=str(exc))
            self._times.setdefault(name, time.monotonic() + self._retry_seconds)
        except Exception:  # noqa: BLE001 - upkeep goes on with the next thing
            log.get().exception("watch_upkeep_failed", what=name)

    def _recover(self) -> None:
        recovery = claim.recover(self._database, self._settings)
        if recovery.finished:
            self._rescan()
        if recovery.pending:
            # Less and less often, but as often as every root is listed again.
            self._retry_seconds = min(self._retry_seconds * 2, self._settings.ingest.rescan_seconds)
            self._times["recover"] = time.monotonic() + self._retry_seconds
        else:
            self._retry_seconds = _FIRST_RETRY_SECONDS

    def _write_skipped(self) -> None:
        skipped.write(self._database, self._settings.layout)

    def _everything(self) -> None:
        with self._database.session() as session:
            for root in self._settings.watch_roots:
                observations.prune(session, str(absolute(root.path)), moved=root.mode == "move")
        self._write_skipped()
        self._recover()
