"""The declared table of metrics, and one service's registry of them.

Names follow the Prometheus conventions: prefix `ironclad_`, base units, `_total` for counters; no label is unbounded.
"""

from __future__ import annotations

import enum
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

import ironclad

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_M = TypeVar("_M", Counter, Gauge, Histogram)

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class MetricType(enum.StrEnum):
    """Prometheus's types, as far as they are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric."""

    name: str
    type: MetricType
    help: str
    service: str
    """Whose /metrics has it: names of services, or `*` for every one."""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_C, _G, _H = MetricType.COUNTER, MetricType.GAUGE, MetricType.HISTOGRAM
_STAGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_PICKUP_BUCKETS = (0.1, 0.5, 1.0, 2.0, 5.0, 6.0, 7.0, 10.0, 30.0, 60.0, 300.0, 900.0)

METRICS: Final[tuple[MetricSpec, ...]] = (
    MetricSpec("ironclad_build_info", MetricType.INFO, "Version of Ironclad and Python.", "*"),
    MetricSpec("ironclad_service_ready", _G, "Whether the service is ready (1) or not (0).", "*"),
    MetricSpec(
        "ironclad_component_up",
        _G,
        "A component of the service: 1 works, 0.5 is degraded, 0 has failed.",
        "*",
        ("component",),
    ),
    MetricSpec("ironclad_database_up", _G, "Whether the database answered this scrape.", "dispatch watch"),
    MetricSpec("ironclad_jobs", _G, "Jobs in each state.", "dispatch", ("state",)),
    MetricSpec("ironclad_queue_depth", _G, "Jobs that wait for a worker.", "dispatch", ("pool",)),
    MetricSpec("ironclad_queue_oldest_age_seconds", _G, "Age of the job that waits longest.", "dispatch", ("pool",)),
    MetricSpec("ironclad_jobs_running", _G, "Jobs that a worker holds.", "dispatch", ("pool",)),
    MetricSpec("ironclad_jobs_received_total", _C, "Jobs made.", "dispatch"),
    MetricSpec("ironclad_claims_total", _C, "Attempts begun by workers.", "dispatch"),
    MetricSpec("ironclad_leases_lost_total", _C, "Attempts whose lease ran out.", "dispatch"),
    MetricSpec(
        "ironclad_jobs_reaped_total", _C, "Jobs that the reaper moved, by their new state.", "dispatch", ("state",)
    ),
    MetricSpec("ironclad_jobs_finished_total", _C, "Jobs that reached a final state.", "dispatch", ("state",)),
    MetricSpec("ironclad_errors_total", _C, "Attempts that ended by an error.", "dispatch", ("code",)),
    MetricSpec(
        "ironclad_stage_duration_seconds",
        _H,
        "Time that a stage took.",
        "dispatch",
        ("stage", "outcome"),
        _STAGE_BUCKETS,
    ),
    MetricSpec("ironclad_audio_seconds_total", _C, "Length of the recordings that succeeded.", "dispatch"),
    MetricSpec("ironclad_disk_free_bytes", _G, "Free space of the data folder's tightest disk.", "dispatch"),
    MetricSpec("ironclad_disk_floor_bytes", _G, "disk.min_free_bytes.", "dispatch"),
    MetricSpec(
        "ironclad_backup_timestamp_seconds",
        _G,
        "When the newest dump was made, by the clock of 1970; 0: none.",
        "dispatch",
    ),
    MetricSpec(
        "ironclad_backup_drill_timestamp_seconds", _G, "When a drill last restored a dump whole; 0: never.", "dispatch"
    ),
    MetricSpec(
        "ironclad_backup_drill_ok", _G, "Whether the last drill restored its dump (1, also if none was).", "dispatch"
    ),
    MetricSpec("ironclad_backup_bytes", _G, "Size of the newest dump.", "dispatch"),
    MetricSpec("ironclad_watch_files_received_total", _C, "Files of this machine's roots that became jobs.", "watch"),
    MetricSpec(
        "ironclad_watch_observations",
        _G,
        "Files that the watcher remembers, by what it knows of them.",
        "watch",
        ("status",),
    ),
    MetricSpec(
        "ironclad_watch_pickup_seconds",
        _H,
        "From the last change of a file to its job.",
        "watch",
        buckets=_PICKUP_BUCKETS,
    ),
    MetricSpec("ironclad_supervised_up", _G, "Whether a supervised process is ready.", "supervisor", ("service",)),
    MetricSpec("ironclad_supervised_starts_total", _C, "Starts of a supervised process.", "supervisor", ("service",)),
)


class Metrics:
    """The registry of one service. Asking for a metric that is not declared for it is an error.

    Metrics without labels are there from the start, so that a graph shows zero and not a gap.
    """

    def __init__(self, service: str, *, process: bool = True) -> None:
        self.registry = CollectorRegistry()
        self._specs: Mapping[str, MetricSpec] = {
            s.name: s for s in METRICS if s.service == "*" or service in s.service.split()
        }
        self._refreshers: list[Callable[[], None]] = []
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
        return generate_latest(self.registry)

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
