"""One service's registry of the metrics that `metric_table` declares for it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

import ironclad
from ironclad import log
from ironclad.lograte import DROPPED
from ironclad.ops.metric_table import METRICS, MetricSpec, MetricType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_M = TypeVar("_M", Counter, Gauge, Histogram)

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """The registry of one service. Asking for a metric that is not declared for it is an error.

    Metrics without labels are there from the start, so that a graph shows zero and not a gap.
    """

    def __init__(self, service: str, *, process: bool = True) -> None:
        self.registry = CollectorRegistry()
        self._specs: Mapping[str, MetricSpec] = {spec.name: spec for spec in METRICS if spec.exposed_by(service)}
        self._refreshers: list[Callable[[], None]] = []
        self._logged: dict[str, int] = {}
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        if process:
            ProcessCollector(registry=self.registry)
        info = Info("ironclad_build", self._specs["ironclad_build_info"].help, registry=self.registry)
        info.info({"version": ironclad.__version__, "python": platform.python_version(), "service": service})
        for spec in self._specs.values():
            self._make(spec)

    def counter(self, name: str) -> Counter:
        """A counter by its full name (`…_total`)."""
        return self._get(name, Counter)

    def gauge(self, name: str) -> Gauge:
        """A gauge by its name."""
        return self._get(name, Gauge)

    def histogram(self, name: str) -> Histogram:
        """A histogram by its name."""
        return self._get(name, Histogram)

    def on_scrape(self, refresh: Callable[[], None]) -> None:
        """Have `refresh` called before each exposition; it must be quick and may not raise."""
        self._refreshers.append(refresh)

    def render(self) -> bytes:
        """The text exposition format."""
        for refresh in self._refreshers:
            refresh()
        self._count_lines()
        return generate_latest(self.registry)

    def _count_lines(self) -> None:
        """What this process has logged since the last time."""
        for level, count in log.counts().items():
            news = max(0, count - self._logged.get(level, 0))
            self._logged[level] = count
            if level == DROPPED:
                self.counter("ironclad_log_dropped_total").inc(news)
            else:
                self.counter("ironclad_log_events_total").labels(level).inc(news)

    def _get(self, name: str, kind: type[_M]) -> _M:
        metric = self._made[name]
        if not isinstance(metric, kind):
            raise TypeError(f"{name} is a {self._specs[name].type}")
        return metric

    def _make(self, spec: MetricSpec) -> None:
        match spec.type:
            case MetricType.COUNTER:
                self._made[spec.name] = Counter(spec.name, spec.help, spec.labels, registry=self.registry)
            case MetricType.GAUGE:
                self._made[spec.name] = Gauge(spec.name, spec.help, spec.labels, registry=self.registry)
            case MetricType.HISTOGRAM:
                self._made[spec.name] = Histogram(
                    spec.name, spec.help, spec.labels, buckets=spec.buckets, registry=self.registry
                )
            case MetricType.INFO:
                pass  # made once, with its values, by the constructor
