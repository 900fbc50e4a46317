"""New jobs: what a row says of its file, duplicates, refusals, names of every kind."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ironclad.errors import AlreadyReceived, CorruptAudio, SourceMissing
from ironclad.jobs import submit
from ironclad.jobs.states import JobState

UNDECODABLE = os.fsdecode(b"caf\xe9.mp3")


def receive(bench: Any, new: submit.NewJob) -> Any:
    with bench.session() as session:
        return submit.receive(session, new, bench.settings)


def claimed(bench: Any, job: Any, digest: str) -> JobState:
    with bench.session() as session:
        return submit.claimed(session, job, digest)


def test_a_received_job_says_everything_about_its_file(bench: Any) -> None:
    new = bench.new("ana", relative_path="Album/song.flac", watch_root="/in", priority=3, engine_pool="gpu")
    job = receive(bench, new)
    assert (job.state, job.stage, job.pool, job.engine_pool, job.priority) == ("received", "validate", "cpu", "gpu", 3)
    assert (job.user_id, job.source_path, job.relative_path) == ("ana", str(new.source), "Album/song.flac")
    assert job.source_path_raw == os.fsencode(new.source)
    assert (job.source_size, job.source_mtime_ns) == (new.stat.st_size, new.stat.st_mtime_ns)
    assert (job.archive_name, job.title, job.ingest_mode) == ("original.flac", new.source.stem, "move")
    assert (job.engine, job.output_format, job.stems) == ("center", "auto", ["instrumental"])
    assert (job.job_uuid.version, len(job.trace_id), job.attempt) == (7, 32, 0)
    (event,) = bench.rows("SELECT kind, to_state, actor, data FROM job_event")
    assert tuple(event)[:3] == ("received", "received", "ingest")
    assert event.data == {"source": str(new.source), "size": new.stat.st_size, "user": "ana"}


def test_a_submission_may_say_what_the_settings_would(bench: Any) -> None:
    new = bench.new(
        engine="demucs", output_format="mp3", stems=("vocals", "drums"), parameters={"shifts": 1},
        options={"output_dir": "/o"}, pool="inline-1",
    )  # fmt: skip
    job = receive(bench, new)
    assert (job.engine, job.output_format, job.stems, job.parameters, job.options, job.pool) == (
        "demucs", "mp3", ["vocals", "drums"], {"shifts": 1}, {"output_dir": "/o"}, "inline-1",
    )  # fmt: skip


def test_the_same_file_is_received_once(bench: Any) -> None:
    new = bench.new()
    first = receive(bench, new)
    with pytest.raises(AlreadyReceived) as caught:
        receive(bench, new)
    assert caught.value.job_uuid == first.job_uuid
    assert caught.value.to_dict()["context"] == {"job_uuid": str(first.job_uuid)}
    assert bench.one("SELECT count(*) FROM job_event") == 1


@pytest.mark.parametrize(("mode", "again"), [("move", True), ("copy", False), ("link", False)])
def test_a_moved_files_name_is_free_again(bench: Any, mode: str, again: bool) -> None:  # noqa: FBT001 - a table's column
    new = bench.new(ingest_mode=mode)
    first = receive(bench, new)
    claimed(bench, first.job_uuid, "digest")
    if again:
        assert receive(bench, new).job_uuid != first.job_uuid
    else:
        with pytest.raises(AlreadyReceived):
            receive(bench, new)
        with bench.session() as session:
            submit.release_source(session, first.job_uuid)
        receive(bench, new)


def test_a_file_whose_claim_ends_in_this_moment_is_still_known(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    new = bench.new()
    first = receive(bench, new)
    # The key is taken when the row is inserted and free when the other is looked for.
    monkeypatch.setattr(submit, "_OTHER", sa.text("SELECT 1 AS job_uuid WHERE CAST(:keys AS text[]) IS NULL"))
    with pytest.raises(AlreadyReceived) as caught:
        receive(bench, new)
    assert caught.value.job_uuid == first.job_uuid


def test_many_files_are_received_at_once(bench: Any) -> None:
    known = bench.new()
    first = receive(bench, known)
    twice = bench.new(user="ben")
    batch = [bench.new(), known, twice, twice, bench.new(user="cleo")]
    with bench.session() as session:
        result = submit.receive_many(session, batch, bench.settings)
    assert [new for _, new in result] == [True, False, True, False, True]
    assert result[1][0] == first.job_uuid
    assert result[2][0] == result[3][0]
    rows = bench.rows("SELECT user_id FROM job ORDER BY job_uuid")
    assert [row.user_id for row in rows] == ["ana", "ana", "ben", "cleo"]
    assert bench.one("SELECT count(*) FROM job_event WHERE kind = 'received' AND data->>'size' IS NOT NULL") == 4
    with bench.session() as session:
        assert submit.receive_many(session, [], bench.settings) == []


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_the_same_bytes_are_skipped(bench: Any) -> None:
    first = bench.job("received")
    second = bench.job("received")
    assert claimed(bench, first, "same") is JobState.QUEUED
    assert claimed(bench, second, "same") is JobState.SKIPPED
    row = bench.row(second)
    assert (row.state, row.error_code, row.content_hash) == ("skipped", "E_DUPLICATE", "same")
    assert str(first) in row.error["detail"]
    assert row.finished_at is not None
    assert bench.one("SELECT data->>'duplicate_of' FROM job_event WHERE kind = 'skipped'") == str(first)


@pytest.mark.parametrize(
    ("state", "duplicate"),
    [
        ("queued", True), ("running", True), ("waiting_retry", True), ("succeeded", True),
        ("failed", False), ("cancelled", False), ("skipped", False), ("quarantined", False), ("received", False),
    ],
)  # fmt: skip
def test_what_did_or_will_do_the_work_counts(bench: Any, state: str, duplicate: bool) -> None:  # noqa: FBT001 - a table's column
    bench.rows("UPDATE job SET content_hash = 'same' WHERE job_uuid = :job", job=bench.job(state))
    outcome = claimed(bench, bench.job("received"), "same")
    assert outcome is (JobState.SKIPPED if duplicate else JobState.QUEUED)


@pytest.mark.parametrize(
    "different",
    [
        {"engine": "demucs"}, {"parameters": {"width": 2}}, {"stems": ("vocals",)}, {"output_format": "mp3"},
        {"options": {"output_dir": "/elsewhere"}}, {"options": {"force": True}},
    ],
)  # fmt: skip
def test_other_work_on_the_same_bytes_is_done(bench: Any, different: dict[str, Any]) -> None:
    claimed(bench, bench.job("received"), "same")
    assert claimed(bench, bench.job("received", **different), "same") is JobState.QUEUED


def test_two_claims_of_the_same_bytes_at_once_see_each_other(bench: Any) -> None:
    for number in range(5):
        jobs = [bench.job("received"), bench.job("received")]
        outcomes: list[JobState] = []
        together = threading.Barrier(2)

        def one(job: Any, digest: str, together: threading.Barrier, outcomes: list[JobState]) -> None:
            together.wait(60)
            outcomes.append(claimed(bench, job, digest))

        threads = [threading.Thread(target=one, args=(job, f"same-{number}", together, outcomes)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == [JobState.QUEUED, JobState.SKIPPED]


# --- refusals and names ----------------------------------------------------------------------------------------------


def test_a_refused_file_is_a_visible_failure(bench: Any) -> None:
    job = bench.job("received")
    with bench.session() as session:
        submit.refuse(session, job, CorruptAudio("at 3 s"))
    row = bench.row(job)
    assert (row.state, row.error_code, row.filed, row.content_hash) == ("failed", "E_CORRUPT_AUDIO", True, None)
    assert bench.one("SELECT data->'error'->>'detail' FROM job_event WHERE kind = 'failed'") == "at 3 s"


def test_a_file_with_an_undecodable_name_can_fail(bench: Any) -> None:
    new = bench.new()
    odd = Path("/songs") / UNDECODABLE
    job = receive(bench, submit.NewJob("ana", odd, UNDECODABLE, new.stat))
    assert (job.source_path, job.source_path_raw) == ("/songs/caf\\xe9.mp3", os.fsencode(odd))
    with bench.session() as session:
        submit.refuse(session, job.job_uuid, SourceMissing(f"{odd}", path=odd))
    assert bench.row(job.job_uuid).error["context"] == {"path": "/songs/caf\\xe9.mp3"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.mp3", "plain.mp3"),
        ("new\nline\t.mp3", "new\\nline\\t.mp3"),
        ("ünï 🎵.mp3", "ünï 🎵.mp3"),
        (UNDECODABLE, "caf\\xe9.mp3"),
        ("esc\x1b[31m.mp3", "esc\\x1b[31m.mp3"),
        ("c1\x85.mp3", "c1\\x85.mp3"),
    ],
)
def test_a_path_is_shown_as_text_that_every_terminal_takes(name: str, shown: str) -> None:
    assert submit.display(name) == shown
    assert submit.display(Path(name)) == shown


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Song.FLAC", "original.flac"),
        ("a.tar.gz", "original.gz"),
        ("no suffix", "original"),
        (".hidden", "original.hidden"),
        ("x.way-too-strange!", "original"),
        ("x.abcdefghijk", "original"),
        (UNDECODABLE, "original.mp3"),
        ("🎵" * 70 + ".m4a", "original.m4a"),
    ],
)
def test_the_archives_name_is_short_and_safe(name: str, kept: str) -> None:
    assert submit.archive_name(Path(name)) == kept
