"""Every protocol that touches files: killed, failed, paused, cut off at its system calls. All of it: `make chaos`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaoslab import experiments
from chaoslab.protocols import PROTOCOLS

if TYPE_CHECKING:
    from chaoslab.experiments import Tally
    from chaoslab.lab import Laboratory
    from chaoslab.ledger import Ledger

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

# These four run the same stages around what is their own, so every second or fourth point of them is enough.
COUSINS = ("name-taken", "replace", "recall")
SLOW = "song"  # seconds a point: a sample must do
WHOLE_RUNS = ("pipeline", *COUSINS)


def _once(ledger: Ledger, matrix: str, name: str) -> None:
    """A run that was interrupted goes on with what it had not ended."""
    if ledger.has(matrix, name):
        pytest.skip(f"{matrix} of {name} is in the ledger")


def _clean(tally: Tally) -> None:
    assert not tally.violations, "\n".join(tally.violations[:20])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_killed_at_every_call(lab: Laboratory, ledger: Ledger, name: str) -> None:
    _once(ledger, "kill", name)
    base = experiments.baseline(lab, name)
    step = 25 if name == SLOW else 2 if name in COUSINS else 1
    tally = experiments.kill(lab, base, base.points[::step])
    ledger.add("kill", tally)
    assert tally.hit == tally.points  # strace that injects nothing says nothing
    _clean(tally)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_call_fails_once(lab: Laboratory, ledger: Ledger, name: str) -> None:
    _once(ledger, "errno", name)
    base = experiments.baseline(lab, name)
    cases = experiments.errno_cases(base.points)
    step = 60 if name == SLOW else 5 if name in COUSINS else 2 if name == "pipeline" else 1
    tally = experiments.fail(lab, base, cases[WHOLE_RUNS.index(name) if name in COUSINS else 0 :: step])
    ledger.add("errno", tally)
    assert tally.hit == tally.points
    _clean(tally)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_paused_past_the_lease(lab: Laboratory, ledger: Ledger, name: str) -> None:
    _once(ledger, "pause", name)
    base = experiments.baseline(lab, name)
    step = 60 if name == SLOW else 11 if name in WHOLE_RUNS else 2
    tally = experiments.pause(lab, base, base.points[::step])
    ledger.add("pause", tally)
    assert tally.hit == tally.points
    _clean(tally)


# A real song's trace lacks what decoders and encoders write; the made-up stages tell the recorder.
@pytest.mark.parametrize("name", [name for name in PROTOCOLS if not PROTOCOLS[name].real])
def test_power_lost_at_every_instant(lab: Laboratory, ledger: Ledger, name: str) -> None:
    _once(ledger, "power", name)
    tally = experiments.power_loss(lab, name)
    ledger.add("power", tally)
    assert tally.points >= 5
    _clean(tally)
