"""Metrics of queue and watch roots, read from a real database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from ironclad.db.session import Database
from ironclad.ops import queue_metrics
from ironclad.ops.metrics import Metrics
from ironclad.ops.queue_metrics import QueueReader, WatchReader

if TYPE_CHECKING:
    from collections.abc import Callable

    Sample = Callable[..., float | None]

JOB = (
    "INSERT INTO job (job_uuid, user_id, trace_id, schema_version, state, stage, pool, engine_pool, source_path, "
    "source_path_raw, source_size, source_mtime_ns, relative_path, ingest_mode, archive_name, engine, output_format, "
    "watch_root, duration_seconds, queued_at) VALUES (:id, 'ana', 't', 1, 'queued', 'validate', :pool, 'cpu', 'p', "
    "'p', 1, 1, 'p', 'move', 'p', 'center', 'auto', '/music', 180, ironclad_now() - interval '90 seconds')"
)
EVENT = (
    "INSERT INTO job_event (job_uuid, kind, from_state, to_state, attempt, stage, actor, data) "
    "VALUES (:id, :kind, :from, :to, 1, :stage, :actor, CAST(:data AS jsonb))"
)


def add_job(database: Database, pool: str = "cpu") -> UUID:
    job = uuid4()
    with database.session() as session:
        session.execute(sa.text(JOB), {"id": job, "pool": pool})
    return job


def add_event(database: Database, job: UUID, kind: str, **values: Any) -> None:
    row = {"from": None, "to": None, "stage": None, "actor": "worker", "data": {}, **values}
    with database.session() as session:
        session.execute(sa.text(EVENT), {**row, "id": job, "kind": kind, "data": json.dumps(row["data"])})


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape goes without an answer that takes two seconds; here the machine may be that busy."""
    monkeypatch.setattr(queue_metrics, "_TIMEOUT", "60s")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("dispatch", process=False)


@pytest.fixture
def sample(metrics: Metrics) -> Sample:
    """A metric's value after a scrape."""

    def read(name: str, **labels: str) -> float | None:
        metrics.render()
        return metrics.registry.get_sample_value(name, labels)

    return read


def test_the_queue_as_it_is(database: Database, metrics: Metrics, sample: Sample) -> None:
    QueueReader(database, metrics, lag_seconds=0)
    assert sample("ironclad_jobs", state="queued") == 0
    job = add_job(database)
    add_job(database)
    add_job(database, pool="gpu")
    assert sample("ironclad_jobs", state="queued") == 3
    assert sample("ironclad_queue_depth", pool="cpu") == 2
    assert sample("ironclad_queue_oldest_age_seconds", pool="gpu") == pytest.approx(90, abs=30)
    assert sample("ironclad_jobs_running", pool="cpu") == 0
    with database.session() as session:
        session.execute(sa.text("DELETE FROM job WHERE pool = 'cpu' AND job_uuid <> :job"), {"job": job})
        session.execute(sa.text("DELETE FROM job WHERE pool = 'gpu'"))
    assert sample("ironclad_queue_depth", pool="cpu") == 1
    assert sample("ironclad_queue_depth", pool="gpu") == 0  # a pool that emptied is zero, not gone
    assert sample("ironclad_queue_oldest_age_seconds", pool="gpu") == 0
    assert sample("ironclad_database_up") == 1


def test_what_happened_since_the_start_is_counted_once(database: Database, metrics: Metrics, sample: Sample) -> None:
    job = add_job(database)
    add_event(database, job, "claimed")
    QueueReader(database, metrics, lag_seconds=0)
    assert sample("ironclad_claims_total") == 0  # it was before
    error = {"error": {"code": "E_WORKER_LOST"}}
    add_event(database, job, "received", to="received")
    add_event(database, job, "claimed", **{"from": "queued", "to": "running"})
    add_event(database, job, "waiting_retry", actor="reaper", data=error, **{"from": "running", "to": "waiting_retry"})
    add_event(database, job, "queued", actor="reaper", **{"from": "waiting_retry", "to": "queued"})
    add_event(database, job, "succeeded", **{"from": "running", "to": "succeeded"})
    for _ in range(2):
        assert sample("ironclad_claims_total") == 1
    assert sample("ironclad_jobs_received_total") == 1
    assert sample("ironclad_leases_lost_total") == 1
    assert sample("ironclad_jobs_reaped_total", state="waiting_retry") == 1
    assert sample("ironclad_jobs_reaped_total", state="queued") == 1
    assert sample("ironclad_errors_total", code="E_WORKER_LOST") == 1
    assert sample("ironclad_jobs_finished_total", state="succeeded") == 1
    assert sample("ironclad_audio_input_seconds_total") == 180


