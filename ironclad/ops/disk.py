"""The disk floor: with less free space nothing new starts, and work resumes by itself.

This keeps the switch that the dispatcher and every claim obey. What one job or one copy needs is asked where it begins
(`stages/room.py`, `ingest/claim.py`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ironclad import durable
from ironclad.errors import DiskFull, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.jobs.notices import Notice
    from ironclad.layout import Layout
    from ironclad.ops.health import HealthBoard
    from ironclad.ops.metrics import Metrics

HYSTERESIS: Final = 1.1
"""Work resumes at this multiple of the floor: at the floor itself it would flutter with each file."""
_CHECK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Space:
    """Free bytes where the tightest of the data folder's file systems has them."""

    path: Path
    free_bytes: int
    floor_bytes: int

    def low(self, *, was_low: bool = False) -> bool:
        """Whether nothing new may start."""
        limit = self.floor_bytes * HYSTERESIS if was_low else self.floor_bytes
        return self.free_bytes < limit


def space(layout: Layout, floor_bytes: int) -> Space:
    """Look at every folder that work writes to; each may be a mount of its own."""
    folders = (layout.work, layout.archive, layout.output, layout.root)
    free = {folder: durable.free_bytes(folder) for folder in folders}
    tightest = min(folders, key=free.__getitem__)
    return Space(tightest, free[tightest], floor_bytes)


class DiskFloor:
    """Keeps the switch `disk` in the database in step with the disk. One per installation: the leading dispatcher's.

    Args:
        settings: the floor and the folders.
        database: where the switch is.
        health: where component `disk` is reported.
        metrics: free and floor bytes.
        measure: looks at the disk.
        clock: seconds that never go back.
    """

    def __init__(
        self, settings: Settings, database: Database, health: HealthBoard, metrics: Metrics, *,
        measure: Callable[[Layout, int], Space] = space, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._database = database
        self._health = health
        self._metrics = metrics
        self._measure = measure
        self._clock = clock
        self._low: bool | None = None
        self._next_look = float("-inf")

    @property
    def low(self) -> bool:
        """Whether nothing new may start, as of the last look."""
        return bool(self._low)

    def step(self) -> None:
        """Look at the disk if it is time. A disk that does not say how full it is leaves the switch as it is.

        Raises:
            DatabaseUnavailable: the switch cannot be written.
        """
        from ironclad.jobs import control, notices  # noqa: PLC0415 - 20 MB that those who only look do without

        now = self._clock()
        if now < self._next_look:
            return
        try:
            found = self._measure(self._settings.layout, self._settings.disk.min_free_bytes)
            inodes = durable.free_inodes(found.path)
        except StorageError as exc:
            self._next_look = now + _CHECK_SECONDS
            self._health.failed("disk", exc.detail, exc.hint)
            return
        if self._low is None:
            with self._database.session() as session:
                self._low = bool(control.switch(session, control.DISK).get("low"))
        low = found.low(was_low=self._low)
        if low != self._low:
            with self._database.session() as session:
                value = {"low": low, "path": found.path, "free_bytes": found.free_bytes, "floor": found.floor_bytes}
                control.set_switch(session, control.DISK, value)
                notices.publish(session, _notice(found, low=low))
            self._low = low
        self._next_look = now + _CHECK_SECONDS
        self._metrics.gauge("ironclad_disk_free_bytes").set(found.free_bytes)
        self._metrics.gauge("ironclad_disk_floor_bytes").set(found.floor_bytes)
        self._metrics.gauge("ironclad_disk_free_inodes").set(math.inf if inodes is None else inodes)
        if low:
            detail = f"{found.path} has {found.free_bytes} bytes free, fewer than {found.floor_bytes}"
            self._health.degraded("disk", detail, DiskFull.hint)
        else:
            self._health.ok("disk")


def _notice(found: Space, *, low: bool) -> Notice:
    from ironclad.jobs import notices  # noqa: PLC0415 - likewise

    detail = f"{found.path} has {found.free_bytes:,} bytes free; the floor is {found.floor_bytes:,}."
    data = {"code": DiskFull.code, "what": DiskFull.what(), "detail": detail, "hint": DiskFull.hint}
    return notices.Notice(
        "disk_low", "disk", notices.Status.FIRING if low else notices.Status.RESOLVED, data=data
    )  # fmt: skip
