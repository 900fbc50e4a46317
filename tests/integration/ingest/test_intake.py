from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.config import WatchRoot
from ironclad.errors import UnsafePath
from ironclad.ingest import claim, observations
from ironclad.ingest.intake import Candidate, Intake, Received
from ironclad.ingest.places import split
from ironclad.ingest.why import Verdict, why
from ironclad.jobs import submit
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator

    Bench = Any  # conftest's


@pytest.fixture
def intake(bench: Bench) -> Iterator[Intake]:
    intake = Intake(bench.database, bench.settings)
    yield intake
    intake.close()


def candidate(bench: Bench, name: str, content: bytes = b"music", **more: Any) -> Candidate:
    path = bench.drop(name, content)
    return Candidate(split(WatchRoot(path=bench.input), name), path.lstat(), **more)


def test_many_files_are_rows_and_observations_at_once(bench: Bench, intake: Intake) -> None:
    candidates = [candidate(bench, f"ana/{number}.mp3", bytes([number])) for number in range(250)]
    received = intake.receive(str(bench.input), candidates)
    assert [one.candidate for one in received] == candidates
    assert {job.job_uuid for job in bench.jobs("received")} == {one.job_uuid for one in received}
    with bench.database.session() as session:
        assert len(observations.remembered(session, str(bench.input), ["claimed"])) == 250


def test_receiving_again_gives_the_same_jobs(bench: Bench, intake: Intake) -> None:
    one = candidate(bench, "ana/1.mp3")
    (first,) = intake.receive(str(bench.input), [one])
    again, other = intake.receive(str(bench.input), [one, candidate(bench, "ana/2.mp3")])
    assert again.job_uuid == first.job_uuid
    assert other.job_uuid != first.job_uuid
    assert len(bench.jobs()) == 2


def test_the_same_file_under_two_names_is_one_job(bench: Bench, intake: Intake) -> None:
    first = candidate(bench, "ana/1.mp3")
    (bench.input / "ana" / "2.mp3").hardlink_to(bench.input / "ana" / "1.mp3")
    second = Candidate(split(WatchRoot(path=bench.input), "ana/2.mp3"), first.status)
    one, two = intake.receive(str(bench.input), [first, second])
    assert one.job_uuid == two.job_uuid
    assert len(bench.jobs()) == 1


def test_a_refused_file_is_a_failed_job_at_once(bench: Bench, intake: Intake) -> None:
    refused = candidate(bench, "ana/1.mp3", error=UnsafePath("it leads out"))
    intake.receive(str(bench.input), [refused, candidate(bench, "ana/2.mp3", b"2")])
    assert [(job.state, job.error_code) for job in bench.jobs()] == [("failed", "E_UNSAFE_PATH"), ("received", None)]


def test_a_file_that_another_watcher_was_done_with_since_our_look_is_no_second_job(
    bench: Bench, intake: Intake
) -> None:
    seen = [candidate(bench, f"ana/{number}.mp3", bytes([number])) for number in range(3)]
    taken = bench.input / "ana" / "1.mp3"
    assert claim.take(bench.database, bench.settings, bench.new(taken)).state is JobState.QUEUED
    received = intake.receive(str(bench.input), seen)
    assert [one.candidate for one in received] == seen
    assert [one.job_uuid is None for one in received] == [False, True, False]
    assert len(bench.jobs("received")) == 2
    assert len(bench.jobs()) == 3


def test_a_file_that_changed_since_our_look_is_no_job_yet(bench: Bench, intake: Intake) -> None:
    seen = candidate(bench, "ana/1.mp3")
    bench.drop("ana/1.mp3", b"music that grew")
    (received,) = intake.receive(str(bench.input), [seen])
    assert received.job_uuid is None
    assert "changed" in received.problem
    assert bench.jobs() == []


def test_a_file_that_another_watcher_refused_is_not_refused_again(bench: Bench) -> None:
    refused = candidate(bench, "ana/1.mp3", error=UnsafePath("it leads out"))
    begun = threading.Barrier(2)
    received: list[Received] = []

    def refuse() -> None:
        intake = Intake(bench.database, bench.settings)
        begun.wait(60)
        received.extend(intake.receive(str(bench.input), [refused]))
        intake.close()

    threads = [threading.Thread(target=refuse) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (job,) = bench.jobs()
    assert [one.job_uuid for one in received] == [job.job_uuid] * 2


def test_one_row_that_the_database_refuses_does_not_keep_the_others_back(bench: Bench, intake: Intake) -> None:
    bad = candidate(bench, "ana/bad.mp3", b"bad")
    bad = dataclasses.replace(bad, place=dataclasses.replace(bad.place, user_id="no\x00text"))
    received = intake.receive(str(bench.input), [candidate(bench, "ana/1.mp3"), bad, candidate(bench, "ana/2.mp3")])
    assert [one.job_uuid is None for one in received] == [False, True, False]
    assert "No job could be made of it" in received[1].problem
    assert len(bench.jobs()) == 2


def test_claims_run_in_the_pool_and_tell_how_they_ended(bench: Bench, intake: Intake) -> None:
    received = intake.receive(str(bench.input), [candidate(bench, f"ana/{n}.mp3", bytes([n])) for n in range(8)])
    outcomes: list[claim.Outcome] = []
    done = threading.Semaphore(0)

    def tell(outcome: claim.Outcome) -> None:
        outcomes.append(outcome)
        done.release()

    for one in received:
        assert one.job_uuid is not None
        intake.finish(one.job_uuid, tell)
    for _ in received:
        assert done.acquire(timeout=60)
    assert {outcome.state for outcome in outcomes} == {JobState.QUEUED}


def test_a_claim_that_breaks_is_told_as_unfinished(bench: Bench, intake: Intake) -> None:
    path = bench.drop("ana/1.mp3")
    with bench.database.session() as session:
        job_uuid = submit.receive(session, bench.new(path), bench.settings).job_uuid
    bench.settings.layout.archive_of(job_uuid).write_bytes(b"a file where a folder must be")
    told = threading.Event()
    outcomes: list[claim.Outcome] = []

    def tell(outcome: claim.Outcome) -> None:
        outcomes.append(outcome)
        told.set()

    intake.finish(job_uuid, tell)
    assert told.wait(60)
    assert outcomes[0].state is JobState.RECEIVED
    assert path.exists()


def test_a_full_disk_keeps_a_file_that_must_be_copied_waiting(bench: Bench) -> None:
    bench.configure(WatchRoot(path=bench.input, mode="copy"))
    disk = bench.settings.disk.model_copy(update={"min_free_bytes": 1 << 60})
    bench.settings = bench.settings.model_copy(update={"disk": disk})
    bench.watch()
    path = bench.drop("ana/1.mp3")
    told = bench.until(
        lambda: t if (t := why(bench.database, bench.settings, path)).verdict is Verdict.WAITING else None
    )
    assert "free" in told.sentence
    assert bench.jobs() == []
    assert path.exists()
