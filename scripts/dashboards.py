"""Writes the Grafana dashboards in `deploy/observability/grafana/dashboards/` from the short table below.

    python scripts/dashboards.py

A test holds the files to this table, and every metric in it to the declared one. `or on() vector(0)` shows zero where
nothing of a kind has happened yet.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "deploy" / "observability" / "grafana" / "dashboards"
_WIDTH, _HEIGHT = 8, 8
_COLUMNS = 24
_STAT_WIDTH, _STAT_HEIGHT = 4, 4
_NONE = " or on() vector(0)"


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: its queries, each with its legend."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    text: str = ""


def _rate(name: str, by: str, window: str = "$__rate_interval", scale: str = "") -> str:
    """Events a second (or scaled) of a counter of the dispatcher; of two dispatchers, one."""
    inner = f"max by ({by}) (rate({name}[{window}]))" if by else f"max(rate({name}[{window}]))"
    return f"{inner}{scale}{_NONE}"


def _total(name: str, by: str, window: str = "24h") -> str:
    return f"max by ({by}) (increase({name}[{window}])){_NONE}" if by else f"max(increase({name}[{window}])){_NONE}"


def _quantile(share: float, name: str, by: str = "", window: str = "15m") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, max by ({labels}) (rate({name}_bucket[{window}]))){_NONE}"


def _stat(title: str, query: str, unit: str = "short", text: str = "") -> Panel:
    return Panel(title, ((query, ""),), unit, "stat", text)


DASHBOARDS: Final[dict[str, tuple[Panel, ...]]] = {
    "overview": (
        _stat("Services ready", "sum(ironclad_service_ready)"),
        _stat("Waiting", "sum(max by (pool) (ironclad_queue_depth))"),
        _stat("Running", "sum(max by (pool) (ironclad_jobs_running))"),
        _stat("Failed in 24 h", _total('ironclad_jobs_finished_total{state=~"failed|quarantined"}', "")),
        _stat("Free disk", "min(ironclad_disk_free_bytes)", "bytes"),
        _stat(
            "In time, 24 h",
            'sum(max by (result) (increase(ironclad_job_deadlines_total{result="met"}[24h])))'
            " / (sum(max by (result) (increase(ironclad_job_deadlines_total[24h]))) > 0) or on() vector(1)",
            "percentunit",
            "Accepted jobs that ended within jobs.deadline_seconds.",
        ),
        Panel("Jobs by state", (("max by (state) (ironclad_jobs)", "{{state}}"),)),
        Panel(
            "Received and finished a minute",
            (
                (_rate("ironclad_jobs_received_total", "", scale=" * 60"), "received"),
                (_rate("ironclad_jobs_finished_total", "state", scale=" * 60"), "{{state}}"),
            ),
        ),
        Panel("Oldest waiting job", (("max by (pool) (ironclad_queue_oldest_age_seconds)", "{{pool}}"),), "s"),
        Panel(
            "Seconds of audio a second",
            (
                (_rate("ironclad_audio_input_seconds_total", ""), "in"),
                (_rate("ironclad_audio_output_seconds_total", ""), "out"),
            ),
        ),
        Panel(
            "From the last change of a file to its job",
            (
                (_quantile(0.5, "ironclad_watch_pickup_seconds"), "median"),
                (_quantile(0.95, "ironclad_watch_pickup_seconds"), "95 %"),
            ),
            "s",
        ),
        Panel(
            "What is not well",
            (("min by (service, component) (ironclad_component_up)", "{{service}}: {{component}}"),),
            kind="state-timeline",
            text="1 works, 0.5 is degraded, 0 has failed.",
        ),
        Panel("Versions", (("count by (version, service) (ironclad_build_info)", "{{service}} {{version}}"),)),
    ),
    "jobs": (
        Panel("Jobs by state", (("max by (state) (ironclad_jobs)", "{{state}}"),)),
        Panel("Waiting by pool", (("max by (pool) (ironclad_queue_depth)", "{{pool}}"),)),
        Panel("Oldest waiting job", (("max by (pool) (ironclad_queue_oldest_age_seconds)", "{{pool}}"),), "s"),
        Panel(
            "Running and slots",
            (
                ("max by (pool) (ironclad_jobs_running)", "{{pool}} running"),
                ("max by (pool) (ironclad_pool_slots)", "{{pool}} slots"),
                ("max by (pool) (ironclad_pool_paused)", "{{pool}} paused"),
            ),
        ),
        Panel(
            "From queued to claimed",
            (
                (_quantile(0.5, "ironclad_queue_wait_seconds", "pool"), "median {{pool}}"),
                (_quantile(0.95, "ironclad_queue_wait_seconds", "pool"), "95 % {{pool}}"),
            ),
            "s",
        ),
        Panel(
            "From received to ended",
            (
                (_quantile(0.5, "ironclad_job_duration_seconds", "state"), "median {{state}}"),
                (_quantile(0.95, "ironclad_job_duration_seconds", "state"), "95 % {{state}}"),
            ),
            "s",
        ),
        Panel("Stages, 95 %", ((_quantile(0.95, "ironclad_stage_duration_seconds", "stage"), "{{stage}}"),), "s"),
        Panel(
            "Time in stages a second",
            (
                (
                    f"max by (stage) (rate(ironclad_stage_duration_seconds_sum[$__rate_interval])){_NONE}",
                    "{{stage}}",
                ),
            ),
        ),
        Panel(
            "Attempts a minute",
            (
                (_rate("ironclad_claims_total", "", scale=" * 60"), "begun"),
                (_rate("ironclad_retries_total", "class", scale=" * 60"), "to be retried: {{class}}"),
                (_rate("ironclad_leases_lost_total", "", scale=" * 60"), "lease lost"),
            ),
        ),
        Panel("The reaper moved, 1 h", ((_total("ironclad_jobs_reaped_total", "state", "1h"), "to {{state}}"),)),
        Panel("In time or not, 24 h", ((_total("ironclad_job_deadlines_total", "result"), "{{result}}"),)),
        Panel("Held", (("max(ironclad_jobs_held)", "held"),)),
        Panel(
            "Audio, hours in 24 h",
            (
                (f"max(increase(ironclad_audio_input_seconds_total[24h])) / 3600{_NONE}", "in"),
                (f"max(increase(ironclad_audio_output_seconds_total[24h])) / 3600{_NONE}", "out"),
            ),
        ),
    ),
    "engines": (
        Panel(
            "Seconds of separation for a second of audio",
            (
                (
                    _quantile(0.5, "ironclad_separation_realtime_ratio", "engine, device"),
                    "median {{engine}} {{device}}",
                ),
                (_quantile(0.95, "ironclad_separation_realtime_ratio", "engine, device"), "95 % {{engine}} {{device}}"),
            ),
        ),
        Panel(
            "Separations by engine and device, 24 h",
            (
                (
                    "max by (engine, device) (increase(ironclad_separation_realtime_ratio_count[24h]))" + _NONE,
                    "{{engine}} {{device}}",
                ),
            ),
        ),
        Panel(
            "separate, all engines",
            (
                (
                    (
                        "histogram_quantile(0.95, max by (le) (rate("
                        f'ironclad_stage_duration_seconds_bucket{{stage="separate"}}[15m]))){_NONE}'
                    ),
                    "95 %",
                ),
            ),
            "s",
        ),
        Panel("Engine hosts", (("sum by (engine) (ironclad_engine_hosts)", "{{engine}}"),)),
        Panel(
            "Memory of the hosts", (("sum by (engine) (ironclad_engine_host_resident_bytes)", "{{engine}}"),), "bytes"
        ),
        Panel(
            "GPU memory of the hosts", (("sum by (engine) (ironclad_engine_host_gpu_bytes)", "{{engine}}"),), "bytes"
        ),
        Panel(
            "Runs and slots of workers",
            (
                ("sum by (service) (ironclad_worker_runs)", "{{service}} runs"),
                ("sum by (service) (ironclad_worker_slots)", "{{service}} slots"),
            ),
        ),
        Panel("Workers that report", (("max by (pool) (ironclad_workers)", "{{pool}}"),)),
        Panel(
            "Went on with less memory, 24 h",
            (
                (_total("ironclad_engine_step_downs_total", "engine"), "{{engine}}"),
                ("max(increase(ironclad_gpu_fallbacks_total[24h]))" + _NONE, "on the CPU instead of the GPU"),
            ),
        ),
        Panel(
            "Errors of engines, 24 h",
            (
                (
                    _total(
                        'ironclad_errors_total{code=~"E_ENGINE.*|E_OUT_OF_MEMORY|E_STALLED|E_MODEL.*|E_OUTPUT.*"}',
                        "code",
                    ),
                    "{{code}}",
                ),
            ),
        ),
    ),
    "errors": (
        Panel("Errors, 1 h", ((_total("ironclad_errors_total", "code", "1h"), "{{code}}"),)),
        Panel("Errors, 24 h", ((_total("ironclad_errors_total", "code"), "{{code}}"),)),
        Panel(
            "Jobs in error",
            ((f"max by (state, class) (ironclad_jobs_in_error){_NONE}", "{{state}}: {{class}}"),),
        ),
        Panel(
            "Failed and set aside, 24 h",
            ((_total('ironclad_jobs_finished_total{state=~"failed|quarantined"}', "state"), "{{state}}"),),
        ),
        Panel("To be retried, 1 h", ((_total("ironclad_retries_total", "class", "1h"), "{{class}}"),)),
        Panel("Leases lost, 1 h", ((_total("ironclad_leases_lost_total", "", "1h"), "lost"),)),
        Panel(
            "Starts of services, 1 h",
            ((f"max by (service) (increase(ironclad_supervised_starts_total[1h])){_NONE}", "{{service}}"),),
        ),
        Panel(
            "Warnings and errors in logs, 1 h",
            (
                (
                    'sum by (service, level) (increase(ironclad_log_events_total{level=~"warning|error|critical"}[1h]))'
                    + _NONE,
                    "{{service}} {{level}}",
                ),
            ),
        ),
        Panel(
            "Log lines left out, 1 h",
            (("sum by (service) (increase(ironclad_log_dropped_total[1h]))", "{{service}}"),),
        ),
        Panel(
            "Notifications that failed, 1 h",
            (
                (
                    f"sum by (channel, result) (increase(ironclad_notifications_failed_total[1h])){_NONE}",
                    "{{channel}} {{result}}",
                ),
            ),
        ),
    ),
    "dependencies": (
        Panel(
            "Components",
            (("min by (service, component) (ironclad_component_up)", "{{service}}: {{component}}"),),
            kind="state-timeline",
            text="1 works, 0.5 is degraded, 0 has failed.",
        ),
        Panel("Database answers", (("min by (service) (ironclad_database_up)", "{{service}}"),)),
        Panel(
            "Clock of the database against ours",
            (("max by (service) (ironclad_clock_offset_seconds)", "{{service}}"),),
            "s",
        ),
        Panel(
            "Free disk and floor",
            (("min(ironclad_disk_free_bytes)", "free"), ("max(ironclad_disk_floor_bytes)", "floor")),
            "bytes",
        ),
        Panel("Room for files", (("min(ironclad_disk_free_inodes)", "inodes"),)),
        Panel(
            "Services on all hosts",
            (
                ("max by (kind) (ironclad_services_alive)", "{{kind}} report"),
                ("max by (kind) (ironclad_services_silent)", "{{kind}} silent"),
            ),
        ),
        Panel("Supervised services", (("min by (service) (ironclad_supervised_up)" + _NONE, "{{service}}"),)),
        Panel("Watch roots", (("sum by (how) (ironclad_watch_roots)", "{{how}}"),)),
        Panel("File that waits longest to be whole", (("max(ironclad_watch_lag_seconds)", "lag"),), "s"),
        Panel(
            "Files known to watchers",
            ((f"sum by (status) (ironclad_watch_observations){_NONE}", "{{status}}"),),
        ),
        Panel("Files that became jobs, 1 h", (("sum(increase(ironclad_watch_files_received_total[1h]))", "files"),)),
        Panel(
            "Open files of their limit",
            (
                (
                    'max by (service) (process_open_fds{job="ironclad"} / process_max_fds{job="ironclad"})',
                    "{{service}}",
                ),
            ),
            "percentunit",
        ),
        Panel(
            "Memory of services",
            (('sum by (service) (process_resident_memory_bytes{job="ironclad"})', "{{service}}"),),
            "bytes",
        ),
        Panel(
            "Processor of services",
            (('sum by (service) (rate(process_cpu_seconds_total{job="ironclad"}[$__rate_interval]))', "{{service}}"),),
            "percentunit",
        ),
        Panel(
            "Days until certificates run out",
            (
                (
                    f"min by (endpoint) (ironclad_certificate_expiry_timestamp_seconds - time()) / 86400{_NONE}",
                    "{{endpoint}}",
                ),
            ),
        ),
        Panel(
            "Age of backup and drill",
            (
                ("(time() - (max(ironclad_backup_timestamp_seconds) > 0)) or on() vector(0)", "newest dump"),
                ("(time() - (max(ironclad_backup_drill_timestamp_seconds) > 0)) or on() vector(0)", "last good drill"),
                ("min(ironclad_backup_drill_ok)", "last drill good"),
            ),
            "s",
        ),
        Panel("Size of the newest dump", (("max(ironclad_backup_bytes)", "dump"),), "bytes"),
        Panel(
            "Notifications, 1 h",
            (
                (f"sum by (channel) (increase(ironclad_notifications_sent_total[1h])){_NONE}", "sent {{channel}}"),
                (
                    f"sum by (reason) (increase(ironclad_notifications_suppressed_total[1h])){_NONE}",
                    "suppressed: {{reason}}",
                ),
            ),
        ),
        Panel(
            "Delivery of notifications, 95 %",
            (
                (
                    (
                        "histogram_quantile(0.95, sum by (le, channel) "
                        f"(rate(ironclad_notification_delivery_seconds_bucket[1h]))){_NONE}"
                    ),
                    "{{channel}}",
                ),
            ),
            "s",
        ),
        Panel(
            "Outbox",
            (
                (f"max(ironclad_notify_outbox_oldest_age_seconds){_NONE}", "oldest, s"),
                (f"max by (state) (ironclad_notify_outbox_rows){_NONE}", "{{state}}"),
            ),
        ),
        Panel(
            "Requests to the API, 1 h",
            (
                (
                    f"sum by (method, route, status) (increase(ironclad_api_requests_total[1h])){_NONE}",
                    "{{status}} {{method}} {{route}}",
                ),
                (f"sum by (reason) (increase(ironclad_api_refused_tokens_total[1h])){_NONE}", "token {{reason}}"),
                (f"sum(ironclad_api_listeners){_NONE}", "listeners"),
            ),
        ),
        Panel(
            "Answers of the API, 95 %",
            (
                (
                    (
                        "histogram_quantile(0.95, sum by (le, route) "
                        f"(rate(ironclad_api_request_duration_seconds_bucket[1h]))){_NONE}"
                    ),
                    "{{route}}",
                ),
            ),
            "s",
        ),
        Panel(
            "Songs sent to the API",
            ((f"sum(rate(ironclad_api_upload_bytes_total[$__rate_interval])){_NONE}", "received"),),
            "Bps",
        ),
    ),
}
"""Every dashboard: its panels in reading order."""


def queries() -> dict[str, list[str]]:
    """The queries of each dashboard."""
    return {name: [query for panel in panels for query, _ in panel.queries] for name, panels in DASHBOARDS.items()}


def render(name: str) -> str:
    """A dashboard's file."""
    panels: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(DASHBOARDS[name], start=1):
        stat = panel.kind == "stat"
        width, height = (_STAT_WIDTH, _STAT_HEIGHT) if stat else (_WIDTH, _HEIGHT)
        if x + width > _COLUMNS or (not stat and panels and panels[-1]["type"] == "stat"):
            x, y = 0, y + int(panels[-1]["gridPos"]["h"])
        panels.append(_panel(panel, number, {"x": x, "y": y, "w": width, "h": height}))
        x += width
    board = {
        "uid": f"ironclad-{name}", "title": f"Ironclad: {name}", "tags": ["ironclad"], "editable": True,
        "schemaVersion": 39, "refresh": "30s", "time": {"from": "now-6h", "to": "now"}, "timezone": "browser",
        "links": [{"type": "dashboards", "tags": ["ironclad"], "asDropdown": False, "title": "Ironclad"}],
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": panels,
    }  # fmt: skip
    return json.dumps(board, indent=1) + "\n"


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend or "__auto"}
        for index, (query, legend) in enumerate(panel.queries)
    ]
    source = {"type": "prometheus", "uid": "${datasource}"}
    made: dict[str, Any] = {
        "id": number, "title": panel.title, "type": panel.kind, "gridPos": place, "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []}, "targets": targets,
    }  # fmt: skip
    if panel.title.startswith("Clock"):
        del made["fieldConfig"]["defaults"]["min"]
    if panel.text:
        made["description"] = panel.text
    return made


def main() -> int:
    """Write the files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
