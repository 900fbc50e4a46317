"""Claims, heartbeats, expiry, the ends of attempts, and the reaper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from ironclad.errors import (
    Cancelled,
    DiskFull,
    Drained,
    EngineFailed,
    IllegalTransition,
    LeaseLost,
    NotAudio,
    WorkerLost,
)
from ironclad.jobs import control, lease, reap, retry
from ironclad.jobs.states import SETTLED, TRANSITIONS, JobState

if TYPE_CHECKING:
    from uuid import UUID

LEASE = 30.0


def request_cancel(bench: Any, job: UUID) -> None:
    with bench.session() as session:
        control.cancel(session, job, actor="user:ana")


def finish(bench: Any, fence: lease.Fence, to: JobState, **more: Any) -> Any:
    with bench.session() as session:
        return lease.finish(session, fence, to, actor="worker:w1", **more)


# --- claim -----------------------------------------------------------------------------------------------------------


def test_a_claim_begins_an_attempt(bench: Any) -> None:
    job = bench.job("queued")
    before = bench.clock()
    claim = bench.claim(job, run_id="run-1")
    assert (claim.fence.job_uuid, claim.fence.attempt) == (job, 1)
    assert (claim.job.state, claim.job.worker, claim.job.run_id) == ("running", "w1", "run-1")
    assert claim.job.lease_token == claim.fence.token
    assert claim.job.started_at is not None
    assert bench.between(bench.earliest("lease_expires_at"), before + LEASE, bench.clock() + LEASE)
    rows = bench.rows("SELECT attempt, worker, pool, run_id, first_stage, ended_at FROM attempt")
    assert [tuple(row) for row in rows] == [(1, "w1", "cpu", "run-1", "validate", None)]
    assert bench.events(job) == ["received", "queued", "claimed"]


def test_each_claim_has_its_own_token_and_number(bench: Any) -> None:
    job = bench.job("queued")
    first = bench.claim(job).fence
    finish(bench, first, JobState.QUEUED)
    second = bench.claim(job).fence
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.token != second.token
    assert bench.row(job).started_at is not None


def test_a_claim_forgets_the_last_error(bench: Any) -> None:
    job = bench.job("waiting_retry")
    assert bench.row(job).error_code == "E_ENGINE_FAILED"
    bench.reap(after=60)
    assert bench.row(job).error_code == "E_ENGINE_FAILED"  # still what the job waits for
    claim = bench.claim(job)
    assert (claim.job.error_code, claim.job.error) == (None, None)


@pytest.mark.parametrize("attempt", [0, 2, 99])
def test_only_the_next_attempt_can_be_claimed(bench: Any, attempt: int) -> None:
    job = bench.job("queued")
    with bench.session() as session, pytest.raises(LeaseLost, match="not there to begin"):
        lease.claim(session, job, attempt, worker="w", lease_seconds=LEASE)
    assert bench.row(job).attempt == 0


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.QUEUED}))
def test_only_a_queued_job_can_be_claimed(bench: Any, state: str) -> None:
    job = bench.job(state)
    before = bench.row(job)
    with bench.session() as session, pytest.raises(LeaseLost):
        lease.claim(session, job, before.attempt + 1, worker="w", lease_seconds=LEASE)
    assert bench.row(job) == before


def test_claim_next_takes_nothing_from_an_empty_queue(bench: Any) -> None:
    bench.job("received")
    held = bench.job("queued")
    with bench.session() as session:
        control.hold(session, held, held=True, actor="user:ana")
    bench.job("queued", pool="gpu")
    assert bench.claim_next() is None
    claim = bench.claim_next("gpu")
    assert claim is not None
    assert claim.job.pool == "gpu"


def test_claim_next_leaves_dispatched_jobs_to_their_flow_run(bench: Any) -> None:
    job = bench.job("queued")
    bench.rows("UPDATE job SET dispatched_at = ironclad_now()")
    assert bench.claim_next() is None
    assert bench.claim(job).job.state == "running"


# --- heartbeat and expiry --------------------------------------------------------------------------------------------


def test_the_stepped_clock_steps(bench: Any) -> None:
    before = bench.clock()
    with bench.later(40).session() as ahead:
        found = float(ahead.scalar(sa.text("SELECT extract(epoch FROM ironclad_now())")))
    assert bench.between(found, before + 40, bench.clock() + 40)


def test_a_heartbeat_renews_the_lease(bench: Any) -> None:
    job = bench.job("queued")
    fence = bench.claim(job).fence
    before = bench.clock()
    with bench.session() as session:
        assert lease.heartbeat(session, fence, lease_seconds=2 * LEASE, progress=0.25) is False
    assert bench.between(bench.earliest("lease_expires_at"), before + 2 * LEASE, bench.clock() + 2 * LEASE)
    assert bench.row(job).progress == 0.25
    with bench.session() as session:
        lease.heartbeat(session, fence, lease_seconds=LEASE)
    assert bench.row(job).progress == 0.25  # no news is no change


@pytest.mark.parametrize(("reported", "kept"), [(1.0000001, 1.0), (-1e-9, 0.0), (7.0, 1.0)])
def test_progress_beside_the_scale_costs_no_lease(bench: Any, reported: float, kept: float) -> None:
    job = bench.job("queued")
    fence = bench.claim(job).fence
    with bench.session() as session:
        lease.heartbeat(session, fence, lease_seconds=LEASE, progress=reported)
    assert bench.row(job).progress == kept


def test_a_heartbeat_tells_of_the_wish_to_cancel(bench: Any) -> None:
    job = bench.job("queued")
    fence = bench.claim(job).fence
    request_cancel(bench, job)
    with bench.session() as session:
        assert lease.heartbeat(session, fence, lease_seconds=LEASE) is True


def test_a_lease_may_be_renewed_until_the_last_moment_and_not_after(bench: Any) -> None:
    fence = bench.claim(bench.job("queued"), lease_seconds=4000).fence
    with bench.later(3900).session() as session:
        lease.assert_held(session, fence)
    with bench.later(4001).session() as session, pytest.raises(LeaseLost):
        lease.assert_held(session, fence)
    with bench.later(4001).session() as session, pytest.raises(LeaseLost):
        lease.heartbeat(session, fence, lease_seconds=LEASE)


# --- the end of an attempt -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", sorted(TRANSITIONS[JobState.RUNNING]))
def test_an_attempt_ends_in_every_legal_state(bench: Any, to: JobState) -> None:
    job = bench.job("queued")
    fence = bench.claim(job, run_id="r").fence
    ended = finish(bench, fence, to, error=None if to is JobState.SUCCEEDED else NotAudio("no"), reason="test")
    assert (ended.state, ended.lease_token, ended.lease_expires_at, ended.worker) == (to, None, None, None)
    assert (ended.finished_at is not None) == (to in SETTLED)
    assert (ended.not_before is not None) == (to is JobState.WAITING_RETRY)
    assert ended.error_code == (None if to is JobState.SUCCEEDED else "E_NOT_AUDIO")
    assert ended.progress == (1.0 if to is JobState.SUCCEEDED else 0.0)
    (attempt,) = bench.rows("SELECT outcome, error_code, ended_at IS NOT NULL AS ended FROM attempt")
    assert tuple(attempt) == (to, ended.error_code, True)
    assert bench.events(job)[-1] == to
    assert bench.one("SELECT data->>'reason' FROM job_event ORDER BY id DESC LIMIT 1") == "test"


@pytest.mark.parametrize("to", sorted(set(JobState) - TRANSITIONS[JobState.RUNNING]))
def test_an_attempt_ends_in_no_other_state(bench: Any, to: JobState) -> None:
    job = bench.job("queued")
    fence = bench.claim(job).fence
    with pytest.raises(IllegalTransition, match="cannot end"):
        finish(bench, fence, to)
    assert bench.state(job) == "running"


def test_a_hand_off_names_the_next_pool(bench: Any) -> None:
    job = bench.job("queued")
    ended = finish(bench, bench.claim(job).fence, JobState.QUEUED, pool="gpu", handoff=True)
    assert (ended.pool, ended.state, ended.dispatched_at) == ("gpu", "queued", None)
    assert bench.claim_next("gpu").fence.attempt == 2


def test_a_running_stage_ends_with_its_attempt(bench: Any) -> None:
    job = bench.job("queued")
    fence = bench.claim(job).fence
    bench.rows("INSERT INTO stage_run (job_uuid, attempt, stage, state) VALUES (:job, 1, 'stage', 'running')", job=job)
    bench.rows("INSERT INTO stage_run (job_uuid, attempt, stage, state) VALUES (:job, 1, 'validate', 'done')", job=job)
    finish(bench, fence, JobState.FAILED, error=EngineFailed("no"))
    rows = bench.rows("SELECT stage, state, error_code, ended_at IS NOT NULL FROM stage_run ORDER BY stage")
    assert [tuple(row) for row in rows] == [
        ("stage", "failed", "E_ENGINE_FAILED", True),
        ("validate", "done", None, False),
    ]


@pytest.mark.parametrize("to", [JobState.QUEUED, JobState.WAITING_RETRY])
def test_a_job_with_a_pending_cancel_never_goes_back(bench: Any, to: JobState) -> None:
    job = bench.job("queued")
    fence = bench.claim(job).fence
    request_cancel(bench, job)
    ended = finish(bench, fence, to, error=Drained(), pool="gpu")
    assert (ended.state, ended.error_code, ended.cancel_requested, ended.pool) == (
        "cancelled", "E_CANCELLED", False, "cpu",
    )  # fmt: skip
    assert bench.one("SELECT outcome FROM attempt") == "cancelled"
    assert ended.finished_at is not None


def test_a_failure_with_a_pending_cancel_is_cancelled(bench: Any) -> None:
    job = bench.job("queued")
    fence = bench.claim(job).fence
    request_cancel(bench, job)
    with bench.session() as session:
        ended = lease.fail(session, fence, EngineFailed("no"), actor="w", settings=bench.settings.jobs)
    assert ended.state == "cancelled"


@pytest.mark.parametrize("to", [JobState.SUCCEEDED, JobState.FAILED, JobState.SKIPPED])
def test_an_attempt_that_ended_anyway_keeps_its_result(bench: Any, to: JobState) -> None:
    job = bench.job("queued")
    fence = bench.claim(job).fence
    request_cancel(bench, job)
    ended = finish(bench, fence, to)
    assert (ended.state, ended.cancel_requested) == (to, False)


def test_an_attempt_ends_once(bench: Any) -> None:
    job = bench.job("queued")
    claim = bench.claim(job)
    finish(bench, claim.fence, JobState.SUCCEEDED)
    with pytest.raises(LeaseLost):
        finish(bench, claim.fence, JobState.FAILED)
    with bench.session() as session, pytest.raises(LeaseLost, match="ended already"):
        lease.end_attempt(session, claim.job, JobState.FAILED, actor="x", error=None)
    assert bench.state(job) == "succeeded"


def test_a_failure_follows_the_retry_rules(bench: Any) -> None:
    job = bench.job("queued")
    settings = bench.settings.jobs
    for failure in range(1, settings.max_failures):
        fence = bench.claim(job).fence
        before = bench.clock()
        with bench.session() as session:
            ended = lease.fail(session, fence, EngineFailed("no"), actor="w", settings=settings)
        assert (ended.state, ended.failures) == ("waiting_retry", failure)
        delay = settings.backoff_seconds * 2 ** (failure - 1)
        assert bench.between(bench.earliest("not_before"), before + delay, bench.clock() + delay)
        bench.reap(after=settings.backoff_max_seconds)
        assert bench.state(job) == "queued"
    with bench.session() as session:
        fence = bench.claim(job).fence
        ended = lease.fail(session, fence, EngineFailed("no"), actor="w", settings=settings)
    assert (ended.state, ended.failures, ended.error_code) == ("failed", settings.max_failures, "E_ENGINE_FAILED")


def test_a_full_disk_never_uses_a_job_up(bench: Any) -> None:
    job = bench.job("queued")
    for _ in range(bench.settings.jobs.max_failures + 2):
        fence = bench.claim(job).fence
        with bench.session() as session:
            ended = lease.fail(session, fence, DiskFull("no"), actor="w", settings=bench.settings.jobs)
        assert (ended.state, ended.failures) == ("waiting_retry", 0)
        bench.reap(after=1000)


# --- the reaper ------------------------------------------------------------------------------------------------------


def test_the_reaper_leaves_live_leases_alone(bench: Any) -> None:
    job = bench.job("queued")
    bench.claim(job, lease_seconds=4000)
    result = bench.reap(after=3900)
    assert (result.lost, result.runs, bench.state(job)) == ([], [], "running")


def test_the_reaper_gives_a_lost_job_back_at_once(bench: Any) -> None:
    job = bench.job("queued")
    bench.claim(job, run_id="run-7")
    result = bench.reap(after=LEASE + 1)
    row = bench.row(job)
    assert (result.lost, result.runs, result.due) == ([job], ["run-7"], 1)
    assert (row.state, row.failures, row.error_code, row.run_id) == ("queued", 1, "E_WORKER_LOST", None)
    assert bench.events(job) == ["received", "queued", "claimed", "waiting_retry", "queued"]
    assert "w1" in row.error["detail"]


def test_a_job_that_kills_its_workers_is_given_up(bench: Any) -> None:
    job = bench.job("queued")
    for number in range(1, bench.settings.jobs.max_failures + 1):
        assert bench.claim(job).fence.attempt == number
        bench.reap(after=1000)
        bench.reap(after=2000)  # the second loss waits for a while
    row = bench.row(job)
    assert (row.state, row.error_code, row.failures) == ("failed", "E_WORKER_LOST", bench.settings.jobs.max_failures)


def test_the_reaper_carries_a_cancel_out(bench: Any) -> None:
    job = bench.job("queued")
    bench.claim(job, run_id="run-8")
    request_cancel(bench, job)
    result = bench.reap(after=LEASE + 1)
    row = bench.row(job)
    assert (row.state, row.error_code, row.cancel_requested) == ("cancelled", "E_CANCELLED", False)
    assert (result.lost, result.runs, result.due) == ([job], ["run-8"], 0)


def test_the_reaper_passes_over_a_row_that_is_being_written(bench: Any) -> None:
    fence = bench.claim(bench.job("queued")).fence
    other = bench.job("running")
    with bench.session() as session:
        lease.assert_held(session, fence)
        assert bench.reap(after=LEASE + 1).lost == [other]
    assert bench.reap(after=LEASE + 1).lost == [fence.job_uuid]


def test_a_held_job_does_not_come_due(bench: Any) -> None:
    job = bench.job("waiting_retry")
    with bench.session() as session:
        control.hold(session, job, held=True, actor="user:ana")
    assert bench.reap(after=1000).due == 0
    with bench.session() as session:
        control.hold(session, job, held=False, actor="user:ana")
    assert bench.reap(after=1000).due == 1
    assert bench.state(job) == "queued"


def test_a_retry_does_not_come_early(bench: Any) -> None:
    jobs = bench.settings.jobs.model_copy(update={"backoff_seconds": 800.0})
    bench.settings = bench.settings.model_copy(update={"jobs": jobs})
    job = bench.job("waiting_retry")
    assert bench.reap(after=700).due == 0
    assert bench.state(job) == "waiting_retry"


def test_a_due_retry_keeps_its_place(bench: Any) -> None:
    first = bench.job("queued")
    bench.rows("UPDATE job SET fair_key = 3")
    fence = bench.claim(first).fence
    bench.bulk(10, user="ben", first=5)
    finish(bench, fence, JobState.WAITING_RETRY, error=EngineFailed("no"), delay_seconds=1)
    bench.reap(after=5)
    assert bench.claim_next().fence.job_uuid == first


def test_the_next_moment_of_interest(bench: Any) -> None:
    def seconds() -> float | None:
        with bench.session() as session:
            return reap.seconds_to_next(session)

    def is_next(moment: str) -> bool:
        before, left = bench.clock(), seconds()
        return left is not None and bench.between(bench.earliest(moment) - left, before, bench.clock())

    assert seconds() is None
    bench.claim(bench.job("queued"), lease_seconds=4000)
    assert is_next("lease_expires_at")
    waiting = bench.job("waiting_retry")
    bench.rows("UPDATE job SET not_before = ironclad_now() + interval '1000 seconds' WHERE job_uuid = :j", j=waiting)
    assert is_next("not_before")
    with bench.later(1001).session() as session:
        assert reap.seconds_to_next(session) == 0.0
    with bench.session() as session:
        control.hold(session, waiting, held=True, actor="u")
    assert is_next("lease_expires_at")


def test_lost_runs_are_found_again_after_a_restart(bench: Any) -> None:
    job = bench.job("queued")
    for run in ("run-1", "run-2"):
        bench.claim(job, run_id=run)
        bench.reap(after=1000)
        bench.reap(after=2000)
    fence = bench.claim(job, run_id="run-3").fence
    finish(bench, fence, JobState.SUCCEEDED)
    with bench.session() as session:
        assert set(reap.lost_runs(session, 5000)) == {"run-1", "run-2"}
    with bench.later(6000).session() as session:
        assert reap.lost_runs(session, 1000) == []


def test_a_worker_lost_verdict_is_the_reapers_alone(bench: Any) -> None:
    settings = bench.settings.jobs
    assert retry.decide(WorkerLost(), failures=0, settings=settings).delay_seconds == 0
    assert retry.decide(WorkerLost(), failures=1, settings=settings).delay_seconds > 0
    assert retry.decide(Cancelled(), failures=1, settings=settings).state is JobState.CANCELLED