def test_stage_durations(database: Database, metrics: Metrics, sample: Sample) -> None:
    QueueReader(database, metrics, lag_seconds=0)
    metrics.render()
    job = add_job(database)
    with database.session() as session:
        session.execute(
            sa.text(
                "INSERT INTO stage_run (job_uuid, attempt, stage, state, started_at, ended_at) VALUES "
                "(:job, 1, 'separate', 'done', ironclad_now() - interval '42 seconds', ironclad_now())"
            ),
            {"job": job},
        )
    add_event(database, job, "stage_done", stage="separate")
    labels = {"stage": "separate", "outcome": "done"}
    assert sample("ironclad_stage_duration_seconds_count", **labels) == 1
    assert sample("ironclad_stage_duration_seconds_sum", **labels) == pytest.approx(42, abs=0.1)
    assert sample("ironclad_stage_duration_seconds_bucket", le="30.0", **labels) == 0


def test_speed_of_separation_by_engine_and_device(database: Database, metrics: Metrics, sample: Sample) -> None:
    QueueReader(database, metrics, lag_seconds=0)
    metrics.render()
    job = add_job(database)  # of 180 s
    with database.session() as session:
        session.execute(
            sa.text(
                "INSERT INTO stage_run (job_uuid, attempt, stage, state, started_at, ended_at, data) VALUES "
                "(:job, 1, 'separate', 'done', ironclad_now() - interval '90 seconds', ironclad_now(), "
                """ '{"engine": "demucs", "device": "cuda"}')"""
            ),
            {"job": job},
        )
    add_event(database, job, "stage_done", stage="separate")
    labels = {"engine": "demucs", "device": "cuda"}
    assert sample("ironclad_separation_realtime_ratio_sum", **labels) == pytest.approx(0.5, abs=0.01)
    add_event(database, job, "stage_reused", stage="separate")  # takes no time, so it says nothing of the engine
    assert sample("ironclad_separation_realtime_ratio_count", **labels) == 1


def test_a_song_of_the_gpu_pool_that_was_separated_on_the_cpu(
    database: Database, metrics: Metrics, sample: Sample
) -> None:
    QueueReader(database, metrics, lag_seconds=0)
    metrics.render()
    for pool, device in (("gpu", "cuda"), ("cpu", "cpu"), ("gpu", "cpu")):
        job = add_job(database)
        with database.session() as session:
            session.execute(
                sa.text("UPDATE job SET engine_pool = :pool WHERE job_uuid = :job"), {"pool": pool, "job": job}
            )
            session.execute(
                sa.text(
                    "INSERT INTO stage_run (job_uuid, attempt, stage, state, started_at, ended_at, data) VALUES "
                    "(:job, 1, 'separate', 'done', ironclad_now(), ironclad_now(), CAST(:data AS jsonb))"
                ),
                {"job": job, "data": json.dumps({"engine": "demucs", "device": device})},
            )
        add_event(database, job, "stage_done", stage="separate")
    assert sample("ironclad_gpu_fallbacks_total") == 1


