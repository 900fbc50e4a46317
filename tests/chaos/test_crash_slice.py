"""Another part of the laboratory's points every day, in under a minute; `make chaos` runs them all."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from typing import TYPE_CHECKING, TypeVar

import pytest
from chaoslab import experiments
from chaoslab.protocols import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chaoslab.lab import Laboratory
    from chaoslab.ledger import Ledger

T = TypeVar("T")
pytestmark = [pytest.mark.xdist_group("laboratory"), pytest.mark.timeout(900)]
BUDGET = 3.0  # seconds a protocol and matrix
TODAY = dt.datetime.now(tz=dt.UTC).date().toordinal()
# One claim, one whole run and one ending, turning from day to day.
TURNS = (
    ("claim-move", "claim-across", "claim-copy", "claim-link", "write-atomic"),
    ("pipeline", "name-taken", "replace", "recall", "renamed"),
    ("file-failed", "skip", "tidy"),
)


def _names() -> list[str]:
    return [turn[TODAY % len(turn)] for turn in TURNS]


def _part(count: int) -> slice:
    step = max(1, count // 8)
    return slice(TODAY % step, None, step)


def _for_a_while(items: Sequence[T]) -> Iterator[T]:
    until = time.monotonic() + BUDGET
    return itertools.chain(items[:1], itertools.takewhile(lambda _: time.monotonic() < until, items[1:]))


@pytest.mark.parametrize("matrix", ["kill", "errno", "pause"])
def test_todays_points(lab: Laboratory, ledger: Ledger, matrix: str) -> None:
    for name in _names():
        base = experiments.baseline(lab, name)
        if matrix == "errno":
            cases = experiments.errno_cases(base.points)
            tally = experiments.fail(lab, base, _for_a_while(cases[_part(len(cases))]))
        else:
            run = experiments.kill if matrix == "kill" else experiments.pause
            tally = run(lab, base, _for_a_while(base.points[_part(len(base.points))]))
        ledger.add(matrix, tally)
        assert tally.hit == tally.points
        assert not tally.violations, "\n".join(tally.violations[:20])
        assert tally.points


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if not PROTOCOLS[name].real])
def test_power_lost_at_every_instant_of(lab: Laboratory, ledger: Ledger, name: str) -> None:
    tally = experiments.power_loss(lab, name)
    ledger.add("power", tally)
    assert tally.points >= 5
    assert not tally.violations, "\n".join(tally.violations[:20])


def test_the_recording_is_complete(lab: Laboratory) -> None:
    """The kernel saw no rename, link or flush on our files that `durable.recording()` did not: the model is whole."""
    for name in ("claim-across", "claim-link", "file-failed", "write-atomic"):
        seen = [point.call for point in lab.points(name)]
        noted = [effect.op for effect in lab.record(name).effects]
        assert sum(call.startswith("rename") for call in seen) >= noted.count("rename") > 0 or name == "claim-link"
        renames = sum(call.startswith("rename") for call in seen)
        failed = 1 if name == "claim-across" else 0  # the first rename says EXDEV
        assert renames - failed == noted.count("rename")
        assert sum(call in {"link", "linkat"} for call in seen) == noted.count("link")
        assert seen.count("fsync") == noted.count("fsync") + noted.count("fsync_dir")
