"""Whether and when a failed attempt is tried again: a table over every kind of error and every entry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.config import JobSettings
from ironclad.errors import (
    CATALOGUE,
    Cancelled,
    DatabaseUnavailable,
    DiskFull,
    Drained,
    EngineFailed,
    EngineMissing,
    ErrorKind,
    IroncladError,
    NotAudio,
    OutOfMemory,
    Unexpected,
    WorkerLost,
)
from ironclad.jobs.retry import Verdict, counts, decide
from ironclad.jobs.states import JobState

SETTINGS = JobSettings(max_failures=3, backoff_seconds=5, backoff_max_seconds=60)
RETRY, FAILED, CANCELLED = JobState.WAITING_RETRY, JobState.FAILED, JobState.CANCELLED


@pytest.mark.parametrize(
    ("error", "verdicts"),
    [  # the verdicts after 0, 1, 2 and 3 failures before
        (NotAudio(), [(FAILED, 0, 1), (FAILED, 0, 2), (FAILED, 0, 3), (FAILED, 0, 4)]),
        (EngineMissing(), [(FAILED, 0, 1), (FAILED, 0, 2), (FAILED, 0, 3), (FAILED, 0, 4)]),
        (EngineFailed(), [(RETRY, 5, 1), (RETRY, 10, 2), (FAILED, 0, 3), (FAILED, 0, 4)]),
        (OutOfMemory(), [(RETRY, 5, 1), (RETRY, 10, 2), (FAILED, 0, 3), (FAILED, 0, 4)]),
        (Unexpected(), [(RETRY, 5, 1), (RETRY, 10, 2), (FAILED, 0, 3), (FAILED, 0, 4)]),
        (WorkerLost(), [(RETRY, 0, 1), (RETRY, 10, 2), (FAILED, 0, 3), (FAILED, 0, 4)]),
        (DatabaseUnavailable(), [(RETRY, 10, 0), (RETRY, 10, 1), (RETRY, 10, 2), (RETRY, 10, 3)]),
        (DiskFull(), [(RETRY, 10, 0), (RETRY, 10, 1), (RETRY, 10, 2), (RETRY, 10, 3)]),
        (Drained(), [(RETRY, 10, 0), (RETRY, 10, 1), (RETRY, 10, 2), (RETRY, 10, 3)]),
        (Cancelled(), [(CANCELLED, 0, 0), (CANCELLED, 0, 1), (CANCELLED, 0, 2), (CANCELLED, 0, 3)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_table(error: IroncladError, verdicts: list[tuple[JobState, float, int]]) -> None:
    assert [decide(error, failures=n, settings=SETTINGS) for n in range(4)] == [Verdict(*v) for v in verdicts]


def test_the_table_has_every_kind() -> None:
    marks = test_the_table.pytestmark  # type: ignore[attr-defined]  # pytest adds it
    assert {row[0].kind for row in marks[0].args[1]} == set(ErrorKind)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_every_entry_is_decided(entry: type[IroncladError]) -> None:
    verdict = decide(entry(), failures=0, settings=SETTINGS)
    if entry is Cancelled:
        assert verdict.state is CANCELLED
    else:
        assert verdict.state is (RETRY if entry.retryable else FAILED)
    assert verdict.failures == int(counts(entry()))


@given(st.sampled_from(sorted(CATALOGUE)), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_delay_is_never_longer_than_the_longest(code: str, failures: int, most: int) -> None:
    settings = JobSettings(max_failures=most, backoff_seconds=5, backoff_max_seconds=60)
    verdict = decide(CATALOGUE[code](), failures=failures, settings=settings)
    assert 0 <= verdict.delay_seconds <= 60
    assert verdict.failures - failures in {0, 1}
    assert (verdict.state is RETRY) >= (verdict.delay_seconds > 0)


def test_delays_double_up_to_the_longest() -> None:
    settings = JobSettings(max_failures=100, backoff_seconds=5, backoff_max_seconds=60)
    delays = [decide(EngineFailed(), failures=n, settings=settings).delay_seconds for n in range(7)]
    assert delays == [5, 10, 20, 40, 60, 60, 60]
    assert decide(EngineFailed(), failures=98, settings=settings).delay_seconds == 60


def test_a_lowered_limit_does_not_fail_who_only_waits() -> None:
    settings = JobSettings(max_failures=1)
    assert decide(DatabaseUnavailable(), failures=2, settings=settings).state is RETRY
    assert decide(EngineFailed(), failures=0, settings=settings).state is FAILED
