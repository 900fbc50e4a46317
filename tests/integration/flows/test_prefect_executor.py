"""`PrefectExecutor` against a real Prefect server: every payload it sends is accepted and does what it says."""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from ironclad.errors import PrefectUnavailable
from ironclad.jobs.executor import Executor, FlowRequest, RunState
from ironclad_flows.executor import ENTRYPOINT, PrefectExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Prefect


@pytest.fixture
def executor(prefect: Prefect) -> Iterator[PrefectExecutor]:
    with PrefectExecutor(prefect.url) as executor:
        yield executor


@pytest.fixture
def pool() -> str:
    return f"pool-{uuid.uuid4().hex[:8]}"


def request(pool: str, key: str = "", name: str = "Artist - Title") -> FlowRequest:
    job = uuid.uuid4()
    return FlowRequest(job, 1, "validate", pool, key or f"{job}:1:validate:1", name, (f"job:{job}", "user:ann"))


def test_it_is_an_executor(executor: PrefectExecutor) -> None:
    as_protocol: Executor = executor
    assert as_protocol


def test_prepare_makes_pools_and_deployments_and_makes_them_current(
    prefect: Prefect, executor: PrefectExecutor, pool: str
) -> None:
    executor.prepare({pool: 2})
    executor.prepare({pool: 3})
    made = prefect.client.get(f"/work_pools/{pool}").json()
    assert (made["type"], made["concurrency_limit"], made["is_paused"]) == ("ironclad", None, False)
    deployment = prefect.client.get(f"/deployments/name/process-track/{pool}").json()
    assert (deployment["entrypoint"], deployment["work_pool_name"]) == (ENTRYPOINT, pool)
    assert deployment["storage_document_id"] is None
    assert not deployment["pull_steps"]


def test_preparing_again_keeps_waiting_runs(prefect: Prefect, executor: PrefectExecutor, pool: str) -> None:
    executor.prepare({pool: 1})
    run_id = executor.submit(request(pool))
    executor.prepare({pool: 1})
    assert executor.state(run_id) is RunState.WAITING


def test_submit_makes_one_run_a_key_with_name_tags_and_parameters(
    prefect: Prefect, executor: PrefectExecutor, pool: str
) -> None:
    executor.prepare({pool: 1})
    wanted = request(pool)
    run_id = executor.submit(wanted)
    assert executor.submit(wanted) == run_id
    run = prefect.run(run_id)
    assert run["name"] == "Artist - Title"
    assert set(run["tags"]) == set(wanted.tags)
    assert run["parameters"] == {"job_uuid": str(wanted.job_uuid), "attempt": 1}
    assert run["work_pool_name"] == pool
    assert executor.state(run_id) is RunState.WAITING


@pytest.mark.parametrize(
    "name", ["", "Zażółć 🎵 - 日本", "a\x00b\nc", "\ud800broken", "x" * 5000, "{{ jinja }} $100 {prefect}"]
)
def test_any_title_is_a_run_name(prefect: Prefect, executor: PrefectExecutor, pool: str, name: str) -> None:
    executor.prepare({pool: 1})
    run = prefect.run(executor.submit(request(pool, name=name)))
    assert run["name"]
    assert len(run["name"]) <= 200
    if name.isprintable() and 0 < len(name) <= 200:
        assert run["name"] == name


def test_a_deployment_that_is_gone_is_made_again(prefect: Prefect, executor: PrefectExecutor, pool: str) -> None:
    executor.prepare({pool: 4})
    deployment = prefect.client.get(f"/deployments/name/process-track/{pool}").json()
    prefect.client.delete(f"/deployments/{deployment['id']}").raise_for_status()
    prefect.client.delete(f"/work_pools/{pool}").raise_for_status()
    assert executor.state(executor.submit(request(pool))) is RunState.WAITING
    assert prefect.client.get(f"/work_pools/{pool}").json()["type"] == "ironclad"


def test_cancelling_a_waiting_run_ends_it_and_is_fine_twice(executor: PrefectExecutor, pool: str) -> None:
    executor.prepare({pool: 1})
    run_id = executor.submit(request(pool))
    executor.cancel(run_id)
    assert executor.state(run_id) is RunState.FINISHED
    executor.cancel(run_id)
    executor.cancel(str(uuid.uuid4()))
    assert executor.state(run_id) is RunState.FINISHED


