"""benchmarks/job_queue.py, scaled down: no job is claimed twice or lost, no zombie writes."""

from __future__ import annotations

from typing import Any

from ironclad.jobs import dispatch


def url(bench: Any) -> str:
    return str(bench.database.url.render_as_string(hide_password=False))


def test_eight_claimers_share_the_queue(bench: Any, queue_benchmark: Any) -> None:
    result = queue_benchmark.race(
        bench.database, url(bench), claimers=8, jobs=400, run=queue_benchmark.by_threads
    )  # fmt: skip
    expected = {"claims": 400, "double": 0, "lost": 0, "succeeded": 400, "claimed_events": 400}
    assert {key: result[key] for key in expected} == expected
    assert bench.one("SELECT count(*) FROM attempt WHERE ended_at IS NULL OR attempt <> 1") == 0


def test_no_zombie_writes(bench: Any, queue_benchmark: Any) -> None:
    result = queue_benchmark.zombies(bench.database, url(bench), writes=500)
    expected = {"writes": 500, "refused": 500, "accepted": 0, "unchanged": True}
    assert {key: result[key] for key in expected} == expected
    assert result["jobs"] == {"running": 17 + 16, "queued": 17}  # run out, taken over; reaped


def test_the_benchmark_notices_a_zombie_that_is_let_in(bench: Any, queue_benchmark: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(queue_benchmark.lease, "assert_held", lambda *_: None)
    monkeypatch.setattr(queue_benchmark.history, "assert_held", lambda *_: None)
    result = queue_benchmark.zombies(bench.database, url(bench), writes=20)
    assert result["accepted"] > 0
    assert not result["unchanged"]


def test_a_dispatch_takes_no_more_than_it_may_whatever_the_plan(bench: Any) -> None:
    bench.bulk(40)
    for forced in (
        "",
        "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_material = off",
    ):
        for aggregate in ("on", "off"):
            with bench.session() as session:
                connection = session.connection()
                connection.exec_driver_sql(f"SET LOCAL enable_hashagg = {aggregate}; {forced}")
                connection.exec_driver_sql(f"SET LOCAL enable_sort = {aggregate}")
                assert len(dispatch.pick(session, "cpu", 3)) == 3
    assert bench.one("SELECT count(*) FROM job WHERE dispatched_at IS NOT NULL") == 12


def test_two_dispatchers_share_the_queue(bench: Any) -> None:
    bench.bulk(10)
    with bench.session() as one, bench.later(0).session() as other:
        first = {job.job_uuid for job in dispatch.pick(one, "cpu", 4)}
        second = {job.job_uuid for job in dispatch.pick(other, "cpu", 4)}
    assert (len(first), len(second), first & second) == (4, 4, set())
