"""The glance: what it counts, which problem it names first, and how long a job still takes."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from ironclad.errors import Unexpected
from ironclad.jobs import control, failures, history, lease, overview
from ironclad.jobs.query import PoolView
from ironclad.jobs.states import JobState

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
QUIET = overview.Glance(
    at=AT, states={state.value: 0 for state in JobState}, held=0, paused=False, disk_low=False,
    pools=(PoolView("cpu", 2, False, 0, 0, 0, None),),
    services=(overview.Service("watch@box/1", "watch", "box", 7, None, AT, AT, False, {"status": "ok"}),),
)  # fmt: skip


def look(bench: Any) -> overview.Glance:
    with bench.session() as session:
        return overview.glance(session)


def test_an_empty_installation_is_well(bench: Any) -> None:
    view = look(bench)
    assert set(view.states) == {state.value for state in JobState}
    assert (view.waiting, view.broken, view.held, sum(view.succeeded)) == (0, 0, 0, 0)
    assert overview.worst(view) == overview.Problem("ok", "All is well.", "overview")


def test_everything_is_counted(bench: Any) -> None:
    with bench.session() as session:
        control.declare_pools(session, {"cpu": 2, "gpu": 1})
    for state in JobState:
        if state is not JobState.QUARANTINED:
            bench.job(state.value)
    held = bench.job("queued")
    with bench.session() as session:
        control.hold(session, held, held=True, actor="test")
        control.pause(session, "gpu", paused=True, actor="test")
        session.execute(
            sa.text("INSERT INTO worker (name, kind, host, pid, seen_at) VALUES "
                    "('old@box/1', 'watch', 'box', 1, ironclad_now() - interval '1 hour'), "
                    "('new@box/1', 'worker', 'box', 2, ironclad_now())")
        )  # fmt: skip
    view = look(bench)
    assert view.states["queued"] == 2
    assert view.states["succeeded"] == view.states["failed"] == view.states["running"] == 1
    assert (view.held, view.waiting, view.broken) == (1, 4, 1)
    cpu, gpu = view.pools
    assert (cpu.running, cpu.waiting, cpu.dispatched, cpu.slots) == (1, 1, 0, 2)
    assert cpu.oldest_waiting_seconds is not None
    assert (gpu.paused, gpu.waiting, gpu.oldest_waiting_seconds) == (True, 0, None)
    assert [(s.name, s.late, s.status) for s in view.services] == [
        ("new@box/1", False, "ok"), ("old@box/1", True, "missing"),
    ]  # fmt: skip
    assert view.succeeded[-1] == view.failed[-1] == 1
    assert view.events[0].id > view.events[-1].id
    assert {event.kind for event in view.events} >= {"held", "claimed", "succeeded"}


def test_a_running_job_shows_its_stage_and_when_it_ends(bench: Any) -> None:
    done = bench.job("succeeded")
    bench.rows("UPDATE job SET duration_seconds = 100 WHERE job_uuid = :job", job=done)
    bench.rows("UPDATE attempt SET ended_at = started_at + interval '50 seconds'")
    job = bench.job("queued")
    fence = bench.claim(job).fence
    with bench.session() as session:
        history.stage_started(session, fence, "separate")
        history.stage_progress(session, fence, "separate", 0.25, "segment 1 of 4")
        lease.heartbeat(session, fence, lease_seconds=30, progress=0.4)
    bench.rows("UPDATE job SET duration_seconds = 200, artist = 'Ana', title = 'Blue' WHERE job_uuid = :job", job=job)
    (running,) = look(bench).running
    assert (running.name, running.stage, running.message) == ("Ana - Blue", "separate", "segment 1 of 4")
    assert (running.stage_progress, running.progress) == (0.25, 0.4)
    assert running.eta_seconds == pytest.approx(200 * 0.5 * 0.6)
    assert 0 <= running.elapsed_seconds < 60


@pytest.mark.parametrize(
    ("progress", "elapsed", "duration", "pace", "wanted"),
    [
        (0.0, 0.0, 100.0, 2.0, 200.0),
        (0.5, 99.0, 100.0, 2.0, 100.0),
        (1.0, 1.0, 100.0, 2.0, 0.0),
        (0.5, 30.0, None, 2.0, 30.0),
        (0.25, 30.0, 100.0, None, 90.0),
        (0.01, 30.0, 100.0, None, None),
        (0.0, 0.0, None, None, None),
    ],
)
def test_the_time_left(
    progress: float, elapsed: float, duration: float | None, pace: float | None, wanted: float | None
) -> None:
    assert overview.eta(progress, elapsed, duration, pace) == wanted


def service(status: str, *, late: bool = False) -> overview.Service:
    return overview.Service("dispatch@box/1", "dispatch", "box", 7, None, AT, AT, late, {"status": status})


WAITING = PoolView("cpu", 2, False, 0, 0, 5, 100.0)


@pytest.mark.parametrize(
    ("change", "severity", "part", "where"),
    [
        ({"disk_low": True, "paused": True}, "bad", "disk is almost full", "maintenance"),
        ({"services": (service("ok", late=True),)}, "bad", "dispatch does not report", "workers"),
        ({"services": (service("failed"),)}, "bad", "dispatch does not work", "health"),
        ({"services": (), "states": {"queued": 1}}, "bad", "No service is running", "health"),
        ({"failed": (0,) * 59 + (3,), "paused": True}, "bad", "3 jobs failed", "failures"),
        ({"failed": (3,) + (0,) * 59}, "ok", "All is well", "overview"),
        ({"paused": True}, "warn", "pipeline is paused", "workers"),
        ({"pools": (PoolView("gpu", 2, True, 0, 0, 0, None),)}, "warn", "Paused: gpu", "workers"),
        ({"services": (service("degraded"),)}, "warn", "works worse", "health"),
        ({"pools": (WAITING,)}, "warn", "none is running", "workers"),
        ({"pools": (replace(WAITING, oldest_waiting_seconds=3.0),)}, "ok", "All is well", "overview"),
        ({"states": {"failed": 1}}, "warn", "1 job failed", "failures"),
    ],
)  # fmt: skip
def test_the_worst_problem_comes_first(change: dict[str, Any], severity: str, part: str, where: str) -> None:
    problem = overview.worst(replace(QUIET, **change))
    assert (problem.severity, problem.where) == (severity, where)
    assert part in problem.text


def test_failures_are_grouped_by_cause(bench: Any) -> None:
    first, second = bench.job("failed"), bench.job("failed")
    odd = bench.job("queued")
    fence = bench.claim(odd).fence
    with bench.session() as session:
        error = Unexpected("KeyError: 'x'", fingerprint="abcd")
        lease.finish(session, fence, JobState.FAILED, actor="worker", error=error)
    bench.job("skipped")
    with bench.session() as session:
        groups = failures.groups(session)
        assert [(g.code, g.fingerprint, g.jobs) for g in groups] == [
            ("E_NOT_AUDIO", "", 2),
            ("E_UNEXPECTED", "abcd", 1),
        ]
        audio, unexpected = groups
        assert audio.example == second
        assert failures.members(session, audio.key) == (first, second)
        assert failures.members(session, audio.key, after=first) == (second,)
        assert failures.members(session, audio.key, limit=1) == (first,)
        assert failures.members(session, unexpected.key) == (odd,)
    assert (audio.kind, audio.detail) == ("input", "no")
    assert "no audio" in audio.what
    assert "KeyError" in unexpected.detail
    assert unexpected.hint


def test_the_glance_stays_quick_with_many_jobs(bench: Any) -> None:
    """Its statements, by EXPLAIN, on 20,000 jobs of which most are settled: short walks, no whole table."""
    bench.bulk(20_000)
    with bench.session() as session:
        session.execute(sa.text("SET LOCAL session_replication_role = replica"))
        session.execute(
            sa.text(
                "UPDATE job SET state = 'succeeded', finished_at = ironclad_now() - make_interval(secs => fair_key) "
                "WHERE fair_key > 500"
            )
        )
    with bench.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE job"))
    with bench.session() as session:
        control.declare_pools(session, {"cpu": 2})
        for statement in (overview._SUMMARY, overview._THROUGHPUT, overview._RUNNING):
            values = {"at": AT, "minutes": 60, "length": 9, "limit": 9}
            plan = "\n".join(row[0] for row in session.execute(sa.text(f"EXPLAIN {statement}"), values))
            # Nearly all have succeeded here: counting those may read the table, and nothing else may.
            rest = re.sub(r"Seq Scan on job .*\n.*Filter: \(\(state\)::text = 'succeeded'::text\)", "", plan)
            assert "Seq Scan on job " not in rest, plan
        view = overview.glance(session)
    assert view.pools[0].waiting == 501
    assert sum(view.succeeded) == pytest.approx(3600 - 500, abs=61)
