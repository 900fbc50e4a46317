"""What `ironclad up` shows: on a terminal a small live table of services and jobs, elsewhere a line for each event."""

from __future__ import annotations

import contextlib
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Final, Self

import psycopg
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ironclad.cli import output
from ironclad.cli.text import printable
from ironclad.db import wire
from ironclad.jobs.feed import EVENT, Feed
from ironclad.ops import directory
from ironclad.ops.child import UnitState
from ironclad.ops.heartbeat import libpq_url

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, RenderableType

    from ironclad.config import Settings
    from ironclad.ops.supervisor import ServiceEvent

_TAIL_LINES: Final = 5
_LEAST_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 10.0
_COUNT: Final = "SELECT state, count(*) FROM job GROUP BY state ORDER BY state"


def greeting(settings: Settings) -> list[str]:
    """What to do now that everything runs."""
    roots = ", ".join(str(root.path) for root in settings.watch_roots)
    lines = [f"Ready. Drop music into {roots}; results appear in {settings.layout.output}."]
    if settings.prefect.api_url is None and settings.prefect.port:
        lines.append(f"Prefect's pages: http://{settings.prefect.host}:{settings.prefect.port}")
    return lines


class LinesScreen:
    """A line for each event. Used from the supervisor's thread only."""

    def __init__(self, console: Console, settings: Settings) -> None:
        self._console = console
        self._settings = settings
        self._last: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def heard(self, event: ServiceEvent) -> None:
        """Print it, unless it says what the last one of this unit said. Who reads may go away; the services stay."""
        with contextlib.suppress(OSError):
            self._print(event)

    def _print(self, event: ServiceEvent) -> None:
        news = (event.state.value, event.detail)
        if self._last.get(event.name) == news:
            return
        self._last[event.name] = news
        at = f"{datetime.now().astimezone():%H:%M:%S}"
        detail = f"  {printable(event.detail)}" if event.detail else ""
        state = Text(f"{event.state.value:<10}", style=output.STATE_STYLES.get(event.state.value, ""))
        said = Text(f"{at}  {event.name:<12} ").append(state).append(detail)
        said.rstrip()
        self._console.print(said)
        for line in event.tail[-_TAIL_LINES:]:
            self._console.print(Text(f"    | {printable(line)}", style="dim"))
        if event.name == directory.SUPERVISOR and event.state is UnitState.READY:
            for line in greeting(self._settings):
                self._console.print(Text(printable(line)))


class LiveScreen:
    """A table that follows the supervisor's events and the database's."""

    def __init__(self, console: Console, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._units: dict[str, ServiceEvent] = {}
        self._jobs: list[tuple[str, int]] = []
        self._ready = False
        self._stopping = threading.Event()
        self._live = Live(console=console, auto_refresh=False)
        self._counter = threading.Thread(target=self._count_on, name="up-jobs", daemon=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._counter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._live.stop()
        self._counter.join(timeout=2)

    def heard(self, event: ServiceEvent) -> None:
        """Show what changed; what a service that died said last goes above the table."""
        with self._lock:
            if event.name == directory.SUPERVISOR:
                self._ready = event.state is UnitState.READY
            else:
                self._units[event.name] = event
        with contextlib.suppress(OSError):  # the terminal may go away; the services stay
            for line in event.tail[-_TAIL_LINES:]:
                self._live.console.print(Text(f"{event.name} | {printable(line)}", style="dim"))
            self._draw()

    def _draw(self) -> None:
        if not self._stopping.is_set():
            self._live.update(self._rendered(), refresh=True)

    def _rendered(self) -> RenderableType:
        with self._lock:
            grid = output.Grid(("SERVICE", "STATE", "PID", "STARTS", ""), states="STATE", wide="")
            for event in self._units.values():
                grid.rows.append(
                    [
                        event.name, event.state.value, str(event.pid or "-"), str(event.starts),
                        printable(event.detail),
                    ]
                )  # fmt: skip
            jobs = ", ".join(f"{count} {state}" for state, count in self._jobs) or "none yet"
            parts: list[RenderableType] = [grid.render(), Text(f"jobs: {jobs}")]
            if self._ready:
                # What does not fit goes on in the next line: half a path would be another path.
                parts += [Text(printable(line), no_wrap=False, overflow="fold") for line in greeting(self._settings)]
        return Group(*parts)

    def _count_on(self) -> None:
        """Count the jobs when the database says that something happened, at most once a second."""
        url = libpq_url(self._settings)
        for notice in Feed(url, (EVENT,)).listen(self._stopping, tick_seconds=_TICK_SECONDS):
            if notice is None:
                continue
            try:
                with wire.connect(url, autocommit=True, connect_timeout=5) as connection:
                    jobs = [(str(state), int(count)) for state, count in connection.execute(_COUNT)]
            except psycopg.Error:  # it is starting, or its tables are being made
                jobs = []
            with self._lock:
                self._jobs = jobs
            with contextlib.suppress(OSError):
                self._draw()
            self._stopping.wait(_LEAST_SECONDS)


def screen_for(settings: Settings, *, plain: bool) -> LinesScreen | LiveScreen:
    """What fits standard output."""
    console = output.stdout()
    return LinesScreen(console, settings) if plain or not console.is_terminal else LiveScreen(console, settings)
