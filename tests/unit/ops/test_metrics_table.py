from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ironclad.ops.directory import OFFSETS
from ironclad.ops.health import HealthBoard
from ironclad.ops.metrics import METRICS, Metrics, MetricSpec, MetricType
from ironclad.ops.reports import Reports

UNITS = ("_seconds", "_bytes", "_ratio", "_info", "_total")


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
    assert set(spec.service.split()) <= {*OFFSETS, "*"}


def test_names_are_unique() -> None:
    names = [spec.name for spec in METRICS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("service", ["dispatch", "watch", "supervisor", "worker-cpu"])
def test_a_service_exposes_what_is_declared_for_it_and_nothing_else(service: str) -> None:
    metrics = Metrics(service)
    families = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    ours = {name for name in families if name.startswith("ironclad_")}
    declared = {
        spec.name.removesuffix("_total").removesuffix("_info")
        for spec in METRICS
        if spec.service == "*" or service in spec.service.split()
    }
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
