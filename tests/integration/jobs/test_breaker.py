"""A file that keeps failing in the same way is set aside; failures that say nothing about it do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ironclad.errors import DiskFull, EngineDied, EngineFailed, IroncladError, Unexpected
from ironclad.jobs import control, lease, reap

if TYPE_CHECKING:
    from uuid import UUID

    Workbench = Any  # conftest's

POOLS = frozenset({"cpu"})


def fail(bench: Workbench, job: UUID, error: IroncladError) -> str:
    if bench.state(job) != "queued":
        with bench.session() as session:
            control.retry(session, job, actor="op", pools=POOLS)
    fence = bench.claim(job).fence
    with bench.session() as session:
        return str(lease.fail(session, fence, error, actor="w", settings=bench.settings.jobs).state)


def test_the_fifth_failure_of_one_kind_sets_it_aside(bench: Workbench) -> None:
    job = bench.job()
    assert [fail(bench, job, EngineDied("x")) for _ in range(4)] == ["waiting_retry"] * 4
    assert fail(bench, job, EngineDied("x")) == "quarantined"
    assert bench.events(job)[-1] == "quarantined"
    assert fail(bench, job, EngineDied("x")) == "quarantined"  # a retry by hand gets one attempt


def test_another_error_or_another_place_is_another_story(bench: Workbench) -> None:
    job = bench.job()
    errors = [EngineDied("x"), EngineFailed("x"), Unexpected("x", fingerprint="a"), Unexpected("x", fingerprint="b")]
    assert "quarantined" not in {fail(bench, job, error) for error in errors * 2}


def test_a_full_disk_is_not_the_files_fault(bench: Workbench) -> None:
    job = bench.job()
    assert {fail(bench, job, DiskFull("x")) for _ in range(7)} == {"waiting_retry"}


def test_the_same_bytes_in_another_job_count(bench: Workbench) -> None:
    first, second = bench.job(), bench.job()
    bench.rows("UPDATE job SET content_hash = 'one'")
    assert [fail(bench, job, EngineDied("x")) for job in (first, second, first, second, first)][-1] == "quarantined"


def test_a_success_clears_the_past(bench: Workbench) -> None:
    job = bench.job()
    for _ in range(4):
        fail(bench, job, EngineDied("x"))
    with bench.session() as session:
        control.retry(session, job, actor="op", pools=POOLS)
    fence = bench.claim(job).fence
    with bench.session() as session:
        lease.finish(session, fence, lease.JobState.SUCCEEDED, actor="w")
    assert fail(bench, job, EngineDied("x")) == "waiting_retry"


def test_a_file_that_kills_its_workers_is_set_aside(bench: Workbench) -> None:
    job = bench.job()
    bench.settings = bench.settings.model_copy(
        update={"jobs": bench.settings.jobs.model_copy(update={"max_failures": 99})}
    )
    for number in range(1, 6):
        bench.claim(job)
        result = bench.reap(after=40.0 * number + 10_000 * number)
        assert isinstance(result, reap.Reaped)
        if bench.state(job) == "waiting_retry":
            bench.reap(after=100_000)
    assert bench.state(job) == "quarantined"


@pytest.mark.parametrize("limit", [1, 2])
def test_the_limit_is_a_setting(bench: Workbench, limit: int) -> None:
    jobs = bench.settings.jobs.model_copy(update={"quarantine_after": limit})
    bench.settings = bench.settings.model_copy(update={"jobs": jobs})
    job = bench.job()
    assert [fail(bench, job, EngineDied("x")) for _ in range(limit)][-1] == "quarantined"