def test_audio_published_counts_every_stem_of_the_attempt(database: Database, metrics: Metrics, sample: Sample) -> None:
    QueueReader(database, metrics, lag_seconds=0)
    metrics.render()
    job = add_job(database)
    kinds = {"instrumental": "published", "vocals": "published", "receipt:vocals": "published", "drums": "superseded"}
    with database.session() as session:
        for kind, state in kinds.items():
            session.execute(
                sa.text(
                    "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state) "
                    "VALUES (:id, :job, 1, :kind, :kind, 1, 'x', :state)"
                ),
                {"id": uuid4(), "job": job, "kind": kind, "state": state},
            )
    add_event(database, job, "succeeded", **{"from": "running", "to": "succeeded"})
    assert sample("ironclad_audio_output_seconds_total") == 360


def test_retries_and_step_downs(database: Database, metrics: Metrics, sample: Sample) -> None:
    QueueReader(database, metrics, lag_seconds=0)
    metrics.render()
    job = add_job(database)
    error = {"error": {"code": "E_OUT_OF_MEMORY", "kind": "resource"}}
    add_event(database, job, "step_down", stage="separate")
    add_event(database, job, "waiting_retry", data=error, **{"from": "running", "to": "waiting_retry"})
    assert sample("ironclad_engine_step_downs_total", engine="center") == 1
    assert sample("ironclad_retries_total", **{"class": "resource"}) == 1


def ended(database: Database, metrics: Metrics, kind: str, state: str, age: str) -> UUID:
    job = add_job(database)
    with database.session() as session:
        session.execute(
            sa.text("UPDATE job SET created_at = ironclad_now() - CAST(:age AS interval) WHERE job_uuid = :job"),
            {"age": age, "job": job},
        )
    error = {"error": {"code": "E_X", "kind": kind}} if kind else {}
    add_event(database, job, state, data=error, **{"from": "running", "to": state})
    with database.session() as session:
        session.execute(sa.text("UPDATE job SET finished_at = ironclad_now() WHERE job_uuid = :job"), {"job": job})
    return job


def test_deadlines_are_met_by_what_ends_in_time_or_was_the_files_fault(
    database: Database, metrics: Metrics, sample: Sample
) -> None:
    QueueReader(database, metrics, deadline_seconds=600, lag_seconds=0)
    assert sample("ironclad_job_deadlines_total", result="met") == 0
    ended(database, metrics, "", "succeeded", "1 minute")
    ended(database, metrics, "input", "failed", "1 minute")
    ended(database, metrics, "engine", "failed", "1 minute")
    ended(database, metrics, "", "cancelled", "1 minute")
    assert sample("ironclad_job_deadlines_total", result="met") == 2
    assert sample("ironclad_job_deadlines_total", result="missed") == 1


def test_a_job_that_has_not_ended_at_its_deadline_is_missed_once(
    database: Database, metrics: Metrics, sample: Sample
) -> None:
    QueueReader(database, metrics, deadline_seconds=600, lag_seconds=0)
    long_ago, waiting, held = (add_job(database) for _ in range(3))
    place = "UPDATE job SET created_at = ironclad_now() + CAST(:age AS interval) - interval '600 s' WHERE job_uuid = :j"
    with database.session() as session:
        session.execute(sa.text(place), {"age": "-1 hour", "j": long_ago})
    metrics.render()
    assert sample("ironclad_job_deadlines_total", result="missed") == 0  # before the first look: not ours to count
    with database.session() as session:
        # Its deadline is just over; with the clock of the database, so no test can be too slow for it.
        session.execute(sa.text(place), {"age": "0 s", "j": waiting})
        session.execute(sa.text(place), {"age": "0 s", "j": held})
        session.execute(sa.text("UPDATE job SET held = true WHERE job_uuid = :j"), {"j": held})
    assert sample("ironclad_job_deadlines_total", result="missed") == 1
    ended_late = waiting
    add_event(database, ended_late, "succeeded", **{"from": "running", "to": "succeeded"})
    assert sample("ironclad_job_deadlines_total", result="missed") == 1
    assert sample("ironclad_job_deadlines_total", result="met") == 0
    assert sample("ironclad_jobs_held") == 1


