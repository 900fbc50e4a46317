"""What the fronts read: pages, one job in detail, the overview, plain data."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.errors import BadRequest, NotFound
from ironclad.jobs import control, dispatch, history, lease, query
from ironclad.jobs.ids import uuid7
from ironclad.jobs.query import JobFilter
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID


def ask(bench: Any, call: Any, *arguments: Any, **more: Any) -> Any:
    with bench.session() as session:
        return call(session, *arguments, **more)


def listed(bench: Any, **wanted: Any) -> list[UUID]:
    return [job.job_uuid for job in ask(bench, query.jobs, JobFilter(**wanted))]


# --- find ------------------------------------------------------------------------------------------------------------


def test_a_job_is_found_by_its_id_or_an_end_of_it(bench: Any) -> None:
    job, _other = bench.job("received"), bench.job("received")
    text = str(job)
    for reference in (text, text.upper(), f"  {text} ", text[-6:], text[:-1]):
        assert ask(bench, query.find, reference) == job


def test_an_id_that_nobody_has_is_an_id_all_the_same(bench: Any) -> None:
    job = uuid7()
    assert ask(bench, query.find, str(job)) == job
    with pytest.raises(NotFound, match="ffff"):
        ask(bench, query.find, "ffff")


@pytest.mark.parametrize("reference", ["", "abc", "song.mp3", "%%%%", "____", "x" * 36, "'; --"])
def test_what_is_no_id_is_refused(bench: Any, reference: str) -> None:
    bench.job("received")
    with pytest.raises(BadRequest, match="not a job id"):
        ask(bench, query.find, reference)


def test_an_ambiguous_id_names_the_candidates(bench: Any) -> None:
    jobs = [bench.job("received") for _ in range(2)]
    with pytest.raises(BadRequest) as caught:
        ask(bench, query.find, str(jobs[0])[:4])
    assert all(str(job) in str(caught.value) for job in jobs)
    assert "others" not in str(caught.value)


def test_a_very_ambiguous_id_does_not_pretend_to_name_them_all(bench: Any) -> None:
    jobs = [bench.job("received") for _ in range(4)]
    with pytest.raises(BadRequest, match="and others") as caught:
        ask(bench, query.find, str(jobs[0])[:4])
    assert sum(str(job) in str(caught.value) for job in jobs) == 3


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_the_newest_come_first_page_by_page(bench: Any) -> None:
    jobs = [bench.job("received") for _ in range(7)]
    newest = list(reversed(jobs))
    assert listed(bench) == newest
    assert listed(bench, limit=3) == newest[:3]
    assert listed(bench, limit=3, before=newest[2]) == newest[3:6]
    assert listed(bench, limit=3, before=newest[5]) == newest[6:]
    assert listed(bench, before=jobs[0]) == []


def test_filters_narrow_and_combine(bench: Any) -> None:
    failed = bench.job("failed", user="ana")
    skipped = bench.job("skipped", user="ben")
    queued = bench.job("queued", user="ben")
    assert listed(bench, states=("failed",)) == [failed]
    assert listed(bench, states=("queued", "skipped")) == [queued, skipped]
    assert listed(bench, user="ben", states=("queued",)) == [queued]
    assert listed(bench, error_code="E_NOT_AUDIO") == [skipped, failed]
    assert listed(bench, user="nobody") == []
    later = bench.row(queued).created_at
    assert listed(bench, since=later) == [queued]
    assert listed(bench, since=later + timedelta(seconds=1)) == []


def test_text_is_looked_for_literally_in_every_name(bench: Any) -> None:
    jobs = {name: bench.job("received") for name in ("100%", "a_b", "back\\slash", "Blue Song")}
    for name, job in jobs.items():
        bench.rows("UPDATE job SET title = :title WHERE job_uuid = :job", title=name, job=job)
    for name, job in jobs.items():
        assert listed(bench, text=name) == [job]
    assert listed(bench, text="bLUE s") == [jobs["Blue Song"]]
    assert listed(bench, text="song-3.flac") == [jobs["Blue Song"]]  # its path
    bench.rows("UPDATE job SET artist = 'Ana', album = 'Colours' WHERE job_uuid = :job", job=jobs["a_b"])
    assert listed(bench, text="ana") == listed(bench, text="colour") == [jobs["a_b"]]


def test_an_unknown_state_is_refused_with_the_known_ones(bench: Any) -> None:
    with pytest.raises(BadRequest, match=r"no state lost; there is received, queued"):
        listed(bench, states=("lost", "queued"))


# --- detail ----------------------------------------------------------------------------------------------------------


def test_one_job_with_everything_about_it(bench: Any) -> None:
    job = bench.job("queued")
    for _ in range(2):
        fence = bench.claim(job).fence
        with bench.session() as session:
            history.stage_started(session, fence, "validate")
            history.stage_started(session, fence, "categorize")
            history.intend(session, fence, kind="instrumental", path="/p", size=1, blake3="b", receipt=None)
            lease.finish(session, fence, JobState.QUEUED, actor="w")
    found = ask(bench, query.detail, job)
    assert found.job.job_uuid == job
    assert [attempt.attempt for attempt in found.attempts] == [1, 2]
    assert [(run.attempt, run.stage) for run in found.stages] == [
        (1, "validate"), (1, "categorize"), (2, "validate"), (2, "categorize"),
    ]  # fmt: skip
    assert [artifact.state for artifact in found.artifacts] == ["superseded", "intent"]
    kinds = [event.kind for event in found.events]
    assert kinds == bench.events(job)
    assert [event.kind for event in ask(bench, query.detail, job, events=2).events] == kinds[-2:]


def test_a_job_that_is_not_there(bench: Any) -> None:
    with pytest.raises(NotFound):
        ask(bench, query.detail, uuid7())


def test_a_row_is_plain_data_without_secrets(bench: Any) -> None:
    job = bench.job("running")
    bench.rows("UPDATE job SET source_path_raw = :raw", raw=os.fsencode("/a\udcff"))
    data = query.as_dict(bench.row(job))
    assert not {"lease_token", "source_path_raw"} & set(data)
    assert (data["job_uuid"], data["state"]) == (str(job), "running")
    assert json.loads(json.dumps(data)) == data
    for rows in (ask(bench, query.detail, job).events, ask(bench, query.detail, job).attempts):
        assert all(json.dumps(query.as_dict(row)) for row in rows)


# --- overview --------------------------------------------------------------------------------------------------------


def test_an_empty_installation(bench: Any) -> None:
    found = ask(bench, query.overview)
    assert found.states == {state.value: 0 for state in JobState}
    assert (found.held, found.pools, found.paused, found.disk_low, list(found.workers)) == (0, (), False, False, [])


def test_the_installation_at_a_glance(bench: Any) -> None:
    with bench.session() as session:
        control.declare_pools(session, {"cpu": 2, "gpu": 1})
    for state in JobState:
        bench.job(state)
    bench.bulk(3)
    with bench.session() as session:
        dispatch.pick(session, "cpu", 1)
        control.hold(session, bench.job("queued"), held=True, actor="u")
        control.hold(session, bench.job("running"), held=True, actor="u")
        control.pause(session, "gpu", paused=True, actor="u")
        control.pause(session, None, paused=True, actor="u")
        control.set_switch(session, control.DISK, {"low": True})
    bench.rows("INSERT INTO worker (name, kind, host, pid) VALUES ('w', 'worker', 'h', 1)")
    bench.rows("UPDATE job SET queued_at = ironclad_now() - interval '90 seconds' WHERE dispatched_at IS NOT NULL")
    found = ask(bench, query.overview)
    assert found.states == {state.value: 1 for state in JobState} | {"queued": 5, "running": 2}
    assert (found.held, found.paused, found.disk_low) == (1, True, True)
    cpu, gpu = found.pools
    assert (cpu.name, cpu.slots, cpu.paused, cpu.running, cpu.dispatched, cpu.waiting) == ("cpu", 2, False, 2, 1, 4)
    assert cpu.oldest_waiting_seconds == pytest.approx(90, abs=10)
    assert (gpu.paused, gpu.running, gpu.waiting, gpu.oldest_waiting_seconds) == (True, 0, 0, None)
    assert [worker.name for worker in found.workers] == ["w"]


def test_what_has_not_ended_is_counted(bench: Any) -> None:
    def count(jobs: Iterable[UUID]) -> int:
        return int(ask(bench, query.unsettled, list(jobs)))

    jobs = {state: bench.job(state) for state in JobState}
    assert count(jobs.values()) == 4
    assert count([jobs[JobState.RUNNING], jobs[JobState.FAILED], uuid7()]) == 1
    assert count([]) == 0
