"""Pruning and setting leftovers aside, once in a while, beside the dispatcher's work and never in its way."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ironclad import log
from ironclad.db.embedded import EmbeddedServer
from ironclad.errors import IroncladError
from ironclad.jobs import notices
from ironclad.ops import backup, health_log, orphans, prune

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings
    from ironclad.db.session import Database


class Housekeeper:
    """Call `step` often; every `prune.every_hours` it does a round in a thread of its own. One per installation.

    Args:
        database: where the jobs are.
        settings: the rules.
        clock: seconds that never go back.
    """

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        # Not at once: after a restart there is more important work.
        self._next = clock() + min(600.0, settings.prune.every_hours * 3600.0)
        self._round: threading.Thread | None = None

    def step(self) -> bool:
        """Begin a round if it is time and none is under way; returns whether one began."""
        if self._settings.database_url is None:
            EmbeddedServer(self._settings.layout.postgres).tidy()  # costs a look at the file's size
        if self._clock() < self._next or (self._round is not None and self._round.is_alive()):
            return False
        self._next = self._clock() + self._settings.prune.every_hours * 3600.0
        self._round = threading.Thread(target=self.round, name="housekeeper", daemon=True)
        self._round.start()
        return True

    def wait(self, seconds: float) -> None:
        """Wait for the round that is under way."""
        if self._round is not None:
            self._round.join(seconds)

    def round(self) -> None:
        """Set leftovers of crashes aside, then prune, then dump the database if that is due. Failures are logged."""
        logger = log.get(component="housekeeper")
        try:
            found = [one for one in orphans.find(self._database, self._settings) if one.kind in _FIXED]
            for one in found:
                orphans.fix(self._database, self._settings, one)
            count, size = prune.run(self._database, self._settings)
            with self._database.session() as session:
                health_log.prune(session)
            logger.info("housekeeping_done", set_aside=len(found), pruned=count, bytes=size)
            self._back_up()
        except (IroncladError, OSError) as exc:
            logger.warning("housekeeping_failed", error=str(exc))

    def _back_up(self) -> None:
        if not backup.due(self._settings):
            return
        try:
            with backup.alone(self._settings):
                path = backup.dump(self._settings, self._database)
                gone = backup.prune(self._settings)
        except (IroncladError, OSError) as exc:
            data = {"detail": str(exc), **({"code": exc.code} if isinstance(exc, IroncladError) else {})}
            with self._database.session() as session:
                notices.publish(session, notices.Notice("backup_failed", "backup", data=data))
            raise
        with self._database.session() as session:
            notices.resolve(session, "backup", detail=f"{path.name} was made.")
        log.get(component="housekeeper").info("backup_made", dump=path.name, pruned=len(gone))


_FIXED = frozenset({orphans.Kind.UNFINISHED, orphans.Kind.MISPLACED})
