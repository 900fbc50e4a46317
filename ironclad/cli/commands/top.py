"""`ironclad top`: the cockpit's overview as text or JSON, for scripts and screen readers."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import output, text
from ironclad.cli.installation import Installation, opened
from ironclad.errors import DatabaseUnavailable
from ironclad.jobs import failures, overview
from ironclad.jobs.feed import EVENT, PROGRESS, Feed
from ironclad.ops import looking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.jobs.overview import Glance

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "top": {
        "at": "The database's clock.",
        "problem": "The worst problem: severity (ok, warn, bad), text, where (the screen that shows more).",
        "states": "Number of jobs in each state.",
        "held": "Waiting jobs that are held.",
        "paused": "Whether the whole pipeline is paused.",
        "disk_low": "Whether the disk floor is reached, so that nothing new starts.",
        "dead_letters": "Notifications that were given up.",
        "disk": "path, total, free and floor, in bytes.",
        "pools": "Each with name, slots, paused, running, dispatched, waiting, oldest_waiting_seconds.",
        "running": "Each with job_uuid, name, stage, progress, elapsed_seconds, eta_seconds, worker, engine …",
        "services": "Each with name, kind, host, pid, pool, started_at, seen_at, late, data.",
        "succeeded": "Jobs that succeeded in each of the last 60 minutes, oldest first.",
        "failed": "Likewise, failed or quarantined.",
        "failures": "Groups of failed jobs: code, stage, fingerprint, jobs, first_at, last_at, detail, example.",
        "events": "The last ones, newest first: id, job_uuid, at, kind, state, stage, actor, name, code.",
    }
}
_TICK_SECONDS: Final = 5.0
_LEAST_SECONDS: Final = 1.0
_SHOWN_EVENTS: Final = 8


def collect(installation: Installation) -> tuple[Glance, dict[str, Any]]:
    """The view, and all of it as JSON-ready data."""
    settings = installation.settings
    with installation.database.session() as session:
        view = overview.glance(session)
        groups = failures.groups(session)
    disk = looking.disk(settings.layout.root, settings.disk.min_free_bytes)
    data = {
        **asdict(view), "problem": asdict(overview.worst(view)), "disk": asdict(disk),
        "failures": [asdict(group) for group in groups],
    }  # fmt: skip
    return view, {name: data[name] for name in JSON["top"]}


def lines(view: Glance, data: dict[str, Any]) -> Iterator[str]:
    """The view as text: nothing is cut off, and nothing means anything by colour."""
    problem = data["problem"]
    mark = {"ok": "OK", "warn": "WARNING", "bad": "PROBLEM"}[problem["severity"]]
    yield f"{mark}: {problem['text']}"
    counts = [f"{count} {state}" for state, count in view.states.items() if count]
    held = f", {view.held} held" if view.held else ""
    yield f"jobs: {', '.join(counts) or 'none yet'}{held}"
    yield f"last hour: {sum(view.succeeded)} succeeded, {sum(view.failed)} failed"
    if view.dead_letters:
        yield f"notifications: {view.dead_letters} given up: `ironclad notify dead list`"
    yield f"disk: {text.size(data['disk']['free'])} free of {text.size(data['disk']['total'])}"
    for grid in _grids(view, data):
        if grid.rows:
            yield ""
            yield from grid.lines()


def _grids(view: Glance, data: dict[str, Any]) -> Iterator[output.Grid]:
    pools = output.Grid(("POOL", "STATE", "SLOTS", "RUNNING", "WAITING", "OLDEST"))
    for pool in view.pools:
        oldest = pool.oldest_waiting_seconds
        pools.add(
            pool.name, "paused" if pool.paused or view.paused else "open", pool.slots, pool.running,
            pool.waiting + pool.dispatched, None if oldest is None else text.duration(oldest),
        )  # fmt: skip
    yield pools
    running = output.Grid(("RUNNING", "STAGE", "DONE", "LEFT", "USER", "WORKER"))
    for job in view.running:
        left = None if job.eta_seconds is None else text.duration(job.eta_seconds)
        running.add(job.name, job.stage, f"{job.progress:.0%}", left, job.user_id, job.worker)
    yield running
    failed = output.Grid(("FAILED", "ERROR", "STAGE", "DETAIL"))
    for group in data["failures"]:
        failed.add(group["jobs"], group["code"], group["stage"], group["detail"])
    yield failed
    services = output.Grid(("SERVICE", "STATE", "HOST", "PROCESS", "HEARD"))
    for service in view.services:
        name = service.name.partition("@")[0]
        services.add(name, service.status, service.host, service.pid, text.ago(service.seen_at, view.at))
    yield services
    events = output.Grid(("TIME", "EVENT", "JOB", "STAGE", "ERROR"))
    for event in view.events[:_SHOWN_EVENTS]:
        events.add(f"{event.at:%H:%M:%S}", event.kind, event.name, event.stage, event.code)
    yield events


@app.command()
def top(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C (--json: a line each).")] = False,
) -> None:
    """Print the cockpit's overview, once or again and again.

    The worst problem, pools, running jobs, failures, services and events, as text for people and screen readers.
    """
    with opened(context, quiet=watch) as installation:
        for _ in _occasions(installation) if watch else [None]:
            try:
                view, data = collect(installation)
            except DatabaseUnavailable:
                if not watch:
                    raise
                output.remark("The database does not answer; trying again.")
                continue
            if as_json:
                output.print_json(data, indent=None if watch else 2)
                continue
            console = output.stdout()
            if watch:
                console.clear() if console.is_terminal else output.say("---")
            for line in lines(view, data):
                console.print(line)


def _occasions(installation: Installation) -> Iterator[None]:
    """When to print again: at news at most once a second, else every few seconds."""
    pause = threading.Event()
    for _notice in Feed(installation.database.dsn, (EVENT, PROGRESS)).listen(pause, tick_seconds=_TICK_SECONDS):
        yield
        pause.wait(_LEAST_SECONDS)
