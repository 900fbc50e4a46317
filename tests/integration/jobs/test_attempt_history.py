"""What an attempt writes while it works: stage runs, facts, notes, artifacts."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest

from ironclad.errors import BadRequest
from ironclad.jobs import history, lease
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from uuid import UUID


@pytest.fixture
def fence(bench: Any) -> lease.Fence:
    claim: lease.Claim = bench.claim(bench.job("queued"))
    return claim.fence


def intend(bench: Any, fence: lease.Fence, path: str, kind: str = "instrumental") -> UUID | None:
    with bench.session() as session:
        return history.intend(session, fence, kind=kind, path=path, size=7, blake3="b3", receipt={"peak": 0.5})


def published(bench: Any, fence: lease.Fence, artifact: UUID | None, path: str = "/p") -> None:
    assert artifact is not None
    with bench.session() as session:
        history.published(session, fence, artifact, path)


def states(bench: Any) -> list[tuple[str, str]]:
    return [tuple(row) for row in bench.rows("SELECT path, state FROM artifact ORDER BY artifact_uuid")]


def run_of(bench: Any, stage: str) -> Any:
    return bench.rows("SELECT * FROM stage_run WHERE stage = :stage", stage=stage)[0]


def test_a_stage_from_start_to_end(bench: Any, fence: lease.Fence) -> None:
    with bench.session() as session:
        history.stage_started(session, fence, "metadata")
    run = run_of(bench, "metadata")
    assert (run.state, run.progress, run.ended_at, bench.row(fence.job_uuid).stage) == ("running", 0, None, "metadata")
    with bench.session() as session:
        history.stage_progress(session, fence, "metadata", 0.5, "reading")
    run = run_of(bench, "metadata")
    assert (run.progress, run.message) == (0.5, "reading")
    facts = {"title": "Blue", "artist": "Ana", "album": None, "duration_seconds": np.float32(12.5)}
    with bench.session() as session:
        history.stage_ended(
            session, fence, "metadata", reused=False, data={"n": np.int64(3)}, following="stage", facts=facts
        )
    run, job = run_of(bench, "metadata"), bench.row(fence.job_uuid)
    assert (run.state, run.progress, run.message, run.data) == ("done", 1, None, {"n": 3})
    assert run.ended_at is not None
    assert (job.stage, job.title, job.artist, job.album, job.duration_seconds) == ("stage", "Blue", "Ana", None, 12.5)
    assert bench.events(fence.job_uuid)[-2:] == ["stage_started", "stage_done"]


def test_a_reused_stage_says_so_and_the_last_stage_stays(bench: Any, fence: lease.Fence) -> None:
    with bench.session() as session:
        history.stage_started(session, fence, "organize")
        history.stage_ended(session, fence, "organize", reused=True, data={}, following=None)
    assert run_of(bench, "organize").state == "reused"
    assert bench.row(fence.job_uuid).stage == "organize"
    assert bench.events(fence.job_uuid)[-1] == "stage_reused"


def test_a_stage_may_start_over_in_an_attempt(bench: Any, fence: lease.Fence) -> None:
    with bench.session() as session:
        history.stage_started(session, fence, "stage")
        history.stage_progress(session, fence, "stage", 0.7, "half-way")
        history.stage_started(session, fence, "stage")
    run = run_of(bench, "stage")
    assert (run.state, run.progress, run.message) == ("running", 0, None)


def test_a_stage_writes_only_facts_of_the_song(bench: Any, fence: lease.Fence) -> None:
    with bench.session() as session:
        history.stage_started(session, fence, "stage")
        with pytest.raises(BadRequest, match="priority, state"):
            history.stage_ended(
                session, fence, "stage", reused=False, data={}, following=None, facts={"state": "x", "priority": 1}
            )
    assert run_of(bench, "stage").state == "running"


def test_facts_of_any_spelling_are_kept(bench: Any, fence: lease.Fence) -> None:
    odd = os.fsdecode(b"caf\xe9") + "\x00"
    with bench.session() as session:
        history.stage_started(session, fence, "metadata")
        history.stage_ended(
            session, fence, "metadata", reused=False, data={"tag": odd, "gain": float("-inf")}, following="stage",
            facts={"title": odd},
        )  # fmt: skip
    assert bench.row(fence.job_uuid).title == "caf\\xe9\\x00"
    assert run_of(bench, "metadata").data == {"tag": "caf\\xe9\\x00", "gain": None}


def test_progress_is_told_to_listeners(bench: Any, fence: lease.Fence) -> None:
    with bench.session() as session:
        history.stage_started(session, fence, "separate")
    with psycopg.connect(bench.database.dsn, autocommit=True) as listener:
        listener.execute("LISTEN ironclad_progress")
        with bench.session() as session:
            history.stage_progress(session, fence, "separate", 1.5, "x" * 20_000 + os.fsdecode(b"\xff"))
        (notice,) = list(listener.notifies(timeout=60, stop_after=1))
    told = json.loads(notice.payload)
    assert (told["job"], told["stage"], told["progress"]) == (str(fence.job_uuid), "separate", 1.0)
    assert told["message"] == run_of(bench, "separate").message == "x" * 500


def test_progress_of_a_stage_that_ended_is_not_news(bench: Any, fence: lease.Fence) -> None:
    """It is written by a thread of its own, and may come late."""
    with psycopg.connect(bench.database.dsn, autocommit=True) as listener:
        listener.execute("LISTEN ironclad_progress")
        with bench.session() as session:
            history.stage_started(session, fence, "separate")
            history.stage_ended(session, fence, "separate", reused=False, data={}, following="recombine")
            history.stage_progress(session, fence, "separate", 0.9, "9/10")
            history.stage_started(session, fence, "recombine")
            history.stage_progress(session, fence, "recombine", 0.1, "1/10")
        (notice,) = list(listener.notifies(timeout=60, stop_after=1))
    assert json.loads(notice.payload)["stage"] == "recombine"
    run = run_of(bench, "separate")
    assert (run.state, run.progress, run.message) == ("done", 1, None)


def test_a_note_is_an_event(bench: Any, fence: lease.Fence) -> None:
    with bench.session() as session:
        history.note(session, fence, "stepped_down", "separate", segment=np.float64(3.5), file=os.fsdecode(b"\xff"))
    row = bench.rows("SELECT kind, stage, attempt, data FROM job_event ORDER BY id DESC LIMIT 1")[0]
    assert tuple(row) == ("stepped_down", "separate", 1, {"segment": 3.5, "file": "\\xff"})


def test_an_intent_becomes_a_fact(bench: Any, fence: lease.Fence) -> None:
    artifact = intend(bench, fence, "/p")
    assert states(bench) == [("/p", "intent")]
    published(bench, fence, artifact)
    published(bench, fence, artifact)  # a write that was repeated because its answer was lost
    row = bench.rows("SELECT * FROM artifact")[0]
    assert (row.state, row.size, row.blake3, row.receipt, row.attempt) == ("published", 7, "b3", {"peak": 0.5}, 1)
    assert row.published_at is not None


def test_a_better_name_supersedes_the_jobs_older_one(bench: Any, fence: lease.Fence) -> None:
    intend(bench, fence, "/a")
    published(bench, fence, intend(bench, fence, "/b"), "/b")
    published(bench, fence, intend(bench, fence, "/B"), "/B")
    assert states(bench) == [("/a", "superseded"), ("/b", "superseded"), ("/B", "published")]


def test_two_kinds_of_an_attempt_never_share_a_name_but_a_later_attempt_may_give_it_to_another(
    bench: Any, fence: lease.Fence
) -> None:
    published(bench, fence, intend(bench, fence, "/b"), "/b")
    assert intend(bench, fence, "/B", kind="vocals") is None
    bench.rows("UPDATE artifact SET attempt = 0 RETURNING 1")  # as if an earlier attempt had done it
    published(bench, fence, intend(bench, fence, "/B", kind="vocals"), "/B")
    assert states(bench) == [("/b", "superseded"), ("/B", "published")]


def test_two_jobs_never_own_one_name(bench: Any, fence: lease.Fence) -> None:
    other = bench.claim(bench.job("queued")).fence
    intend(bench, fence, "/Artist/Song.flac")
    assert intend(bench, other, "/artist/SONG.flac") is None
    assert intend(bench, other, "/artist/song (2).flac") is not None
    intend(bench, fence, "/elsewhere.flac")
    assert intend(bench, other, "/Artist/Song.flac") is not None


def test_letter_case_of_every_alphabet_makes_no_name(bench: Any, fence: lease.Fence) -> None:
    if bench.one("SELECT lower('É')") != "é":
        pytest.skip("this server's locale knows ASCII only")
    other = bench.claim(bench.job("queued")).fence
    intend(bench, fence, "/Björk/ÉTÉ.flac")
    assert intend(bench, other, "/BJÖRK/été.flac") is None


def test_two_jobs_that_want_one_name_at_once(bench: Any) -> None:
    fences = [bench.claim(bench.job("queued")).fence for _ in range(4)]
    found: list[UUID | None] = []
    together = threading.Barrier(len(fences))

    def one(fence: lease.Fence) -> None:
        together.wait(60)
        found.append(intend(bench, fence, "/one"))

    threads = [threading.Thread(target=one, args=(fence,)) for fence in fences]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(artifact is None for artifact in found) == [False, True, True, True]


def test_the_next_attempt_takes_over_what_was_intended(bench: Any, fence: lease.Fence) -> None:
    intend(bench, fence, "/p")
    bench.reap(after=31)
    second = bench.claim(fence.job_uuid).fence
    published(bench, second, intend(bench, second, "/p"))
    assert states(bench) == [("/p", "superseded"), ("/p", "published")]
    with bench.session() as session:
        lease.finish(session, second, JobState.SUCCEEDED, actor="w")
