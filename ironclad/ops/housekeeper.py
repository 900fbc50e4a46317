"""Setting leftovers aside, pruning and backing up: the work of the scheduled flow `maintenance`, and its understudy.

The schedule is Prefect's (`ironclad_flows.executor` deploys it). A pool that is paused, and below the disk floor all
are, hands out no runs: then, when a backup is due, or when Prefect has been away for long, the dispatcher does it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad import log
from ironclad.db.embedded import EmbeddedServer
from ironclad.errors import AlreadyRunning, DatabaseUnavailable, IroncladError
from ironclad.jobs import control, notices
from ironclad.ops import backup, health_log, orphans, prune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.config import Settings
    from ironclad.db.session import Database

SWITCH: Final = "maintenance"
"""The name of the switch that remembers the last round."""
_LOOK_SECONDS: Final = 60.0
_START_SECONDS: Final = 600.0
"""After a restart there is more important work, and the flow may be about to run."""
_LOW_HOURS: Final = 0.25
_OVERDUE: Final = 2.0
_FIXED: Final = frozenset({orphans.Kind.UNFINISHED, orphans.Kind.MISPLACED})
_LOCK: Final = sa.text("SELECT pg_try_advisory_lock(hashtextextended('ironclad maintenance', 2))")
_UNLOCK: Final = sa.text("SELECT pg_advisory_unlock(hashtextextended('ironclad maintenance', 2))")
_AGE: Final = sa.text("SELECT extract(epoch FROM ironclad_now() - updated_at) FROM control WHERE name = :name")


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did."""

    set_aside: int
    pruned: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return asdict(self)


def tidy(database: Database, settings: Settings) -> Round | None:
    """Set leftovers of crashes aside, prune, back up if that is due. None, with nothing done, while another does it.

    What cannot be moved or deleted keeps nothing else from being done. Raises the first such error (the catalogue's, or
    `OSError`) at the end, and `DatabaseUnavailable` at once; the next round goes on.
    """
    problems = _Problems()
    with _alone(database) as alone:
        if not alone:
            return None
        fixed = 0
        with problems.kept():
            for one in orphans.find(database, settings):
                if one.kind in _FIXED:
                    with problems.kept():
                        orphans.fix(database, settings, one)
                        fixed += 1
        count = size = 0
        with problems.kept():
            count, size = prune.run(database, settings, around=problems.kept)
        with database.session() as session:
            health_log.prune(session)
        with problems.kept():
            _back_up(database, settings)
        done = Round(fixed, count, size)
        with database.session() as session:
            control.set_switch(session, SWITCH, done.to_dict())
    log.get(component="housekeeper").info("housekeeping_done", **done.to_dict(), problems=len(problems.found))
    if problems.found:
        raise problems.found[0]
    return done


class _Problems:
    """Errors of parts of a round."""

    def __init__(self) -> None:
        self.found: list[IroncladError | OSError] = []

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep an error for later; one of the database ends the round."""
        try:
            yield
        except DatabaseUnavailable:
            raise
        except (IroncladError, OSError) as exc:
            log.get(component="housekeeper").warning("housekeeping_hindered", error=str(exc))
            self.found.append(exc)


def _back_up(database: Database, settings: Settings) -> None:
    if not backup.due(settings):
        return
    try:
        with backup.alone(settings):
            path = backup.dump(settings, database)
            gone = backup.prune(settings)
    except AlreadyRunning:  # another backup, or a drill: no failure to wake anybody for, the next round looks again
        raise
    except (IroncladError, OSError) as exc:
        data = {"detail": str(exc), **({"code": exc.code} if isinstance(exc, IroncladError) else {})}
        with database.session() as session:
            notices.publish(session, notices.Notice("backup_failed", "backup", data=data))
        raise
    with database.session() as session:
        notices.resolve(session, "backup", detail=f"{path.name} was made.")
    log.get(component="housekeeper").info("backup_made", dump=path.name, pruned=len(gone))


@contextlib.contextmanager
def _alone(database: Database) -> Iterator[bool]:
    """Whether this is the only round now. No transaction is open meanwhile: the server would end it as idle."""
    with database.connection() as connection:
        held = bool(connection.scalar(_LOCK))
        connection.commit()
        try:
            yield held
        finally:
            if held:
                connection.execute(_UNLOCK)
                connection.commit()


def since_last(database: Database) -> float | None:
    """Seconds since the last round ended; None if there was none."""
    with database.session() as session:
        age = session.scalar(_AGE, {"name": SWITCH})
    return None if age is None else float(age)


class Housekeeper:
    """Does the round where the flow cannot. Call `step` often; one per installation, beside the leading dispatcher.

    Args:
        database: where the jobs are.
        settings: the rules.
        clock: seconds that never go back.
    """

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._begun = clock()
        self._next = self._begun
        self._round: threading.Thread | None = None

    def step(self, *, low: bool = False) -> bool:
        """Begin a round if the flow's is overdue, or (`low`) if the disk is; returns whether one began."""
        if self._settings.database_url is None:
            EmbeddedServer(self._settings.layout.postgres).tidy()  # costs a look at the file's size
        if self._clock() < self._next or (self._round is not None and self._round.is_alive()):
            return False
        running = self._clock() - self._begun
        self._next = self._clock() + _LOOK_SECONDS
        if not low and running < _START_SECONDS:
            return False
        if running >= _START_SECONDS and backup.due(self._settings):
            return self._begin()
        age = since_last(self._database)
        every = self._settings.prune.every_hours
        hours = min(_LOW_HOURS, every) if low else every * _OVERDUE
        # Never yet: the first round of a new installation is the flow's, unless the disk is full.
        if not (low and age is None) and (running if age is None else age) < hours * 3600.0:
            return False
        return self._begin()

    def _begin(self) -> bool:
        self._round = threading.Thread(target=self._tidy, name="housekeeper", daemon=True)
        self._round.start()
        return True

    def wait(self, seconds: float) -> None:
        """Wait for the round that is under way."""
        if self._round is not None:
            self._round.join(seconds)

    def _tidy(self) -> None:
        try:
            tidy(self._database, self._settings)
        except (IroncladError, OSError) as exc:
            log.get(component="housekeeper").warning("housekeeping_failed", error=str(exc))
            self._next = self._clock() + _LOW_HOURS * 3600.0