def test_the_installation_as_the_database_knows_it(database: Database, metrics: Metrics, sample: Sample) -> None:
    QueueReader(database, metrics, lag_seconds=0)
    with database.session() as session:
        session.execute(sa.text("INSERT INTO pool (name, slots, paused) VALUES ('cpu', 4, true), ('gpu', 1, false)"))
        worker = "INSERT INTO worker (name, kind, host, pid, pool, seen_at) VALUES (:n, :k, 'h', 1, :p, {} )"
        now, old = "ironclad_now()", "ironclad_now() - interval '5 minutes'"
        session.execute(sa.text(worker.format(now)), {"n": "w1", "k": "worker", "p": "cpu"})
        session.execute(sa.text(worker.format(old)), {"n": "w2", "k": "worker", "p": "gpu"})
        session.execute(sa.text(worker.format(now)), {"n": "d", "k": "dispatch", "p": None})
    job = add_job(database)
    with database.session() as session:
        session.execute(
            sa.text("UPDATE job SET state = 'failed', error = '{\"kind\": \"engine\"}' WHERE job_uuid = :j"), {"j": job}
        )
    assert sample("ironclad_pool_slots", pool="cpu") == 4
    assert sample("ironclad_pool_paused", pool="cpu") == 1
    assert sample("ironclad_pool_paused", pool="gpu") == 0
    assert sample("ironclad_services_alive", kind="worker") == 1
    assert sample("ironclad_services_silent", kind="worker") == 1
    assert sample("ironclad_services_silent", kind="dispatch") == 0
    assert sample("ironclad_workers", pool="cpu") == 1
    assert sample("ironclad_workers", pool="gpu") == 0
    assert sample("ironclad_jobs_in_error", state="failed", **{"class": "engine"}) == 1
    assert sample("ironclad_clock_offset_seconds") == pytest.approx(0, abs=60)
    with database.session() as session:
        session.execute(sa.text("DELETE FROM job"))
        session.execute(sa.text("DELETE FROM worker"))
    assert sample("ironclad_jobs_in_error", state="failed", **{"class": "engine"}) == 0
    assert sample("ironclad_workers", pool="cpu") == 0


def test_recent_events_wait_so_that_none_is_passed_over(database: Database, metrics: Metrics, sample: Sample) -> None:
    QueueReader(database, metrics, lag_seconds=3600)
    add_event(database, add_job(database), "claimed")
    metrics.render()
    assert sample("ironclad_claims_total") == 0


def test_without_a_database_the_scrape_says_so_and_keeps_the_counters() -> None:
    metrics = Metrics("dispatch", process=False)
    away = Database("postgresql://nobody@127.0.0.1:1/none")
    QueueReader(away, metrics)
    metrics.counter("ironclad_claims_total").inc(5)
    text = metrics.render().decode()
    away.close()
    assert "ironclad_database_up 0.0" in text
    assert "ironclad_claims_total 5.0" in text


def test_the_watchers_metrics_are_those_of_its_own_roots(database: Database) -> None:
    metrics = Metrics("watch", process=False)
    WatchReader(database, metrics, ["/music"], lag_seconds=0)
    other = Metrics("watch", process=False)
    WatchReader(database, other, ["/elsewhere"], lag_seconds=0)
    metrics.render()
    other.render()
    job = add_job(database)
    with database.session() as session:
        session.execute(
            sa.text(
                "INSERT INTO observation (root, path_raw, path, size, mtime_ns, source_key, status, job_uuid, "
                "changed_at) SELECT '/music', 'a', 'a', 1, 1, 'k', 'claimed', job_uuid, "
                "created_at - interval '6.5 seconds' FROM job WHERE job_uuid = :job"
            ),
            {"job": job},
        )
    add_event(database, job, "received", to="received")
    text, elsewhere = metrics.render().decode(), other.render().decode()
    assert "ironclad_watch_files_received_total 1.0" in text
    assert 'ironclad_watch_observations{status="claimed"} 1.0' in text
    assert "ironclad_watch_pickup_seconds_sum 6.5" in text
    assert "ironclad_watch_files_received_total 0.0" in elsewhere
