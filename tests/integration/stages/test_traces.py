"""Spans of jobs and stages, received by a real OTLP server; the trace's id is the job's everywhere."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from otlp import Collector, attributes

from ironclad.sections import TraceSettings
from ironclad.stages import runner, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.jobs import lease


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def traced(settings: Settings, url: str, seconds: float = 60.0) -> Settings:
    return settings.model_copy(update={"trace": TraceSettings(otlp_endpoint=url, timeout_seconds=seconds)})


def test_a_song_is_a_trace_with_a_span_a_stage(
    *, database: Database, settings: Settings, claims: Callable[..., lease.Claim], make_song: Callable[..., Path],
    tmp_path: Path, collector: Collector,
) -> None:  # fmt: skip
    claim = claims(make_song(tmp_path / "song.flac", 2.0))
    outcome = runner.run_claim(database, traced(settings, collector.url), claim, worker="test")
    assert outcome.state == "succeeded", outcome.error
    spans = collector.spans()
    assert list(spans) == ["validate", "categorize", "metadata", "stage", "separate", "recombine", "organize", "job"]
    assert {span.trace_id.hex() for span in spans.values()} == {claim.job.trace_id}
    root = spans.pop("job")
    assert not root.parent_span_id
    assert {span.parent_span_id for span in spans.values()} == {root.span_id}
    said = attributes(root)
    assert said["ironclad.job_uuid"] == str(claim.job.job_uuid)
    assert (said["ironclad.state"], said["ironclad.attempt"]) == ("succeeded", 1)
    for span in spans.values():
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
    # The same id in the job's log.
    text = settings.layout.job_log(claim.job.job_uuid).read_text(encoding="utf-8")
    assert all(claim.job.trace_id in line for line in text.splitlines())


def test_a_failure_is_the_spans_error(  # noqa: PLR0917 - fixtures
    database: Database, settings: Settings, claims: Callable[..., lease.Claim], tmp_path: Path, collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")  # as in flow runs, where it is meant for Prefect's own spans
    file = tmp_path / "page.flac"
    file.write_bytes(b"<html>no music</html>")
    runner.run_claim(database, traced(settings, collector.url), claims(file), worker="test")
    spans = collector.spans()
    assert list(spans) == ["validate", "job"]
    for span in spans.values():
        assert span.status.code == 2  # ERROR
        assert attributes(span)["error.type"] == "E_NOT_AUDIO"


@pytest.mark.parametrize("away", [True, False])
def test_a_collector_that_is_away_or_refuses_costs_no_job(
    *, database: Database, settings: Settings, claims: Callable[..., lease.Claim], make_song: Callable[..., Path],
    tmp_path: Path, collector: Collector, away: bool,
) -> None:  # fmt: skip
    collector.status = 400
    url = "http://127.0.0.1:9" if away else collector.url
    begun = time.monotonic()
    claim = claims(make_song(tmp_path / "song.flac", 2.0))
    assert runner.run_claim(database, traced(settings, url, 2.0), claim, worker="test").state == "succeeded"
    assert time.monotonic() - begun < 60


def test_off_it_imports_nothing() -> None:
    code = (
        "import sys; import ironclad.stages.runner; from ironclad.stages import tracing\n"
        "from ironclad.sections import TraceSettings\n"
        "with tracing.attempt(TraceSettings(), None, 'w') as trace: assert trace.stage('x', lambda: 5) == 5\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_ids_that_are_no_trace_ids_are_digested() -> None:
    assert tracing.trace_number("00ff" * 8) == int("00ff" * 8, 16)
    assert 0 < tracing.trace_number("t") < 1 << 128
    assert tracing.trace_number("0" * 32) != 0
