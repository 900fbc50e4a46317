"""Whose kill for memory it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ironclad.engines.oom import RECENT_SECONDS, OomWatch, control_groups

if TYPE_CHECKING:
    from pathlib import Path

PID = 42
V1 = "3:cpuset:/\n4:cpu,memory:/slice/unit\n0::/other\n"
V2 = "0::/slice/unit\n"


class World:
    """A machine's counters in files, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.cgroups = folder / "proc", folder / "cgroup"
        (self.proc / str(PID)).mkdir(parents=True)
        self.now = 1000.0
        self.machine(0)

    def watch(self) -> OomWatch:
        return OomWatch(PID, proc=self.proc, cgroups=self.cgroups, clock=lambda: self.now)

    def lives(self, watch: OomWatch, seconds: float) -> None:
        """The process goes on, and is looked after."""
        for _ in range(int(seconds * 5)):
            self.now += 0.2
            watch.look()

    def inside(self, groups: str) -> None:
        (self.proc / str(PID) / "cgroup").write_text(groups, encoding="utf-8")

    def machine(self, kills: int) -> None:
        self._count(self.proc / "vmstat", kills)

    def group(self, file: str, kills: int) -> None:
        self._count(self.cgroups / file, kills)

    @staticmethod
    def _count(file: Path, kills: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"low 7\noom_kill {kills}\noom 9\n", encoding="ascii")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        (V1, "memory/slice/unit/memory.oom_control"), (V2, "slice/unit/memory.events"),
        (V1, "memory/memory.oom_control"), (V2, "memory.events"),
    ],
    ids=["version 1", "version 2", "version 1 in a container", "version 2 in a container"],
)  # fmt: skip
def test_only_the_kills_of_the_processs_own_group_are_its_own(world: World, groups: str, file: str) -> None:
    """A container sees its group where all of them are mounted."""
    world.inside(groups)
    world.group(file, 3)
    watch = world.watch()
    world.machine(5)  # somebody else was killed
    assert not watch.killed()
    world.group(file, 4)
    assert watch.killed()


@pytest.mark.parametrize("groups", [V1, V2, "", "nonsense"])
def test_without_a_counter_of_the_group_the_machines_tells(world: World, groups: str) -> None:
    world.inside(groups)
    world.machine(3)
    watch = world.watch()
    assert not watch.killed()
    world.machine(4)
    assert watch.killed()


def test_a_kill_that_the_process_outlived_was_not_its_own(world: World) -> None:
    watch = world.watch()
    world.lives(watch, 3)
    world.machine(1)
    assert watch.killed()  # it may be: a process takes its time to go
    world.lives(watch, RECENT_SECONDS + 2)
    assert not watch.killed()
    world.machine(2)
    assert watch.killed()


def test_a_host_that_nobody_looked_after_may_have_been_killed_at_any_time(world: World) -> None:
    watch = world.watch()
    world.lives(watch, 30)
    world.machine(1)
    world.now += 3600  # it lay idle
    watch.look()
    assert watch.killed()


def test_a_process_may_be_put_into_another_group(world: World) -> None:
    world.inside(V2)
    world.group("slice/unit/memory.events", 0)
    world.group("small/memory.events", 8)
    watch = world.watch()
    world.lives(watch, 2)
    world.inside("0::/small\n")
    world.lives(watch, 2)
    assert not watch.killed()  # what was counted there before is none of it
    world.group("small/memory.events", 9)
    assert watch.killed()


def test_a_process_that_goes_is_in_no_group_any_more(world: World) -> None:
    world.inside(V1)
    world.group("memory/slice/unit/memory.oom_control", 0)
    world.group("memory/memory.oom_control", 0)
    watch = world.watch()
    world.lives(watch, 2)
    world.group("memory/slice/unit/memory.oom_control", 1)
    world.inside("4:memory:/\n")  # so the kernel says of one that is about to end
    world.lives(watch, 2)
    assert watch.killed()


def test_without_counters_nothing_is_claimed(world: World) -> None:
    watch = world.watch()
    (world.proc / "vmstat").write_text("oom_kill many\n", encoding="ascii")
    assert not watch.killed()
    (world.proc / "vmstat").unlink()
    assert not watch.killed()
    assert not world.watch().killed()
    assert control_groups(PID, world.proc) == {}
