"""The laboratory finds bugs that were put in on purpose, or its silence would mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaoslab import experiments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaoslab.lab import Laboratory, Point
    from chaoslab.ledger import Ledger

pytestmark = [pytest.mark.xdist_group("laboratory"), pytest.mark.timeout(900)]


@pytest.fixture
def mutated(lab: Laboratory) -> Iterator[Laboratory]:
    yield lab
    lab.world.mutant = ""


def _in_library(lab: Laboratory, points: list[Point]) -> list[Point]:
    return [point for point in points if f"{lab.world.root}/output" in point.text]


@pytest.mark.parametrize("mutant", ["no-file-fsync", "no-folder-fsync", "commit-before-publish", "in-place-write"])
def test_the_power_loss_model_finds(mutated: Laboratory, ledger: Ledger, mutant: str) -> None:
    mutated.world.mutant = mutant
    tally = experiments.power_loss(mutated, "pipeline")
    assert tally.violations
    ledger.caught(f"{mutant} (power)", "power", tally.points, len(tally.violations))


@pytest.mark.parametrize(
    ("mutant", "protocol", "calls"),
    [
        ("commit-before-publish", "pipeline", {"renameat2", "fsync"}),
        ("in-place-write", "pipeline", {"write", "fsync"}),
        ("removal-before-record", "renamed", {"fsync"}),
        ("source-removed-first", "claim-across", {"openat", "write", "fsync", "unlink"}),
    ],
)
def test_kill_finds(mutated: Laboratory, ledger: Ledger, mutant: str, protocol: str, calls: set[str]) -> None:
    base = experiments.baseline(mutated, protocol)
    mutated.world.mutant = mutant
    points = [point for point in mutated.points(protocol) if point.call in calls]
    in_library = _in_library(mutated, points)
    chosen = {"pipeline": in_library[:6], "renamed": in_library[-6:]}.get(protocol, points)
    tally = experiments.kill(mutated, base, chosen)
    assert tally.violations
    ledger.caught(mutant, "kill", tally.points, len(tally.violations))


def test_a_pause_finds_an_unfenced_finish(mutated: Laboratory, ledger: Ledger) -> None:
    base = experiments.baseline(mutated, "file-failed")
    mutated.world.mutant = "unfenced-finish"
    tally = experiments.pause(mutated, base, [p for p in base.points if p.call == "sendto"][::3])
    assert tally.violations
    ledger.caught("unfenced-finish", "pause", tally.points, len(tally.violations))
