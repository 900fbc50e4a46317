"""`ironclad status`."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ironclad.cli import output, text
from ironclad.cli.installation import Installation, opened
from ironclad.jobs.feed import EVENT, Feed
from ironclad.jobs.states import JobState
from ironclad.ops import glance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "status": {
        "states": "Number of jobs in each state.",
        "held": "Waiting jobs that are held.",
        "paused": "Whether the whole pipeline is paused.",
        "disk_low": "Whether the disk floor is reached, so that nothing new starts.",
        "pools": "Each with name, slots, paused, running, dispatched, waiting, oldest_waiting_seconds, and fed: "
        "whether the dispatcher's settings name it.",
        "notifications": "Numbers of unrouted, pending, waiting, dead, firing, silences; oldest_seconds; channels.",
        "services": "Each with name, kind, host, pid, pool, started_at, seen_at, alive, data.",
    }
}
_LEAST_SECONDS = 0.5
_TICK_SECONDS = 5.0


def snapshot(installation: Installation) -> dict[str, Any]:
    """The installation at a glance, as JSON-ready data."""
    with installation.database.session() as session:
        return glance.snapshot(session)


def _jobs_line(data: dict[str, Any]) -> Text:
    line = Text("jobs  ", style="bold")
    shown = [(state, data["states"][state]) for state in map(str, JobState) if data["states"][state]]
    if not shown:
        return line.append("none yet", style="not bold")
    for index, (state, count) in enumerate(shown):
        line.append(", " if index else "", style="not bold")
        line.append(f"{count} {state}", style=f"not bold {output.STATE_STYLES.get(state, '')}")
    if data["held"]:
        line.append(f" ({data['held']} of them held)", style="not bold yellow")
    return line


def _grids(data: dict[str, Any]) -> list[output.Grid]:
    pools = output.Grid(
        ("POOL", "SLOTS", "RUNNING", "DISPATCHED", "WAITING", "OLDEST", "STATE"), states="STATE",
        right=frozenset({"SLOTS", "RUNNING", "DISPATCHED", "WAITING", "OLDEST"}),
    )  # fmt: skip
    for pool in data["pools"]:
        oldest = pool["oldest_waiting_seconds"]
        pools.add(
            pool["name"], pool["slots"], pool["running"], pool["dispatched"], pool["waiting"],
            None if oldest is None else text.duration(oldest),
            "paused" if pool["paused"] else "open" if pool["fed"] else "not fed",
        )  # fmt: skip
    services = output.Grid(("SERVICE", "HOST", "PID", "STATE", "SEEN"), states="STATE", right=frozenset({"PID"}))
    for service in data["services"]:
        state = str(service["data"].get("status", "ok")) if service["alive"] else "missing"
        seen = datetime.fromisoformat(service["seen_at"]) if service["seen_at"] else None
        services.add(service["name"].partition("@")[0], service["host"], service["pid"], state, text.ago(seen))
    return [grid for grid in (pools, services) if grid.rows]


def _warnings(data: dict[str, Any]) -> Iterator[Text]:
    if data["paused"]:
        yield Text("The pipeline is paused: `ironclad resume` lets work start again.", style="yellow")
    if data["disk_low"]:
        yield Text("The disk is almost full: nothing new starts until there is room.", style="red")
    if data["notifications"]["dead"]:
        yield Text(
            f"{data['notifications']['dead']} notifications were given up: `ironclad notify dead list`.", style="yellow"
        )
    if data["notifications"]["silences"]:
        yield Text(f"{data['notifications']['silences']} silences: `ironclad notify silence list`.", style="dim")
    if not any(service["alive"] for service in data["services"]):
        yield Text("No service is running: `ironclad up` starts them.", style="yellow")


def _rendered(data: dict[str, Any]) -> RenderableType:
    return Group(_jobs_line(data), *_warnings(data), *(grid.render() for grid in _grids(data)))


def _show(data: dict[str, Any]) -> None:
    console = output.stdout()
    console.print(_jobs_line(data))
    for warning in _warnings(data):
        console.print(warning)
    for grid in _grids(data):
        grid.print(console)


def _changes(installation: Installation) -> Iterator[None]:
    """Yields when there may be news: at most twice a second, at least every few seconds."""
    pause = threading.Event()
    for _notice in Feed(installation.database.dsn, (EVENT,)).listen(pause, tick_seconds=_TICK_SECONDS):
        yield
        pause.wait(_LEAST_SECONDS)


@app.command()
def status(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C (--json: a line each).")] = False,
) -> None:
    """Show the queue, the pools and the services at a glance."""
    with opened(context, quiet=watch) as installation:
        if not watch:
            data = snapshot(installation)
            if as_json:
                output.print_json(data)
            else:
                _show(data)
            return
        _watch(installation, as_json=as_json)


def _watch(installation: Installation, *, as_json: bool) -> None:
    console = output.stdout()
    if as_json or not console.is_terminal:
        before: dict[str, Any] = {}
        for _ in _changes(installation):
            data = snapshot(installation)
            if as_json:
                output.print_json(data, indent=None)
            elif data["states"] != before:
                console.print(_jobs_line(data))
                before = data["states"]
        return
    with Live(console=console, auto_refresh=False) as live:
        for _ in _changes(installation):
            live.update(_rendered(snapshot(installation)), refresh=True)
