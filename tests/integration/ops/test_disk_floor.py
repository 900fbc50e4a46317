"""The disk floor: the switch in the database follows the disk, and work stops and resumes by itself."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from ironclad.errors import DatabaseUnavailable, StorageError
from ironclad.jobs import control
from ironclad.ops.disk import DiskFloor, Space, space
from ironclad.ops.health import HealthBoard, Status
from ironclad.ops.metrics import Metrics

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.layout import Layout

FLOOR = 1_000_000


class Disk:
    """A disk of any size, and a clock."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.now = 0.0

    def measure(self, layout: Layout, floor: int) -> Space:
        return Space(layout.work, self.free, floor)

    def clock(self) -> float:
        self.now += 60.0
        return self.now


def reason(database: Database) -> str | None:
    with database.session() as session:
        return control.pause_reason(session, "cpu")


@pytest.fixture
def health() -> HealthBoard:
    return HealthBoard()


def floor(settings: Settings, database: Database, health: HealthBoard, disk: Disk) -> DiskFloor:
    metrics = Metrics("dispatch", process=False)
    return DiskFloor(settings, database, health, metrics, measure=disk.measure, clock=disk.clock)


def test_nothing_starts_below_the_floor_and_everything_resumes_above(
    settings: Settings, database: Database, health: HealthBoard
) -> None:
    disk = Disk(FLOOR + 1)
    guard = floor(settings, database, health, disk)
    guard.step()
    assert reason(database) is None
    disk.free = FLOOR - 1
    guard.step()
    assert reason(database) == "the disk is almost full"
    (component,) = health.components()
    assert component.status is Status.DEGRADED
    assert component.remedy
    disk.free = FLOOR + 1  # above the floor, but not clearly
    guard.step()
    assert reason(database) is not None
    disk.free = 2 * FLOOR
    guard.step()
    assert reason(database) is None
    assert health.worst is Status.OK


def test_a_new_dispatcher_takes_over_the_switch_of_the_last_one(
    settings: Settings, database: Database, health: HealthBoard
) -> None:
    disk = Disk(FLOOR - 1)
    floor(settings, database, health, disk).step()
    disk.free = 2 * FLOOR
    floor(settings, database, health, disk).step()
    assert reason(database) is None


def test_what_could_not_be_written_is_written_at_the_next_look(
    settings: Settings, database: Database, health: HealthBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(FLOOR + 1)
    guard = floor(settings, database, health, disk)
    guard.step()
    disk.free = 0
    with monkeypatch.context() as patch:
        patch.setattr(database, "session", _away)
        with pytest.raises(DatabaseUnavailable):
            guard.step()
    assert reason(database) is None
    guard.step()
    assert reason(database) is not None


def test_a_disk_that_does_not_say_leaves_the_switch_and_is_visible(
    settings: Settings, database: Database, health: HealthBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = 1 << 60
    metrics = Metrics("dispatch", process=False)
    guard = DiskFloor(
        settings, database, health, metrics, clock=Disk(0).clock, measure=lambda layout, _floor: space(layout, wanted)
    )  # fmt: skip
    guard.step()
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", _broken)
        guard.step()
    (component,) = health.components()
    assert (component.status, component.remedy) == (Status.FAILED, StorageError.hint)
    assert "the disk is away" in component.detail
    assert reason(database) == "the disk is almost full"
    wanted = 1
    guard.step()
    assert reason(database) is None
    assert health.worst is Status.OK


def _broken(_path: object) -> None:
    raise OSError(errno.EIO, "the disk is away")


def _away() -> None:
    raise DatabaseUnavailable("gone")


def test_the_tightest_of_the_folders_counts(settings: Settings) -> None:
    found = space(settings.layout, 1)
    assert found.free_bytes > 0
    assert not found.low()
    assert space(settings.layout, found.free_bytes * 2).low()
