"""Whether and when a failed attempt is tried again, by the kind of error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ironclad.errors import Cancelled, ErrorKind, IroncladError
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from ironclad.config import JobSettings

# Waiting for the world to get better is not the file's fault: these never use up its failures.
_FREE: Final = frozenset({ErrorKind.DEPENDENCY, ErrorKind.CONTROL})
_FREE_CODES: Final = frozenset({"E_DISK_FULL"})
_MOST_DOUBLINGS: Final = 40  # more than any delay needs, and 2 ** 40 is still a float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows a failure."""

    state: JobState
    delay_seconds: float
    failures: int


def counts(error: IroncladError) -> bool:
    """Whether this error uses up one of the job's failures."""
    return error.kind not in _FREE and error.code not in _FREE_CODES


def decide(error: IroncladError, *, failures: int, settings: JobSettings) -> Verdict:
    """The state after an attempt failed with `error`, and the delay in seconds before the next one.

    Args:
        error: what happened.
        failures: failures of this job before this one.
        settings: limits and delays.
    """
    if isinstance(error, Cancelled):
        return Verdict(JobState.CANCELLED, 0.0, failures)
    total = failures + (1 if counts(error) else 0)
    if not error.retryable or (counts(error) and total >= settings.max_failures):
        return Verdict(JobState.FAILED, 0.0, total)
    if error.kind is ErrorKind.WORKER and total == 1:
        return Verdict(JobState.WAITING_RETRY, 0.0, total)  # a killed worker says nothing about the file
    # A wait that costs nothing has no count to grow by: it stays at twice the first delay.
    exponent = min(max(0, total - 1), _MOST_DOUBLINGS) if counts(error) else 1
    delay = min(settings.backoff_seconds * 2**exponent, settings.backoff_max_seconds)
    return Verdict(JobState.WAITING_RETRY, delay, total)
