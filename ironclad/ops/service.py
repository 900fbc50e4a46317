"""The runtime of a long-running service (`ironclad run NAME`): everything around its own loop."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import ironclad
from ironclad import durable, log, processes
from ironclad.errors import ErrorKind, IroncladError
from ironclad.ops import directory, inherited, usage
from ironclad.ops.endpoint import Endpoint
from ironclad.ops.health import HealthBoard, Status
from ironclad.ops.health_log import HealthLog
from ironclad.ops.heartbeat import Heartbeat, Row, libpq_url, row_name
from ironclad.ops.metrics import Metrics
from ironclad.ops.probes import Prober, descriptors
from ironclad.ops.reports import Reports
from ironclad.ops.sdnotify import Notifier
from ironclad.ops.signals import StopSignals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from ironclad.config import Settings
    from ironclad.ops.health import Component
    from ironclad.ops.probes import Verdict

SUPERVISOR_VARIABLE: Final = "IRONCLAD_SUPERVISOR_PID"
"""Set by `ironclad up` for its children."""

EXIT_FAILURE: Final = 1
EXIT_TEMPORARY: Final = 75
"""sysexits.h EX_TEMPFAIL: a dependency or resource is missing; starting again may help."""
EXIT_CONFIG: Final = 78
"""sysexits.h EX_CONFIG: an operator must act; starting again changes nothing."""

_BURST_SECONDS = 1.0
_STARTING_SECONDS = 60.0
"""A service that is not well yet is said to start for so long; then it is in trouble."""
_DATABASE_REMEDY = "Ironclad goes on by itself when PostgreSQL answers; see `ironclad doctor`."


class Service(Protocol):
    """One long-running service."""

    name: str

    def run(self, runtime: ServiceRuntime) -> None:
        """Do the work until `runtime.stopping` is set; call `runtime.ready()` once it does its work."""
        ...


class ServiceRuntime:
    """A context manager: inside it the service is announced, answers on its endpoint and can be stopped.

    Args:
        name: the service's name (see `directory.OFFSETS`).
        settings: ours.
        kind: the `kind` of its row in table `worker`; the name by default.
        pool: the pool of a worker.
        heartbeat: whether it has such a row.
        supervisor: process id of the `ironclad up` that started it; by default, what the environment says.

    Raises `AlreadyRunning` if the service runs on this data folder already, `PortInUse`, `NotFound` (no such service).
    """

    def __init__(
        self, name: str, settings: Settings, *, kind: str | None = None, pool: str | None = None,
        heartbeat: bool = True, supervisor: int | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.settings = settings
        self.stopping = threading.Event()
        self.health = HealthBoard(self._changed)
        self.metrics = Metrics(name)
        self._history = HealthLog(row_name(name, settings))
        self.facts: dict[str, Any] = {}
        """More for the row's `data`; set it before `ready`."""
        self._kind = kind or name
        self._pool = pool
        self._heartbeats = heartbeat
        self._supervisor = supervisor if supervisor is not None else _supervisor()
        self._notifier = Notifier.from_environment()
        self.inherited = inherited.sockets()
        """Sockets that the service manager listens on for this service."""
        self._log = log.get(component="runtime")
        self._cleanup = contextlib.ExitStack()
        self._announced_ready = False
        self._began = time.monotonic()
        self._stop_asked_at = 0.0

    @property
    def url(self) -> str:
        """The endpoint's address, inside the context."""
        return self._announcement.url

    def ready(self) -> None:
        """Start-up is over: say so to everybody who waits. Further calls do nothing."""
        if self._announced_ready or self.stopping.is_set():
            return
        self._announced_ready = True
        self.health.set_ready(ready=True)
        self._notifier.ready(f"ready at {self.url}")
        self._log.info("service_ready", url=self.url)

    def probe(self, probes: Mapping[str, Callable[[], Verdict]]) -> None:
        """Look at what the service needs every few seconds until it stops; open files are looked at in any case."""
        Prober(self.health, {"file descriptors": descriptors, **probes}).start(self.stopping)

    def status(self, text: str) -> None:
        """One line for the operator, shown by systemd and by `ironclad up`."""
        self._notifier.status(text)

    def stop(self) -> None:
        """Ask the service to stop."""
        if not self.stopping.is_set():
            self.health.set_ready(ready=False)
            self.stopping.set()
            self._notifier.stopping()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self._follow_supervisor()
            run = self.settings.layout.run
            durable.make_dirs(run)
            undo.callback(os.close, directory.hold(run, self.name))
            signals = StopSignals(self._first_signal, self._second_signal, self._give_up)
            signals.install()
            undo.callback(signals.restore)
            self._serve(undo)
            if self._heartbeats:
                heartbeat = Heartbeat(libpq_url(self.settings), self._row, self._heard_database, self._history)
                heartbeat.start()
                undo.callback(heartbeat.stop)
            self._keep_watchdog_quiet(undo)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._cleanup.close()
        self._orphaned()
        self._say("service_stopped")

    def _serve(self, undo: contextlib.ExitStack) -> None:
        reports = Reports(self.name, self.health, self.metrics, lambda: {"stopping": self.stopping.is_set()})
        host = self.settings.services.host
        port, listening = directory.port_of(self.name, self.settings), self.inherited.pop(inherited.HEALTH, None)
        endpoint = Endpoint(host, port, reports.paths(), listening=listening)
        undo.callback(endpoint.close)
        run = self.settings.layout.run
        self._announcement = directory.announce(run, self.name, endpoint.host, endpoint.port, self._supervisor)
        undo.callback(directory.withdraw, run, self._announcement)

    def _follow_supervisor(self) -> None:
        """Stop when the supervisor dies, also if it died before the kernel was asked to tell."""
        if self._supervisor is not None:
            processes.signal_on_parent_death(signal.SIGTERM)
            if os.getppid() != self._supervisor:
                raise SystemExit(EXIT_TEMPORARY)

    def _orphaned(self) -> bool:
        """Whether the supervisor is gone: then nobody reads our output, and no print of a library may fail for that."""
        orphaned = self._supervisor is not None and os.getppid() != self._supervisor
        if orphaned:
            _mute()
        return orphaned

    def _first_signal(self, number: int) -> float | None:
        orphaned = self._orphaned()  # before `stop`: this is a thread of its own, and the service goes on at once
        self._stop_asked_at = time.monotonic()
        self.stop()
        self._say("stopping", signal=signal.Signals(number).name, orphaned=orphaned)
        return self.settings.services.stop_seconds if orphaned else None

    def _second_signal(self, number: int) -> float | None:
        # The kernel tells of a parent's death once for each of its threads, and only the last time it is gone.
        burst = time.monotonic() - self._stop_asked_at < _BURST_SECONDS
        if self._supervisor is not None and burst:
            return self.settings.services.stop_seconds if self._orphaned() else None
        self._say("stopping_at_once", signal=signal.Signals(number).name)
        return self._end(128 + number)

    def _say(self, event: str, **data: object) -> None:
        """Log it if anybody reads: who did may be dying in this moment."""
        try:
            self._log.info(event, **data)
        except OSError:
            _mute()

    def _give_up(self) -> None:
        """Nobody is left who would end a service that does not stop."""
        self._log.error("stop_took_too_long", seconds=self.settings.services.stop_seconds)
        self._end(EXIT_FAILURE)

    def _end(self, code: int) -> NoReturn:
        if self._supervisor is not None and os.getpgrp() == os.getpid():
            processes.signal_group(os.getpid(), signal.SIGKILL)  # with what it started
        os._exit(code)

    def _keep_watchdog_quiet(self, undo: contextlib.ExitStack) -> None:
        seconds = self._notifier.watchdog_seconds
        if seconds is None:
            return
        done = threading.Event()

        def beat() -> None:
            while not done.wait(seconds / 2):
                if self.health.live:
                    self._notifier.watchdog(ready=self._announced_ready and not self.stopping.is_set())

        thread = threading.Thread(target=beat, name="watchdog", daemon=True)
        thread.start()
        undo.callback(thread.join)
        undo.callback(done.set)

    def _row(self) -> Row:
        data = {
            "version": ironclad.__version__, "url": self.url, "status": self._status(),
            **usage.facts(self._pool), **self.facts,
        }  # fmt: skip
        return Row(row_name(self.name, self.settings), self._kind, self._pool, data)

    def _status(self) -> str:
        """How it is, for whoever looks at all services: what does not answer while they start is no trouble yet."""
        starts = not self._announced_ready and time.monotonic() - self._began < _STARTING_SECONDS
        worst = self.health.worst
        return "starting" if starts and worst is not Status.OK else worst.value

    def _heard_database(self, problem: str | None) -> None:
        if problem is None:
            self.health.ok("database")
        else:
            self.health.failed("database", problem, _DATABASE_REMEDY)

    def _changed(self, component: Component) -> None:
        self._history.note(component)
        data = {"component": component.name, "status": component.status.value, "detail": component.detail}
        self._log.info("health_changed", **data)
        if self._announced_ready:
            detail = f"{component.name} {component.status}: {component.detail}"
            self._notifier.status("ready" if component.status.value == "ok" else detail)


