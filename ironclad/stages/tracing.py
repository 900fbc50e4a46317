"""OpenTelemetry spans of an attempt and its stages, exported by OTLP over HTTP when an endpoint is set.

The trace has the id of the job (`Job.trace_id`), which logs, tags of Prefect and tags of results carry too. Spans are
kept until the attempt ends and sent in one request: no thread, nothing that a fork would copy. Without an endpoint
nothing of this is imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
from typing import TYPE_CHECKING, Any, Protocol

import ironclad
from ironclad import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan, Span

    from ironclad.db.tables import Job
    from ironclad.sections import TraceSettings
    from ironclad.stages.runner import JobOutcome, StageOutcome

_SWITCH = "OTEL_SDK_DISABLED"
_HINT = "pip install 'ironclad-audio[otel]'"


class Trace(Protocol):
    """What the runner tells of an attempt."""

    def stage(self, name: str, call: Callable[[], StageOutcome]) -> StageOutcome:
        """Run a stage within its span."""
        ...

    def ended(self, outcome: JobOutcome) -> None:
        """How the attempt ended."""
        ...


class _Off:
    """No endpoint is set: nothing is measured."""

    def stage(self, _name: str, call: Callable[[], StageOutcome]) -> StageOutcome:
        return call()

    def ended(self, _outcome: JobOutcome) -> None:
        return


@contextlib.contextmanager
def attempt(settings: TraceSettings, job: Job, worker: str) -> Iterator[Trace]:
    """The trace of one attempt; its spans are exported at the end. It never raises by itself: work comes first."""
    if not settings.otlp_endpoint:
        yield _Off()
        return
    try:
        recorder = _Recorder(settings, job, worker)
    except ImportError as exc:
        log.get().warning("trace_not_possible", error=str(exc), hint=_HINT)
        yield _Off()
        return
    try:
        yield recorder
    finally:
        recorder.close()


def trace_number(trace_id: str) -> int:
    """A job's trace id as OpenTelemetry takes it: 128 bits, not zero. One that is no W3C id is digested."""
    with contextlib.suppress(ValueError):
        number = int(trace_id, 16)
        if 0 < number < 1 << 128:
            return number
    return int.from_bytes(hashlib.sha256(trace_id.encode()).digest()[:16]) or 1


class _Recorder:
    """Records and sends one attempt's spans. Only made where the SDK is installed (`ImportError`)."""

    def __init__(self, settings: TraceSettings, job: Job, worker: str) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - only where spans are wanted
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415

        class Ids(IdGenerator):
            def generate_trace_id(self) -> int:
                return trace_number(job.trace_id)

            def generate_span_id(self) -> int:
                return secrets.randbits(64) or 1

        self._api = trace
        self._settings = settings
        self._spans: list[ReadableSpan] = []
        resource = Resource(
            {"service.name": "ironclad", "service.version": ironclad.__version__, "host.name": socket.gethostname()}
        )
        # Not the process's global provider: whatever else uses OpenTelemetry here keeps its own.
        with _switched_on():
            provider = TracerProvider(
                resource=resource, id_generator=Ids(), span_limits=SpanLimits(), shutdown_on_exit=False
            )
        provider.add_span_processor(SimpleSpanProcessor(_exporter(self._spans)))
        self._tracer = provider.get_tracer("ironclad", ironclad.__version__)
        self._root = self._tracer.start_span(
            "job", attributes={
                "ironclad.job_uuid": str(job.job_uuid), "ironclad.user_id": job.user_id,
                "ironclad.attempt": job.attempt, "ironclad.pool": job.pool, "ironclad.engine": job.engine,
                "ironclad.worker": worker,
            },
        )  # fmt: skip
        self._context = trace.set_span_in_context(self._root)

    def stage(self, name: str, call: Callable[[], StageOutcome]) -> StageOutcome:
        """Run a stage within its span; an exception becomes the span's error and goes on."""
        span = self._tracer.start_span(name, context=self._context, attributes={"ironclad.stage": name})
        try:
            outcome = call()
        except BaseException as exc:
            self._fail(span, exc)
            raise
        else:
            span.set_attribute("ironclad.reused", outcome.reused)
            if outcome.error is not None:
                self._fail(span, outcome.error)
            return outcome
        finally:
            span.end()

    def ended(self, outcome: JobOutcome) -> None:
        """The root span's result."""
        self._root.set_attribute("ironclad.state", outcome.state)
        if outcome.error is not None:
            self._fail(self._root, outcome.error)

    def close(self) -> None:
        """End the root span and send all; a collector that is away loses these spans and nothing else."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

        self._root.end()
        address = f"{self._settings.otlp_endpoint.rstrip('/')}/v1/traces"
        try:
            exporter = OTLPSpanExporter(endpoint=address, timeout=self._settings.timeout_seconds)
            result = exporter.export(self._spans)
            exporter.shutdown()  # type: ignore[no-untyped-call]  # it has no annotations
            problem = "" if result is SpanExportResult.SUCCESS else "refused"
        except Exception as exc:  # noqa: BLE001 - the exporter's libraries raise their own; no span is worth a job
            problem = f"{type(exc).__name__}: {exc}"
        if problem:
            log.get().warning("trace_not_exported", endpoint=address, error=problem)

    def _fail(self, span: Span | Any, error: BaseException) -> None:
        span.set_attribute("error.type", getattr(error, "code", type(error).__name__))
        span.set_status(self._api.StatusCode.ERROR, str(error))


@contextlib.contextmanager
def _switched_on() -> Iterator[None]:
    """Flow runs have OpenTelemetry switched off for Prefect; our spans were asked for by a setting of ours."""
    before = os.environ.pop(_SWITCH, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[_SWITCH] = before


def _exporter(spans: list[ReadableSpan]) -> Any:
    """Collects finished spans."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415

    class Collector(SpanExporter):
        def export(self, batch: Any) -> SpanExportResult:
            spans.extend(batch)
            return SpanExportResult.SUCCESS

    return Collector()
