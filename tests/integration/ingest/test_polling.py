"""What a polled root believes of a file that it sees late, and who goes first when very many come at once."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.config import WatchRoot
from ironclad.ingest import root as module
from ironclad.ingest.intake import _PATIENCE_SECONDS, Candidate, Intake
from ironclad.ingest.places import split
from ironclad.ingest.root import RootWatch
from ironclad.ingest.scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.ingest.claim import Outcome

    Bench = Any  # conftest's

GAP = 0.5  # seconds
DEADLINE = 60.0


@pytest.fixture
def intake(bench: Bench) -> Iterator[Intake]:
    intake = Intake(bench.database, bench.settings)
    yield intake
    intake.close()


@pytest.fixture
def polled(bench: Bench, intake: Intake) -> Iterator[RootWatch]:
    """A polled root that is listed when the test says."""
    root = WatchRoot(path=bench.input, watch="polling")
    bench.configure(root, stability_seconds=600.0)  # so that half of it is more than any machine is late
    watch = RootWatch(bench.database, bench.settings, root, intake, unfinished=lambda: None, skipped=lambda: None)
    bench.input.mkdir(parents=True, exist_ok=True)
    watch._open()
    yield watch
    watch._attached().detach()


def changed_at(watch: RootWatch, path: str) -> float:
    growing = watch._register.tracker.get(path)
    assert growing is not None
    return growing.changed_at


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose listing takes its time."""

    def listing(*arguments: Any) -> Any:
        found = scan(*arguments)
        threading.Event().wait(GAP)
        return found

    monkeypatch.setattr(module, "scan", listing)


def test_a_file_that_came_right_behind_a_listing_waits_from_when_it_was_written(
    bench: Bench, polled: RootWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled._scan(time.monotonic())
    threading.Event().wait(0.05)  # file systems tell the time by the kernel's tick, which is up to 10 ms ago
    bench.drop("ana/1.flac")
    threading.Event().wait(GAP)
    slow(monkeypatch)
    begun = time.monotonic()
    polled._scan(begun)
    assert changed_at(polled, "ana/1.flac") < begun


def test_a_file_that_comes_during_a_listing_waits_its_whole_time(
    bench: Bench, polled: RootWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled._scan(time.monotonic())
    moments = []

    def listing(*arguments: Any) -> Any:
        threading.Event().wait(GAP)
        moments.append(time.monotonic())
        bench.drop("ana/1.flac")
        return scan(*arguments)

    monkeypatch.setattr(module, "scan", listing)
    polled._scan(time.monotonic())
    assert changed_at(polled, "ana/1.flac") > moments[0] - GAP / 2  # not from when the listing began


def test_an_mtime_from_before_the_last_listing_is_not_believed(bench: Bench, polled: RootWatch) -> None:
    polled._scan(time.monotonic())
    path = bench.drop("ana/1.flac")
    os.utime(path, (time.time() - 100, time.time() - 100))
    begun = time.monotonic()
    polled._scan(begun)
    assert changed_at(polled, "ana/1.flac") >= begun


def test_claims_let_rows_go_first_and_do_not_wait_for_ever(bench: Bench, intake: Intake) -> None:
    path = bench.drop("ana/1.mp3")
    (received,) = intake.receive(
        str(bench.input), [Candidate(split(WatchRoot(path=bench.input), "ana/1.mp3"), path.lstat())]
    )
    assert received.job_uuid is not None
    ended: list[tuple[float, Outcome]] = []
    done = threading.Event()

    def tell(outcome: Outcome) -> None:
        ended.append((time.monotonic(), outcome))
        done.set()

    begun = time.monotonic()
    with intake.first(), intake.first():  # two roots
        intake.finish(received.job_uuid, tell)
        assert done.wait(DEADLINE)  # although the rows' turn goes on
    ((when, outcome),) = ended
    assert when - begun >= _PATIENCE_SECONDS
    assert outcome.state == "queued"


def test_a_claim_begins_when_the_rows_are_in(bench: Bench, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ironclad.ingest.intake._PATIENCE_SECONDS", DEADLINE)
    path = bench.drop("ana/1.mp3")
    (received,) = intake.receive(
        str(bench.input), [Candidate(split(WatchRoot(path=bench.input), "ana/1.mp3"), path.lstat())]
    )
    assert received.job_uuid is not None
    done = threading.Event()
    with intake.first():
        intake.finish(received.job_uuid, lambda _outcome: done.set())
        assert not done.wait(GAP)
        assert path.exists()
    assert done.wait(DEADLINE / 2)
    assert not path.exists()


def test_a_root_that_hangs_in_a_look_keeps_no_claim_waiting(
    bench: Bench, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ironclad.ingest.intake._PATIENCE_SECONDS", DEADLINE)
    path = bench.drop("ana/1.mp3")
    candidate = Candidate(split(WatchRoot(path=bench.input), "ana/1.mp3"), path.lstat())
    (received,) = intake.receive(str(bench.input), [candidate])
    assert received.job_uuid is not None
    done = threading.Event()
    with intake.first():
        intake._begun -= 2 * DEADLINE  # it has hung for so long
        with intake.first():  # another root, in between
            intake.finish(received.job_uuid, lambda _outcome: done.set())
            assert done.wait(DEADLINE / 2)
