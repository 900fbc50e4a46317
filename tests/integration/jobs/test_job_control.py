"""Hold, release, cancel, retry, replay, pause: what operators do, in every state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.errors import BadRequest, EngineFailed, IllegalTransition, NotFound
from ironclad.jobs import control, dispatch, lease, reap
from ironclad.jobs.ids import uuid7
from ironclad.jobs.states import SETTLED, JobState

if TYPE_CHECKING:
    from uuid import UUID

POOLS = frozenset({"cpu"})
BOTH = frozenset({"cpu", "gpu"})


def hold(bench: Any, job: UUID, held: bool = True) -> None:  # noqa: FBT001, FBT002 - reads well
    with bench.session() as session:
        control.hold(session, job, held=held, actor="user:ana")


def cancel(bench: Any, job: UUID) -> Any:
    with bench.session() as session:
        return control.cancel(session, job, actor="user:ana")


def retry(bench: Any, job: UUID, pools: frozenset[str] = POOLS) -> Any:
    with bench.session() as session:
        return control.retry(session, job, actor="user:ana", pools=pools)


def replay(bench: Any, job: UUID, stage: str, **more: Any) -> Any:
    with bench.session() as session:
        return control.replay(session, job, stage=stage, actor="user:ana", pools=BOTH, **more)


# --- hold ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(set(JobState) - SETTLED))
def test_what_has_not_ended_can_be_held_and_released(bench: Any, state: str) -> None:
    job = bench.job(state)
    hold(bench, job)
    assert (bench.row(job).held, bench.state(job)) == (True, state)
    hold(bench, job, held=False)
    assert not bench.row(job).held
    assert bench.events(job)[-2:] == ["held", "released"]


@pytest.mark.parametrize("state", sorted(SETTLED))
def test_what_has_ended_cannot_be_held(bench: Any, state: str) -> None:
    job = bench.job(state)
    with pytest.raises(IllegalTransition, match="nothing to hold"):
        hold(bench, job)


def test_a_held_job_is_passed_over_until_it_is_released(bench: Any) -> None:
    first, second = bench.job("queued"), bench.job("queued")
    hold(bench, first)
    assert bench.claim_next().fence.job_uuid == second
    assert bench.claim_next() is None
    hold(bench, first, held=False)
    assert bench.claim_next().fence.job_uuid == first


def test_a_hold_reaches_a_job_that_was_dispatched(bench: Any) -> None:
    job = bench.job("queued")
    with bench.session() as session:
        dispatch.pick(session, "cpu", 1)
    hold(bench, job)
    with bench.session() as session:
        assert lease.claim(session, job, 1, worker="w", lease_seconds=30) is None
    row = bench.row(job)
    assert (row.state, row.attempt, row.dispatched_at) == ("queued", 0, None)
    assert bench.events(job)[-1] == "undispatched"


# --- cancel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["received", "queued", "waiting_retry"])
def test_what_waits_is_cancelled_at_once(bench: Any, state: str) -> None:
    job = bench.job(state)
    row = cancel(bench, job)
    assert (row.state, row.cancel_requested, row.not_before) == ("cancelled", False, None)
    assert row.finished_at is not None
    assert bench.events(job)[-1] == "cancelled"
    assert bench.claim_next() is None


def test_what_runs_is_asked_to_stop(bench: Any) -> None:
    job = bench.job("running")
    row = cancel(bench, job)
    assert (row.state, row.cancel_requested) == ("running", True)
    assert bench.events(job)[-1] == "cancel_requested"


@pytest.mark.parametrize("state", sorted(SETTLED))
def test_what_has_ended_cannot_be_cancelled(bench: Any, state: str) -> None:
    job = bench.job(state)
    with pytest.raises(IllegalTransition, match="already"):
        cancel(bench, job)


def test_the_flow_run_of_a_cancelled_job_is_known_until_it_is_told(bench: Any) -> None:
    job = bench.job("queued")
    with bench.session() as session:
        dispatch.pick(session, "cpu", 1)
    bench.rows("UPDATE job SET run_id = 'run-1'")
    cancel(bench, job)
    with bench.session() as session:
        (told,) = reap.withdrawn(session)
        assert (told.job_uuid, told.run_id) == (job, "run-1")
        reap.forget(session, told)
        assert reap.withdrawn(session) == []
    with bench.session() as session, pytest.raises(lease.LeaseLost):
        lease.claim(session, job, 1, worker="w", lease_seconds=30)


# --- retry, replay, requeue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [*sorted(SETTLED), "waiting_retry"])
def test_a_retry_puts_a_job_back(bench: Any, state: str) -> None:
    job = bench.job(state)
    before = bench.row(job)
    row = retry(bench, job)
    assert (row.state, row.failures, row.not_before, row.finished_at, row.dispatched_at, row.run_id) == (
        "queued", 0, None, None, None, None,
    )  # fmt: skip
    assert (row.stage, row.attempt, row.options["force"], row.progress, row.filed) == (
        before.stage, before.attempt, True, 0.0, False,
    )  # fmt: skip
    assert row.queued_at is not None
    assert bench.events(job)[-1] == "retried"
    assert bench.claim_next().fence.attempt == before.attempt + 1


@pytest.mark.parametrize("state", ["received", "queued", "running"])
def test_what_has_not_ended_is_not_retried(bench: Any, state: str) -> None:
    job = bench.job(state)
    with pytest.raises(IllegalTransition):
        retry(bench, job)
    with pytest.raises(IllegalTransition):
        replay(bench, job, "separate")


def test_a_job_without_its_file_is_not_retried(bench: Any) -> None:
    job = bench.job("received")
    cancel(bench, job)
    with pytest.raises(IllegalTransition, match="never got its file"):
        retry(bench, job)


def test_a_retry_counts_failures_anew(bench: Any) -> None:
    job = bench.job("waiting_retry")
    assert bench.row(job).failures == 1
    retry(bench, job)
    with bench.session() as session:
        fence = bench.claim(job).fence
        again = lease.fail(session, fence, EngineFailed(), actor="w", settings=bench.settings.jobs)
    assert (again.state, again.failures) == ("waiting_retry", 1)


def test_an_old_hold_does_not_stop_a_retry_but_a_present_one_does(bench: Any) -> None:
    stopped = bench.job("queued")
    hold(bench, stopped)
    cancel(bench, stopped)
    assert not retry(bench, stopped).held
    waiting = bench.job("waiting_retry")
    hold(bench, waiting)
    assert retry(bench, waiting).held


def test_a_retry_goes_to_the_pool_of_its_stage(bench: Any) -> None:
    job = bench.job("failed", engine_pool="gpu")
    bench.rows("UPDATE job SET stage = 'separate'")
    assert retry(bench, job, BOTH).pool == "gpu"
    job = bench.job("failed", engine_pool="gpu")
    assert retry(bench, job, BOTH).pool == "cpu"


def test_a_retried_job_queues_behind_its_users_others(bench: Any) -> None:
    job = bench.job("failed")
    bench.bulk(3, user="ana", first=7)
    assert retry(bench, job).fair_key == 10


def test_a_replay_starts_over_from_a_stage(bench: Any) -> None:
    job = bench.job("succeeded")
    row = replay(bench, job, "separate")
    assert (row.state, row.stage) == ("queued", "validate")
    assert row.options == {"replay_from": "separate", "replay_attempt": 2, "force": True, "keep_results": False}
    assert bench.events(job)[-1] == "replayed"
    assert bench.claim_next().fence.attempt == 2


def test_a_replay_may_take_another_engine(bench: Any) -> None:
    job = bench.job("succeeded")
    row = replay(bench, job, "separate", engine="demucs", engine_pool="gpu", parameters={"shifts": 2})
    assert (row.engine, row.engine_pool, row.parameters, row.pool) == ("demucs", "gpu", {"shifts": 2}, "cpu")
    row = replay(bench, bench.job("succeeded"), "separate")
    assert (row.engine, row.parameters) == ("center", {})


@pytest.mark.parametrize(
    ("taken", "wanted"), [((), None), (("",), "demucs"), (("", "demucs"), "demucs 2"), (("demucs 2",), "demucs")]
)
def test_a_result_beside_others_has_a_name_of_its_own(bench: Any, taken: tuple[str, ...], wanted: str | None) -> None:
    job = bench.job("succeeded")
    for name in taken:
        bench.rows(
            "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state, receipt) VALUES "
            "(gen_random_uuid(), :job, 1, 'instrumental', :path, 1, 'x', 'published', "
            "jsonb_build_object('result', CAST(:name AS text)))",
            job=job, path=f"/{name}", name=name,
        )  # fmt: skip
    assert replay(bench, job, "separate", keep=True, engine="demucs").options.get("result") == wanted


def test_a_replay_that_keeps_nothing_has_the_plain_name_again(bench: Any) -> None:
    job = bench.job("succeeded", options={"result": "demucs"})
    assert not replay(bench, job, "separate").options["result"]


def test_a_replay_from_nowhere_names_the_stages(bench: Any) -> None:
    job = bench.job("succeeded")
    with pytest.raises(BadRequest, match="validate, categorize"):
        replay(bench, job, "mastering")


@pytest.mark.parametrize("call", [cancel, retry, hold])
def test_a_job_that_is_not_there_is_named(bench: Any, call: Any) -> None:
    with pytest.raises(NotFound):
        call(bench, uuid7())


# --- pauses ----------------------------------------------------------------------------------------------------------


def pause(bench: Any, pool: str | None, *, paused: bool) -> None:
    with bench.session() as session:
        control.pause(session, pool, paused=paused, actor="user:ana")


def reason(bench: Any, pool: str = "cpu") -> str | None:
    with bench.session() as session:
        return control.pause_reason(session, pool)


def declare(bench: Any, **pools: int) -> None:
    with bench.session() as session:
        control.declare_pools(session, pools)


def test_nothing_is_paused_at_first(bench: Any) -> None:
    assert reason(bench) is None
    declare(bench, cpu=2)
    assert reason(bench) is None


def test_a_pause_of_the_pipeline_stops_every_claim(bench: Any) -> None:
    job = bench.job("queued")
    running = bench.claim(bench.job("queued"))
    pause(bench, None, paused=True)
    assert reason(bench) == reason(bench, "gpu") == "the pipeline is paused"
    assert bench.claim_next() is None
    with bench.session() as session:
        assert lease.claim(session, job, 1, worker="w", lease_seconds=30) is None
    with bench.session() as session:  # what runs goes on
        lease.heartbeat(session, running.fence, lease_seconds=30)
    pause(bench, None, paused=False)
    assert bench.claim_next().fence.job_uuid == job


def test_a_pause_of_one_pool_leaves_the_other(bench: Any) -> None:
    declare(bench, cpu=2, gpu=1)
    on_cpu = bench.job("queued")
    on_gpu = bench.job("queued", pool="gpu")
    pause(bench, "cpu", paused=True)
    assert (reason(bench), reason(bench, "gpu")) == ("pool cpu is paused", None)
    assert bench.claim_next() is None
    assert bench.claim_next("gpu").fence.job_uuid == on_gpu
    declare(bench, cpu=4)  # a restarted dispatcher changes the slots, not the pause
    assert reason(bench) == "pool cpu is paused"
    pause(bench, "cpu", paused=False)
    assert bench.claim_next().fence.job_uuid == on_cpu


def test_a_full_disk_stops_every_claim(bench: Any) -> None:
    bench.job("queued")
    with bench.session() as session:
        control.set_switch(session, control.DISK, {"low": True})
    assert reason(bench) == "the disk is almost full"
    assert bench.claim_next() is None
    with bench.session() as session:
        control.set_switch(session, control.DISK, {"low": False})
    assert bench.claim_next() is not None


def test_an_unknown_pool_is_not_paused_silently(bench: Any) -> None:
    with pytest.raises(BadRequest, match="none yet"):
        pause(bench, "gpu", paused=True)
    declare(bench, cpu=2, fast=1)
    with pytest.raises(BadRequest, match="cpu, fast"):
        pause(bench, "gpu", paused=True)


def test_pools_are_declared_once_and_their_slots_kept_current(bench: Any) -> None:
    declare(bench, cpu=2, gpu=1)
    declare(bench, cpu=3)
    rows = bench.rows("SELECT name, slots FROM pool ORDER BY name")
    assert [tuple(row) for row in rows] == [("cpu", 3), ("gpu", 1)]


def test_switches_hold_what_was_last_said(bench: Any) -> None:
    with bench.session() as session:
        assert control.switch(session, "x") == {}
        control.set_switch(session, "x", {"a": 1})
        control.set_switch(session, "x", {"b": [1, 2]})
        assert control.switch(session, "x") == {"b": [1, 2]}


def test_a_dispatch_can_be_taken_back_once(bench: Any) -> None:
    job = bench.job("queued")
    with bench.session() as session:
        (picked,) = dispatch.pick(session, "cpu", 1)
        assert not lease.undispatch(session, job, reason="an older one", dispatch_seq=picked.seq - 1)
        assert lease.undispatch(session, job, reason="test", dispatch_seq=picked.seq)
        assert not lease.undispatch(session, job, reason="again")
    data = bench.one("SELECT data FROM job_event WHERE kind = 'undispatched'")
    assert data == {"reason": "test"}, json.dumps(data)


def test_a_claimed_job_is_not_undispatched(bench: Any) -> None:
    job = bench.job("queued")
    with bench.session() as session:
        dispatch.pick(session, "cpu", 1)
    bench.claim(job)
    with bench.session() as session:
        assert not lease.undispatch(session, job, reason="too late")