def test_abandoning_forces_an_end_but_changes_no_ended_run(
    prefect: Prefect, executor: PrefectExecutor, pool: str
) -> None:
    executor.prepare({pool: 1})
    run_id = executor.submit(request(pool))
    prefect.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    assert executor.state(run_id) is RunState.RUNNING
    executor.abandon(run_id, "its lease ran out")
    state = prefect.run(run_id)["state"]
    assert (state["type"], state["message"]) == ("CRASHED", "its lease ran out")
    executor.abandon(run_id, "again")
    assert prefect.run(run_id)["state"]["message"] == "its lease ran out"
    executor.abandon(str(uuid.uuid4()), "unknown")


def test_what_prefect_alone_believes_to_run_is_retired_at_the_second_look(
    prefect: Prefect, executor: PrefectExecutor, pool: str
) -> None:
    executor.prepare({pool: 1})
    gone, busy, waiting = (executor.submit(request(pool)) for _ in range(3))
    for run_id in (gone, busy):
        prefect.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    assert executor.retire(frozenset({busy})) == 0  # it may be about to report its end
    assert executor.retire(frozenset({busy})) == 1
    assert executor.state(gone) is RunState.FINISHED
    assert executor.state(busy) is RunState.RUNNING
    assert executor.state(waiting) is RunState.WAITING
    assert executor.retire(frozenset({busy})) == 0


def test_an_unknown_run_is_unknown(executor: PrefectExecutor) -> None:
    assert executor.state(str(uuid.uuid4())) is RunState.UNKNOWN


@pytest.mark.parametrize(
    ("prefect_state", "expected"),
    [
        ("SCHEDULED", RunState.WAITING),
        ("PENDING", RunState.RUNNING),
        ("PAUSED", RunState.WAITING),
        ("RUNNING", RunState.RUNNING),
        ("CANCELLING", RunState.RUNNING),
        ("COMPLETED", RunState.FINISHED),
        ("FAILED", RunState.FINISHED),
        ("CANCELLED", RunState.FINISHED),
        ("CRASHED", RunState.FINISHED),
    ],
)
def test_every_state_of_prefect_is_mapped(
    prefect: Prefect, executor: PrefectExecutor, pool: str, prefect_state: str, expected: RunState
) -> None:
    executor.prepare({pool: 1})
    run_id = executor.submit(request(pool))
    # Without a process, Prefect takes a run that is to be cancelled for cancelled.
    prefect.client.patch(f"/flow_runs/{run_id}", json={"infrastructure_pid": "host:1"}).raise_for_status()
    if prefect_state == "CANCELLING":
        prefect.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    prefect.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": prefect_state}, "force": True})
    assert prefect.run(run_id)["state"]["type"] == prefect_state
    assert executor.state(run_id) is expected


def test_a_paused_pool_hands_out_nothing(prefect: Prefect, executor: PrefectExecutor, pool: str) -> None:
    executor.prepare({pool: 1})
    executor.submit(request(pool))

    def handed_out() -> int:
        return len(prefect.post(f"/work_pools/{pool}/get_scheduled_flow_runs", {}))

    executor.set_paused(pool, paused=True)
    assert handed_out() == 0
    executor.prepare({pool: 1})
    assert handed_out() == 0, "preparing must not resume what an operator paused"
    executor.set_paused(pool, paused=False)
    assert handed_out() == 1


def test_a_pool_that_nobody_made_cannot_be_paused(executor: PrefectExecutor, pool: str) -> None:
    with pytest.raises(PrefectUnavailable, match="404"):
        executor.set_paused(pool, paused=True)


def test_no_server_is_prefect_unavailable_in_every_call(pool: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with PrefectExecutor(f"http://127.0.0.1:{unused.getsockname()[1]}/api") as executor:
            for call in (
                lambda: executor.prepare({pool: 1}),
                lambda: executor.submit(request(pool)),
                lambda: executor.state("x"),
                lambda: executor.cancel("x"),
                lambda: executor.abandon("x", "why"),
                lambda: executor.set_paused(pool, paused=True),
            ):
                with pytest.raises(PrefectUnavailable):
                    call()
