"""Jobs of a pool that was taken out of the settings: said, and sent where new ones go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ironclad.jobs import explain, lease, overview, pools, query
from ironclad.jobs.states import JobState
from ironclad.ops.checks import services
from ironclad.ops.checks.outcome import Level

if TYPE_CHECKING:
    from uuid import UUID

ONE = {"cpu": 2}
BOTH = {"cpu": 2, "gpu": 1}


def declare(bench: Any, names: dict[str, int]) -> None:
    with bench.session() as session:
        pools.declare(session, names)


def look(bench: Any, names: dict[str, int] | None = None) -> pools.Rerouted:
    with bench.session() as session:
        return pools.reroute(session, names or ONE)


def worker(bench: Any, seconds_ago: float = 0.0) -> None:
    bench.rows(
        "INSERT INTO worker (name, kind, host, pid, pool, seen_at) VALUES ('worker-gpu@b', 'worker', 'b', 1, 'gpu', "
        "ironclad_now() - make_interval(secs => :ago))",
        ago=seconds_ago,
    )


@pytest.fixture
def stranded(bench: Any) -> UUID:
    """A job that waits to be separated on the gpu pool, which nobody's settings name any more."""
    declare(bench, BOTH)
    job = bench.job("queued")
    bench.rows("UPDATE job SET pool = 'gpu', engine_pool = 'gpu', stage = 'separate'")
    declare(bench, ONE)
    return job  # type: ignore[no-any-return]  # the workbench is untyped


def test_it_goes_where_a_new_job_would_go(bench: Any, stranded: UUID) -> None:
    assert look(bench).moved == {"gpu": 1}
    row = bench.row(stranded)
    assert (row.pool, row.state, row.stage, row.engine_pool) == ("cpu", "queued", "separate", "gpu")
    assert bench.events(stranded)[-1] == "rerouted"
    assert look(bench).moved == {}
    assert bench.one("SELECT count(*) FROM pool WHERE name = 'gpu'") == 0
    with bench.session() as session:
        assert any("another pool" in line for line in explain.explain(session, bench.settings.layout, stranded).done)
        claimed = lease.claim_next(session, "cpu", worker="w", lease_seconds=30)
    assert claimed is not None


def test_what_waits_for_a_retry_goes_too_and_a_waiting_flow_run_is_ended(bench: Any) -> None:
    declare(bench, BOTH)
    retrying, sent = bench.job("waiting_retry"), bench.job("queued")
    bench.rows("UPDATE job SET pool = 'gpu'")
    bench.rows("UPDATE job SET dispatched_at = ironclad_now(), run_id = 'run-7' WHERE job_uuid = :job", job=sent)
    result = look(bench)
    assert (result.moved, result.runs) == ({"gpu": 2}, ["run-7"])
    assert {bench.row(job).pool for job in (retrying, sent)} == {"cpu"}
    assert (bench.row(sent).dispatched_at, bench.row(sent).run_id) == (None, None)
    assert bench.state(retrying) == "waiting_retry"


def test_what_runs_is_left_to_its_worker(bench: Any) -> None:
    declare(bench, BOTH)
    job = bench.job("queued")
    bench.rows("UPDATE job SET pool = 'gpu'")
    claim = bench.claim(job)
    for _ in range(2):
        assert look(bench).moved == {}
    assert bench.row(job).pool == "gpu"
    assert bench.one("SELECT count(*) FROM pool WHERE name = 'gpu'") == 1  # it still has a job
    with bench.session() as session:
        lease.finish(session, claim.fence, JobState.SUCCEEDED, actor="w")
    look(bench)
    assert bench.one("SELECT count(*) FROM pool WHERE name = 'gpu'") == 0


def test_a_pool_that_another_machine_serves_is_left_alone_and_said(bench: Any, stranded: UUID) -> None:
    worker(bench)
    result = look(bench)
    assert (result.moved, result.left) == ({}, ("gpu",))
    with bench.session() as session:
        said = explain.explain(session, bench.settings.layout, stranded).todo
        (gpu,) = (pool for pool in query.overview(session).pools if pool.name == "gpu")
        problem = overview.worst(overview.glance(session))
        (seen,) = (pool for pool in overview.glance(session).pools if pool.name == "gpu")
    assert "which the dispatcher does not feed: it feeds cpu" in said[0]
    assert (gpu.fed, gpu.waiting, seen.fed) == (False, 1, False)
    assert "Jobs wait for pool gpu, which is not among the dispatcher's pools." in problem.text
    bench.rows("UPDATE worker SET seen_at = ironclad_now() - interval '2 minutes'")
    assert look(bench).moved == {"gpu": 1}


def test_the_doctor_says_it(bench: Any, stranded: UUID) -> None:
    (found,) = services.pools(bench.settings)
    assert (found.level, found.about, "1 jobs wait" in found.detail) == (Level.WARN, "gpu", True)
    look(bench)
    (found,) = services.pools(bench.settings)
    assert found.level is Level.OK


def test_a_pool_that_was_never_declared_is_nobodys_business(bench: Any) -> None:
    declare(bench, ONE)
    job = bench.job("queued")
    bench.rows("UPDATE job SET pool = 'inline-7'")
    assert look(bench) == pools.Rerouted()
    assert bench.row(job).pool == "inline-7"


def test_many_are_moved_in_batches_in_their_order(bench: Any) -> None:
    declare(bench, BOTH)
    bench.bulk(450, pool="gpu")
    declare(bench, ONE)
    assert [look(bench).moved.get("gpu") for _ in range(4)] == [200, 200, 50, None]
    order = bench.rows("SELECT title FROM job ORDER BY fair_key, job_uuid")
    assert [row.title for row in order] == [f"Song {number}" for number in range(450)]
