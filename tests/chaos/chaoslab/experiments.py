"""The matrices: every point of a protocol killed, failed with each errno, or paused past its lease."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaoslab import invariants, power
from chaoslab.protocols import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chaoslab.invariants import End
    from chaoslab.lab import Laboratory, Point

_DISK = ("ENOSPC", "EIO", "EACCES", "ESTALE")
ERRNOS = {
    "openat": (*_DISK, "EMFILE"), "write": ("ENOSPC", "EIO", "ESTALE"), "pwrite64": ("ENOSPC", "EIO"),
    "fsync": ("EIO", "ENOSPC", "ESTALE"), "fdatasync": ("EIO",), "rename": (*_DISK, "EXDEV"),
    "renameat": (*_DISK, "EXDEV"), "renameat2": (*_DISK, "EXDEV"), "link": (*_DISK, "EXDEV"),
    "linkat": (*_DISK, "EXDEV"), "unlink": ("EIO", "EACCES", "ESTALE"), "unlinkat": ("EIO", "EACCES"),
    "rmdir": ("EIO",), "ftruncate": ("EIO",), "mkdir": _DISK, "mkdirat": _DISK,
}  # fmt: skip
"""What each call can say on a full, broken, foreign or vanished file system."""
PARTS = {"pipeline": 8, "name-taken": 8, "replace": 8, "recall": 8, "renamed": 8, "skip": 2}
"""Into how many parts the kills and errors of a long protocol are cut: an interrupted run loses one part at most."""


@dataclass
class Tally:
    """What came of one matrix of one protocol."""

    protocol: str
    part: int = 0
    points: int = 0
    hit: int = 0
    """Kills, injected errors or pauses that took place."""
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def line(self) -> str:
        """For people."""
        return (
            f"{self.protocol:14} points {self.points:5}  hit {self.hit:5}  violations {len(self.violations):3}  "
            f"{self.seconds:6.1f} s"
        )


@dataclass(frozen=True, slots=True)
class Baseline:
    """An undisturbed run: its points and how it ends."""

    protocol: str
    points: Sequence[Point]
    end: End


def baseline(lab: Laboratory, name: str) -> Baseline:
    """Run a protocol undisturbed, twice: the first run also warms caches that open files."""
    protocol = PROTOCOLS[name]
    lab.world.real = protocol.real
    points = lab.points(name)
    again = lab.points(name)
    if [(p.call, p.number) for p in points] != [(p.call, p.number) for p in again]:
        points = again
    lab.recover(name)
    end = invariants.end(lab.world)
    bad = invariants.at_the_end(lab.world, protocol, end)
    if bad:
        raise AssertionError(f"{name} does not even work undisturbed: {bad}")
    return Baseline(name, points, end)


def kill(lab: Laboratory, base: Baseline, points: Iterable[Point]) -> Tally:
    """SIGKILL at each point; then the invariants, the recovery, and the invariants of the end."""
    tally, begun = Tally(base.protocol), time.monotonic()
    for point in points:
        tally.points += 1
        status = lab.act(base.protocol, f"{point.call}:signal=SIGKILL:when={point.number}")
        tally.hit += status == -9
        _judge(lab, base, tally, f"killed at {point.call} {point.number}")
    tally.seconds = time.monotonic() - begun
    return tally


def fail(lab: Laboratory, base: Baseline, cases: Iterable[tuple[Point, str]]) -> Tally:
    """Let each call fail once with an errno; then as in `kill`."""
    tally, begun = Tally(base.protocol), time.monotonic()
    for point, error in cases:
        tally.points += 1
        lab.act(base.protocol, f"{point.call}:error={error}:when={point.number}")
        tally.hit += lab.injected()
        _judge(lab, base, tally, f"{error} at {point.call} {point.number}")
    tally.seconds = time.monotonic() - begun
    return tally


def pause(lab: Laboratory, base: Baseline, points: Iterable[Point]) -> Tally:
    """Stop the process at each point until its lease has run out and another attempt has done the job; wake it."""
    tally, begun = Tally(base.protocol), time.monotonic()
    for point in points:
        tally.points += 1
        tally.hit += lab.pause(base.protocol, point)
        _judge(lab, base, tally, f"paused at {point.call} {point.number}")
    tally.seconds = time.monotonic() - begun
    return tally


def errno_cases(points: Iterable[Point]) -> list[tuple[Point, str]]:
    """Each point with each errno that its call can give."""
    return [(point, error) for point in points for error in ERRNOS.get(point.call, ())]


def _judge(lab: Laboratory, base: Baseline, tally: Tally, where: str) -> None:
    protocol = PROTOCOLS[base.protocol]
    found = [f"{base.protocol}, {where}: {bad}" for bad in invariants.always(lab.world, protocol, base.end.known)]
    try:
        lab.recover(base.protocol)
    except AssertionError as exc:
        found.append(f"{base.protocol}, {where}: {exc}")
    found += [
        f"{base.protocol}, {where}, after recovery: {bad}"
        for bad in invariants.at_the_end(lab.world, protocol, base.end)
    ]
    tally.violations += found


def power_loss(lab: Laboratory, name: str) -> Tally:
    """Every state that a power cut may leave during one run."""
    tally, begun = Tally(name), time.monotonic()
    trace = lab.record(name)
    for state in power.states(trace):
        tally.points += 1
        tally.violations += [f"{name}, power lost at {state.instant}: {bad}" for bad in power.violations(trace, state)]
    tally.hit = tally.points
    tally.seconds = time.monotonic() - begun
    return tally