def _mute() -> None:
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def _supervisor() -> int | None:
    value = os.environ.get(SUPERVISOR_VARIABLE, "")
    return int(value) if value.isdecimal() else None


def exit_code(error: IroncladError) -> int:
    """The exit code of a service that ends by a catalogue error; `ironclad up` and systemd go by it."""
    match error.kind:
        case ErrorKind.CONFIG:
            return EXIT_CONFIG
        case ErrorKind.DEPENDENCY | ErrorKind.RESOURCE:
            return EXIT_TEMPORARY
        case _:
            return EXIT_FAILURE


def run_service(
    name: str, make: Callable[[], Service], settings: Settings, *, kind: str | None = None, pool: str | None = None,
    heartbeat: bool = True,
) -> int:  # fmt: skip
    """Run a service until it is told to stop. Returns the exit code.

    Args:
        name: the service's name.
        make: makes it; what it imports and raises happens inside the runtime, so that it is logged like all else.
        settings: ours.
        kind: see `ServiceRuntime`.
        pool: see `ServiceRuntime`.
        heartbeat: see `ServiceRuntime`.
    """
    human = {"auto": None, "human": True, "json": False}[settings.log.format]
    chosen = settings.log
    log.configure(
        service=name, level=chosen.level, human=human, stream=sys.stdout, burst=chosen.burst, sample=chosen.sample
    )
    try:
        with ServiceRuntime(name, settings, kind=kind, pool=pool, heartbeat=heartbeat) as runtime:
            make().run(runtime)
    except IroncladError as exc:
        log.get().error("service_failed", error=exc.to_dict())
        return exit_code(exc)
    except Exception:  # noqa: BLE001 - the border of the process: it is logged with its trace and ends as exit code
        log.get().exception("service_crashed")
        return EXIT_FAILURE
    return 0


def leave(code: int) -> NoReturn:
    """End this process now that a service is done.

    Python would take thousands of modules apart first, which takes seconds; nothing is left to do but what libraries
    registered for the end.
    """
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - no public name; waits for ordinary threads
    atexit._run_exitfuncs()  # noqa: SLF001 - no public name
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
