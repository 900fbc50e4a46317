from __future__ import annotations

import io
import logging
import re

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from ironclad import log
from ironclad.ops.directory import OFFSETS
from ironclad.ops.health import HealthBoard
from ironclad.ops.metric_table import METRICS, UNITS, MetricSpec, MetricType
from ironclad.ops.metrics import Metrics
from ironclad.ops.reports import Reports


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_names_follow_the_conventions(spec: MetricSpec) -> None:
    assert re.fullmatch(r"ironclad_[a-z][a-z_]*", spec.name)
    assert spec.name.endswith("_total") == (spec.type is MetricType.COUNTER)
    assert spec.name.endswith("_info") == (spec.type is MetricType.INFO)
    assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)\b", spec.name)
    assert spec.help.endswith(".")
    assert bool(spec.buckets) == (spec.type is MetricType.HISTOGRAM)
    assert list(spec.buckets) == sorted(spec.buckets)
    assert not {"job", "job_uuid", "path", "file", "root", "user"} & set(spec.labels)
    assert set(spec.service.split()) <= {*OFFSETS, "*", "worker"}
    assert spec.unit in {"", *UNITS}
    if spec.type is MetricType.HISTOGRAM:
        assert spec.unit  # a distribution of a bare number says nothing


def test_names_are_unique() -> None:
    names = [spec.name for spec in METRICS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "service", ["dispatch", "watch", "supervisor", "worker-cpu", "worker-x", "notify", "prefect", "api", "postgres"]
)
def test_a_service_exposes_what_is_declared_for_it_and_nothing_else(service: str) -> None:
    metrics = Metrics(service)
    families = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    ours = {name for name in families if name.startswith("ironclad_")}
    declared = {spec.name.removesuffix("_total").removesuffix("_info") for spec in METRICS if spec.exposed_by(service)}
    assert {name.removesuffix("_info").removesuffix("_created") for name in ours} == declared
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= families


def test_a_counter_without_labels_begins_at_zero() -> None:
    assert b"ironclad_claims_total 0.0" in Metrics("dispatch").render()


def test_what_is_not_declared_cannot_be_used() -> None:
    metrics = Metrics("watch")
    with pytest.raises(KeyError):
        metrics.counter("ironclad_claims_total")
    with pytest.raises(TypeError):
        metrics.gauge("ironclad_watch_files_received_total")


def test_a_workers_metrics_are_those_of_any_pool() -> None:
    spec = next(spec for spec in METRICS if spec.name == "ironclad_worker_runs")
    assert [spec.exposed_by(name) for name in ("worker-cpu", "worker-tape", "dispatch")] == [True, True, False]


def test_what_is_logged_is_counted() -> None:
    metrics = Metrics("watch", process=False)
    try:
        log.configure(service="watch", stream=io.StringIO(), burst=3, sample=100)
        metrics.render()
        for _ in range(10):
            log.get().warning("again")
        log.get().info("once")
        for _ in range(2):  # counted once
            text = metrics.render().decode()
        assert 'ironclad_log_events_total{level="warning"} 3.0' in text
        assert 'ironclad_log_events_total{level="info"} 1.0' in text
        assert "ironclad_log_dropped_total 7.0" in text
    finally:
        structlog.reset_defaults()
        logging.root.handlers.clear()


def test_health_is_in_the_metrics() -> None:
    metrics = Metrics("watch", process=False)
    board = HealthBoard()
    reports = Reports("watch", board, metrics)
    board.degraded("root 1", "polled")
    board.failed("database", "away")
    board.set_ready(ready=True)
    text = reports.metrics().body.decode()
    assert 'ironclad_component_up{component="root 1"} 0.5' in text
    assert 'ironclad_component_up{component="database"} 0.0' in text
    assert "ironclad_service_ready 0.0" in text
