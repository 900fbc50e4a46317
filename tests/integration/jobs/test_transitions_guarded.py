"""Every legal transition works, every illegal one is refused by the code and by the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ironclad.errors import IllegalTransition, NotFound
from ironclad.jobs import submit, transition
from ironclad.jobs.ids import uuid7
from ironclad.jobs.states import TRANSITIONS, JobState

if TYPE_CHECKING:
    from uuid import UUID

# A move that the constraints allow, so that only the guard can object.
LEASED = "lease_token = gen_random_uuid(), lease_expires_at = ironclad_now()"
FITTING = {
    JobState.RUNNING: f"{LEASED}, attempt = attempt + 1",
    JobState.WAITING_RETRY: "lease_token = NULL, lease_expires_at = NULL, not_before = ironclad_now()",
}
IDLE = "lease_token = NULL, lease_expires_at = NULL"


def raw_move(bench: Any, job: UUID, target: JobState) -> None:
    bench.rows(f"UPDATE job SET state = '{target}', {FITTING.get(target, IDLE)} WHERE job_uuid = :job", job=job)


@pytest.mark.parametrize("origin", JobState)
def test_the_database_allows_exactly_the_table(bench: Any, origin: JobState) -> None:
    for target in set(JobState) - {origin}:
        job = bench.job(origin)
        if target in TRANSITIONS[origin]:
            raw_move(bench, job, target)
            assert bench.state(job) == target
        else:
            with pytest.raises(IntegrityError, match=f"cannot go from {origin} to {target}"):
                raw_move(bench, job, target)
            assert bench.state(job) == origin


@pytest.mark.parametrize("origin", JobState)
def test_the_code_allows_exactly_the_table(bench: Any, origin: JobState) -> None:
    for target in JobState:
        job = bench.job(origin)
        before = bench.events(job)
        legal = target in TRANSITIONS[origin] and JobState.RUNNING not in {origin, target}  # those need a lease
        sets = {"not_before": sa.func.ironclad_now()}
        with bench.session() as session:
            row = transition.load(session, job)
            if legal:
                moved = transition.move(session, row, target, actor="test", sets=sets)
                assert moved.state == target
            else:
                with pytest.raises(IllegalTransition):
                    transition.move(session, row, target, actor="test", sets=sets)
        assert bench.events(job) == ([*before, target.value] if legal else before)
        assert bench.state(job) == (target if legal else origin)


def test_the_table_in_the_database_is_the_one_in_the_code(bench: Any) -> None:
    rows = bench.rows("SELECT from_state, to_state FROM job_transition")
    assert {tuple(row) for row in rows} == {(a, b) for a, targets in TRANSITIONS.items() for b in targets}


def test_a_move_is_refused_when_somebody_was_faster(bench: Any) -> None:
    job = bench.job("queued")
    stale = bench.row(job)
    bench.claim(job)
    with bench.session() as session, pytest.raises(IllegalTransition, match="somebody else"):
        transition.move(session, stale, JobState.CANCELLED, actor="test")
    assert bench.state(job) == "running"


def test_a_move_may_be_limited_to_some_origins(bench: Any) -> None:
    job = bench.job("queued")
    with bench.session() as session, pytest.raises(IllegalTransition):
        transition.move(session, bench.row(job), JobState.FAILED, actor="t", allowed={JobState.RECEIVED})


def test_a_missing_job_is_named(bench: Any) -> None:
    missing = uuid7()
    with bench.session() as session, pytest.raises(NotFound, match=str(missing)):
        transition.load(session, missing)


@pytest.mark.parametrize(
    ("state", "change", "name"),
    [
        ("queued", "lease_token = gen_random_uuid()", "job_running_has_lease"),
        ("running", "lease_token = NULL", "job_running_has_lease"),
        ("running", "lease_expires_at = NULL", "job_running_has_expiry"),
        ("queued", "lease_expires_at = ironclad_now()", "job_running_has_expiry"),
        ("waiting_retry", "not_before = NULL", "job_retry_has_time"),
        ("queued", "progress = 1.01", "job_progress_range"),
        ("queued", "progress = -0.01", "job_progress_range"),
        ("running", "attempt = attempt - 1", "an attempt number never goes back"),
        ("running", "attempt = attempt + 1", "only a claim begins an attempt"),
        ("queued", "attempt = attempt + 1", "only a claim begins an attempt"),
        ("queued", f"state = 'running', {LEASED}", "a claim begins a new attempt"),
        ("queued", f"state = 'running', {LEASED}, attempt = attempt + 2", "a claim begins a new attempt"),
    ],
)  # fmt: skip
def test_a_row_that_makes_no_sense_is_refused(bench: Any, state: str, change: str, name: str) -> None:
    job = bench.job(state)
    with pytest.raises(IntegrityError, match=name):
        bench.rows(f"UPDATE job SET {change} WHERE job_uuid = :job", job=job)


def test_a_job_has_one_live_attempt(bench: Any) -> None:
    job = bench.job("running")
    with pytest.raises(IntegrityError, match="attempt_live"):
        bench.rows(
            "INSERT INTO attempt (job_uuid, attempt, worker, pool, first_stage) VALUES (:job, 9, 'w', 'cpu', 'stage')",
            job=job,
        )


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.RECEIVED, JobState.QUEUED}))
def test_a_job_begins_at_the_beginning(bench: Any, state: str) -> None:
    job = bench.job("queued")
    columns = bench.one("SELECT string_agg(column_name, ',') FROM information_schema.columns WHERE table_name = 'job'")
    kept = ",".join(c for c in columns.split(",") if c not in {"job_uuid", "state"})
    with pytest.raises(IntegrityError, match=f"a job cannot begin as {state}"):
        bench.rows(f"INSERT INTO job (job_uuid, state, {kept}) SELECT gen_random_uuid(), '{state}', {kept} FROM job")
    assert bench.state(job) == "queued"


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.RECEIVED}))
def test_a_claim_of_a_file_ends_only_once(bench: Any, state: str) -> None:
    job = bench.job(state)
    with bench.session() as session, pytest.raises(IllegalTransition):
        submit.claimed(session, job, "other-hash")
    with bench.session() as session, pytest.raises(IllegalTransition):
        submit.refuse(session, job, NotFound("gone"))
    assert bench.state(job) == state
