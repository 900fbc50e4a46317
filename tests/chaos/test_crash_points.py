"""Every protocol that touches files: killed, failed, paused, cut off at its system calls. All of it: `make chaos`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaoslab import experiments
from chaoslab.ledger import parts
from chaoslab.protocols import PROTOCOLS

if TYPE_CHECKING:
    from chaoslab.experiments import Tally
    from chaoslab.lab import Laboratory
    from chaoslab.ledger import Ledger

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

SLOW = "song"  # seconds a point: a sample must do
WHOLE_RUNS = ("pipeline", "name-taken", "replace", "recall", "renamed")  # of their pauses, too: each waits for a lease


def _once(ledger: Ledger, matrix: str, name: str, part: int = 0) -> None:
    """A run that was interrupted goes on with what it had not ended."""
    if ledger.has(matrix, name, part):
        pytest.skip(f"{matrix} of {name}, part {part}, is in the ledger")


def _clean(tally: Tally) -> None:
    assert tally.hit == tally.points  # strace that injects nothing says nothing
    assert not tally.violations, "\n".join(tally.violations[:20])


def _parts(matrix: str) -> list[tuple[str, int]]:
    """The longest first, so that no worker is left alone with one at the end."""
    found = [(name, part) for name in PROTOCOLS for part in range(parts(matrix, name))]
    return sorted(found, key=lambda one: -parts(matrix, one[0]))


@pytest.mark.parametrize(("name", "part"), _parts("kill"))
def test_killed_at_every_call(lab: Laboratory, ledger: Ledger, name: str, part: int) -> None:
    _once(ledger, "kill", name, part)
    base = experiments.baseline(lab, name)
    step = 25 if name == SLOW else 1
    tally = experiments.kill(lab, base, base.points[::step][part :: parts("kill", name)])
    tally.part = part
    ledger.add("kill", tally)
    _clean(tally)


@pytest.mark.parametrize(("name", "part"), _parts("errno"))
def test_every_call_fails_once(lab: Laboratory, ledger: Ledger, name: str, part: int) -> None:
    _once(ledger, "errno", name, part)
    base = experiments.baseline(lab, name)
    cases = experiments.errno_cases(base.points)[:: 60 if name == SLOW else 1]
    tally = experiments.fail(lab, base, cases[part :: parts("errno", name)])
    tally.part = part
    ledger.add("errno", tally)
    _clean(tally)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_paused_past_the_lease(lab: Laboratory, ledger: Ledger, name: str) -> None:
    _once(ledger, "pause", name)
    base = experiments.baseline(lab, name)
    step = 60 if name == SLOW else 11 if name in WHOLE_RUNS else 2
    tally = experiments.pause(lab, base, base.points[::step])
    ledger.add("pause", tally)
    _clean(tally)


# A real song's trace lacks what decoders and encoders write; the made-up stages tell the recorder.
@pytest.mark.parametrize("name", [name for name in PROTOCOLS if not PROTOCOLS[name].real])
def test_power_lost_at_every_instant(lab: Laboratory, ledger: Ledger, name: str) -> None:
    _once(ledger, "power", name)
    tally = experiments.power_loss(lab, name)
    ledger.add("power", tally)
    assert tally.points >= 5
    _clean(tally)
