"""The declared table of metrics: what every `/metrics` shows, `docs/metrics.md` lists, dashboards and alerts ask for.

Names follow the Prometheus conventions: prefix `ironclad_`, base units, `_total` for counters; no label is unbounded.
What flow runs do (short-lived processes on many hosts) is counted from the database by the dispatcher.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class MetricType(enum.StrEnum):
    """Prometheus's types, as far as they are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


UNITS: Final = ("timestamp_seconds", "seconds", "bytes", "ratio")


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric."""

    name: str
    type: MetricType
    help: str
    service: str
    """Whose /metrics has it: names of services, `worker` for the worker of any pool, or `*` for every one."""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """What its values are measured in, as its name says; empty for a number of things."""
        name = self.name.removesuffix("_total")
        return next((unit for unit in UNITS if name.endswith(f"_{unit}")), "")

    def exposed_by(self, service: str) -> bool:
        """Whether this service's /metrics has it."""
        names = self.service.split()
        return self.service == "*" or service in names or (service.startswith("worker-") and "worker" in names)


_C, _G, _H = MetricType.COUNTER, MetricType.GAUGE, MetricType.HISTOGRAM
_STAGE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_PICKUP = (0.1, 0.5, 1.0, 2.0, 5.0, 6.0, 7.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_LONG = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)
_RATIO = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ANSWER = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SEND = (0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

_EVERYWHERE: Final = (
    MetricSpec("ironclad_build_info", MetricType.INFO, "Version of Ironclad and Python.", "*"),
    MetricSpec("ironclad_service_ready", _G, "Whether the service is ready (1) or not (0).", "*"),
    MetricSpec(
        "ironclad_component_up", _G, "A component of the service: 1 works, 0.5 is degraded, 0 has failed.", "*",
        ("component",),
    ),
    MetricSpec("ironclad_log_events_total", _C, "Lines written to the service's log.", "*", ("level",)),
    MetricSpec("ironclad_log_dropped_total", _C, "Lines left out because their event came too often.", "*"),
)  # fmt: skip
_QUEUE: Final = (
    MetricSpec("ironclad_database_up", _G, "Whether the database answered this scrape.", "dispatch watch"),
    MetricSpec("ironclad_jobs", _G, "Jobs in each state.", "dispatch", ("state",)),
    MetricSpec(
        "ironclad_jobs_in_error", _G, "Failed, quarantined and waiting jobs by the class of their error.", "dispatch",
        ("state", "class"),
    ),
    MetricSpec("ironclad_jobs_held", _G, "Jobs that somebody holds back.", "dispatch"),
    MetricSpec("ironclad_queue_depth", _G, "Jobs that wait for a worker.", "dispatch", ("pool",)),
    MetricSpec("ironclad_queue_oldest_age_seconds", _G, "Age of the job that waits longest.", "dispatch", ("pool",)),
    MetricSpec("ironclad_queue_wait_seconds", _H, "From queued to claimed.", "dispatch", ("pool",), _LONG),
    MetricSpec("ironclad_jobs_running", _G, "Jobs that a worker holds.", "dispatch", ("pool",)),
    MetricSpec("ironclad_jobs_received_total", _C, "Jobs made.", "dispatch"),
    MetricSpec("ironclad_claims_total", _C, "Attempts begun by workers.", "dispatch"),
    MetricSpec("ironclad_leases_lost_total", _C, "Attempts whose lease ran out.", "dispatch"),
    MetricSpec(
        "ironclad_jobs_reaped_total", _C, "Jobs that the reaper moved, by their new state.", "dispatch", ("state",)
    ),
    MetricSpec("ironclad_jobs_finished_total", _C, "Jobs that reached a final state.", "dispatch", ("state",)),
    MetricSpec("ironclad_job_duration_seconds", _H, "From received to a final state.", "dispatch", ("state",), _LONG),
    MetricSpec(
        "ironclad_job_deadlines_total", _C,
        "Accepted jobs that ended in time (met) or did not, or failed of ours (missed); jobs.deadline_seconds.",
        "dispatch", ("result",),
    ),
    MetricSpec("ironclad_errors_total", _C, "Attempts that ended by an error.", "dispatch", ("code",)),
    MetricSpec("ironclad_retries_total", _C, "Attempts that will be tried again, by class.", "dispatch", ("class",)),
    MetricSpec(
        "ironclad_stage_duration_seconds", _H, "Time that a stage took.", "dispatch", ("stage", "outcome"), _STAGE
    ),
    MetricSpec("ironclad_audio_input_seconds_total", _C, "Length of the recordings that succeeded.", "dispatch"),
    MetricSpec("ironclad_audio_output_seconds_total", _C, "Length of all that was published of them.", "dispatch"),
    MetricSpec(
        "ironclad_separation_realtime_ratio", _H, "Seconds of separation for each second of audio.", "dispatch",
        ("engine", "device"), _RATIO,
    ),
    MetricSpec(
        "ironclad_engine_step_downs_total", _C, "Separations that went on with less memory.", "dispatch", ("engine",)
    ),
    MetricSpec("ironclad_gpu_fallbacks_total", _C, "Separations of the gpu pool made on the CPU.", "dispatch"),
)  # fmt: skip
_INSTALLATION: Final = (
    MetricSpec("ironclad_pool_slots", _G, "Jobs that a pool may run at a time.", "dispatch", ("pool",)),
    MetricSpec("ironclad_pool_paused", _G, "Whether a pool, or everything, is paused.", "dispatch", ("pool",)),
    MetricSpec("ironclad_services_alive", _G, "Services that report, on all hosts.", "dispatch", ("kind",)),
    MetricSpec(
        "ironclad_services_silent", _G, "Services that should report and do not, on all hosts.", "dispatch", ("kind",)
    ),
    MetricSpec("ironclad_workers", _G, "Workers of a pool that report, on all hosts.", "dispatch", ("pool",)),
    MetricSpec(
        "ironclad_clock_offset_seconds", _G, "The database's clock minus this machine's.", "dispatch watch"
    ),
    MetricSpec("ironclad_disk_free_bytes", _G, "Free space of the data folder's tightest disk.", "dispatch"),
    MetricSpec("ironclad_disk_floor_bytes", _G, "disk.min_free_bytes.", "dispatch"),
    MetricSpec("ironclad_disk_free_inodes", _G, "Files that the data folder's disk has room for.", "dispatch"),
    MetricSpec(
        "ironclad_backup_timestamp_seconds", _G, "When the newest dump was made, by the clock of 1970; 0: none.",
        "dispatch",
    ),
    MetricSpec(
        "ironclad_backup_drill_timestamp_seconds", _G, "When a drill last restored a dump whole; 0: never.", "dispatch"
    ),
    MetricSpec(
        "ironclad_backup_drill_ok", _G, "Whether the last drill restored its dump (1, also if none was).", "dispatch"
    ),
    MetricSpec("ironclad_backup_bytes", _G, "Size of the newest dump.", "dispatch"),
    MetricSpec(
        "ironclad_certificate_expiry_timestamp_seconds", _G, "When the certificate of an endpoint ends.", "dispatch",
        ("endpoint",),
    ),
)  # fmt: skip
_WATCH: Final = (
    MetricSpec("ironclad_watch_files_received_total", _C, "Files of this machine's roots that became jobs.", "watch"),
    MetricSpec(
        "ironclad_watch_observations", _G, "Files that the watcher remembers, by what it knows of them.", "watch",
        ("status",),
    ),
    MetricSpec(
        "ironclad_watch_pickup_seconds", _H, "From the last change of a file to its job.", "watch", buckets=_PICKUP
    ),
    MetricSpec("ironclad_watch_lag_seconds", _G, "Since when the file is known that waits longest.", "watch"),
    MetricSpec("ironclad_watch_roots", _G, "Watch roots by how changes in them are seen.", "watch", ("how",)),
)  # fmt: skip
_WORKER: Final = (
    MetricSpec("ironclad_worker_runs", _G, "Flow runs that the worker has at hand.", "worker"),
    MetricSpec("ironclad_worker_slots", _G, "Flow runs that it takes at a time.", "worker"),
    MetricSpec("ironclad_engine_hosts", _G, "Engine hosts of the worker's jobs.", "worker", ("engine",)),
    MetricSpec("ironclad_engine_host_resident_bytes", _G, "Memory of the engine hosts.", "worker", ("engine",)),
    MetricSpec(
        "ironclad_engine_host_gpu_bytes", _G, "GPU memory of the engine hosts, as nvidia-smi tells.", "worker",
        ("engine",),
    ),
)  # fmt: skip
_NOTIFY: Final = (
    MetricSpec("ironclad_notifications_sent_total", _C, "Messages that a channel accepted.", "notify", ("channel",)),
    MetricSpec(
        "ironclad_notifications_failed_total", _C, "Messages that a channel did not accept, retried or not.", "notify",
        ("channel", "result"),
    ),
    MetricSpec(
        "ironclad_notifications_suppressed_total", _C, "Events that led to no message, by the reason.", "notify",
        ("reason",),
    ),
    MetricSpec(
        "ironclad_notification_delivery_seconds", _H, "From the event to its acceptance by the channel.", "notify",
        ("channel",), _SEND,
    ),
    MetricSpec("ironclad_notify_outbox_rows", _G, "Outbox rows that wait or are dead.", "notify", ("state",)),
    MetricSpec("ironclad_notify_outbox_oldest_age_seconds", _G, "Age of the row that is overdue longest.", "notify"),
)  # fmt: skip
_API: Final = (
    MetricSpec(
        "ironclad_api_requests_total", _C, "Requests answered; status 499: the client went away.", "api",
        ("method", "route", "status"),
    ),
    MetricSpec(
        "ironclad_api_request_duration_seconds", _H, "From a request's head to the end of its answer.", "api",
        ("method", "route"), _ANSWER,
    ),
    MetricSpec("ironclad_api_refused_tokens_total", _C, "Requests without a valid token.", "api", ("reason",)),
    MetricSpec("ironclad_api_upload_bytes_total", _C, "Bytes of songs that arrived, kept or not.", "api"),
    MetricSpec("ironclad_api_listeners", _G, "Clients that follow the events.", "api"),
)  # fmt: skip
_SUPERVISOR: Final = (
    MetricSpec("ironclad_supervised_up", _G, "Whether a supervised process is ready.", "supervisor", ("service",)),
    MetricSpec("ironclad_supervised_starts_total", _C, "Starts of a supervised process.", "supervisor", ("service",)),
)

METRICS: Final[tuple[MetricSpec, ...]] = (
    *_EVERYWHERE, *_QUEUE, *_INSTALLATION, *_WATCH, *_WORKER, *_NOTIFY, *_API, *_SUPERVISOR
)  # fmt: skip
"""Every metric, grouped as the documents show them."""
