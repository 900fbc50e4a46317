"""`ironclad up`: starts everything of one machine in order, keeps it running, stops it in reverse order.

One thread, one `select`: it wakes up when a child ends, notifies, prints, or a deadline passes, and otherwise sleeps.
Children speak sd_notify(3) to it as they would to systemd. Each leads a process group of its own and asks the kernel
to be told of the supervisor's death, so nothing is left behind however it ends.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ironclad import durable
from ironclad.errors import IroncladError
from ironclad.ops import directory, leftovers, plan
from ironclad.ops.child import Backoff, Child, UnitState, is_config_error, last_error, why
from ironclad.ops.endpoint import Endpoint
from ironclad.ops.health import HealthBoard
from ironclad.ops.logfile import ChildLog
from ironclad.ops.metrics import Metrics
from ironclad.ops.notify_socket import NotifySocket
from ironclad.ops.reports import Reports
from ironclad.ops.sdnotify import Notifier
from ironclad.ops.signals import StopSignals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.config import Settings
    from ironclad.db.embedded import EmbeddedServer
    from ironclad.ops.plan import Unit

_MESSAGE = 4096
_DOWN = {UnitState.RESTARTING, UnitState.CRASH_LOOP}
_AWAY_SECONDS = 1.0
"""A deadline that is seen so late passed while this process did not run: Ctrl-Z, or a terminal that takes no output."""


@dataclass(frozen=True, slots=True)
class ServiceEvent:
    """Something that happened to a unit, or to all (`name` is `supervisor`)."""

    name: str
    state: UnitState
    detail: str = ""
    pid: int | None = None
    starts: int = 0
    tail: tuple[str, ...] = ()
    """The last lines of its output, when it ended unasked."""


class Supervisor:
    """Runs the units of this machine.

    Args:
        settings: ours.
        on_event: told of every change, in the supervisor's thread; must be quick.
        command: how a service is started, by its name.
        units: what to run instead of what the settings ask for; what a unit needs comes before it.
        backoff: pauses between starts.
        environment: of the children; this process's own by default.
    """

    def __init__(
        self, settings: Settings, on_event: Callable[[ServiceEvent], None] = lambda _event: None, *,
        command: plan.CommandBuilder = plan.service_command, units: tuple[Unit, ...] | None = None,
        backoff: Backoff | None = None, environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._on_event = on_event
        self._backoff = backoff or Backoff()
        self._embedded = _embedded(settings) if units is None else None
        logs = settings.layout.logs
        chosen = plan.units(settings, self._embedded, command) if units is None else units
        for index, unit in enumerate(chosen):
            if not {*unit.needs, *unit.uses} <= {earlier.name for earlier in chosen[:index]}:
                raise ValueError(f"{unit.name} comes before something that it needs")
        self._children = {unit.name: Child(unit, ChildLog(logs / f"{unit.name}.jsonl", unit.name)) for unit in chosen}
        self._environment = {
            **(os.environ if environment is None else environment),
            "IRONCLAD_DATA_DIR": str(settings.layout.root),
        }
        self._metrics = Metrics(directory.SUPERVISOR)
        self._board = HealthBoard()
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stopping = False
        self._stop_signal = ""
        self._kill = False
        self._all_ready = False
        self._fatal: IroncladError | None = None
        self._notifier = Notifier.from_environment(dict(os.environ))

    # --- for other threads ----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask for a clean stop."""
        self._stopping = True
        self._poke()

    def kill(self) -> None:
        """End everything at once."""
        self._kill = True
        self.stop()

    def _poke(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"x")

    # --- the run --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until stopped. Call it in a thread that lives as long as the children: the kernel ties them to it.

        Raises `AlreadyRunning` if another `ironclad up` runs on this data folder, and the catalogue error of a
        preparing task that only an operator can help.
        """
        layout = self._settings.layout
        durable.make_dirs(layout.run)
        durable.make_dirs(layout.logs)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, directory.hold(layout.run, directory.SUPERVISOR))
            undo.callback(self._close)
            signals = StopSignals(lambda _number: self.stop(), lambda _number: self.kill(), lambda: None)
            signals.install()
            undo.callback(signals.restore)
            leftovers.end(layout.run, self._found_leftover)
            self._open_endpoint(undo)
            self._notify = NotifySocket()
            undo.callback(self._notify.close)
            self._selector.register(self._notify, selectors.EVENT_READ, self._hear)
            if self._embedded is not None:
                self._embedded.hold()
                undo.callback(self._embedded.release)
            self._selector.register(self._wake, selectors.EVENT_READ, self._woken)
            try:
                self._loop()
            finally:
                self._end_all()
        self._tell(directory.SUPERVISOR, UnitState.STOPPED)
        if self._fatal is not None:
            raise self._fatal

    def _loop(self) -> None:
        while True:
            if self._kill:
                for child in self._children.values():
                    child.kill()
            self._check_deadlines()
            if self._stopping:
                self._stop_some()
                if all(child.state is UnitState.STOPPED for child in self._children.values()):
                    return
            else:
                self._start_some()
                self._check_all_ready()
            for key, _ in self._selector.select(self._until_next_deadline()):
                key.data()

    def _until_next_deadline(self) -> float | None:
        deadlines = [child.deadline for child in self._children.values() if child.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, _MESSAGE)

    # --- starting -------------------------------------------------------------------------------------------------

    def _start_some(self) -> None:
        for child in self._children.values():
            due = child.state is UnitState.WAITING or (child.state in _DOWN and child.deadline is None)
            if due and all(self._children[name].state is UnitState.READY for name in child.unit.needs):
                self._start(child)

    def _start(self, child: Child) -> None:
        try:
            child.start(self._environment, self._notify.address)
        except OSError as exc:
            self._ended_unasked(child, f"cannot be started: {exc}")
            return
        if child.pidfd is not None and child.output is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._ended(child))
            self._selector.register(child.output, selectors.EVENT_READ, lambda: self._output(child))
        self._metrics.counter("ironclad_supervised_starts_total").labels(child.name).inc()
        self._changed(child)

    def _check_all_ready(self) -> None:
        ready = all(child.state is UnitState.READY for child in self._children.values())
        if ready and not self._all_ready:
            self._board.set_ready(ready=True)
            self._notifier.ready("everything runs")
            self._tell(directory.SUPERVISOR, UnitState.READY)
        self._all_ready = ready

    # --- what children do -----------------------------------------------------------------------------------------

    def _output(self, child: Child) -> None:
        if not child.pump() and child.output is not None:
            self._selector.unregister(child.output)  # closed by the child; the descriptor goes when it ends

    def _ended(self, child: Child) -> None:
        self._forget(child)
        was_task = child.running and child.unit.task
        code = child.reap()
        child.deadline = None
        if child.state is UnitState.STOPPING or self._stopping:
            child.stopped()
            self._changed(child)
        elif was_task and code == 0:
            self._finished_task(child)
        else:
            self._ended_unasked(child, child.verdict or why(code, child.log.tail), hopeless=is_config_error(code))

    def _finished_task(self, child: Child) -> None:
        if not child.watch_left():
            self._ended_unasked(child, "what it started is gone already")
            return
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._ended(child))
        child.mark_ready()
        self._changed(child)

    def _ended_unasked(self, child: Child, reason: str, *, hopeless: bool = False) -> None:
        if hopeless and child.unit.task:
            error = last_error(child.log.tail) or {}
            self._fatal = IroncladError.from_code(str(error.get("code")), str(error.get("detail") or reason))
            self._stopping = True
        child.failed(reason, self._backoff, hopeless=hopeless)
        self._changed(child)

    def _hear(self) -> None:
        for message in self._notify.receive():
            child = next((c for c in self._children.values() if c.running and c.pid == message.pid), None)
            if child is not None:
                self._heard(child, dict(message.assignments))

    def _heard(self, child: Child, assignments: dict[str, str]) -> None:
        child.heard()
        before = (child.state, child.detail)
        if child.state is not UnitState.STOPPING:
            child.detail = assignments.get("STATUS", child.detail)
        if assignments.get("READY") == "1" and child.state is UnitState.STARTING and not child.unit.task:
            child.mark_ready()
        if (child.state, child.detail) != before:
            self._changed(child)

    # --- deadlines and stopping -----------------------------------------------------------------------------------

    def _check_deadlines(self) -> None:
        if self._until_next_deadline() == 0.0:
            self._hear()  # what was said in time and waits counts: nobody is killed for our own silence
        now = time.monotonic()
        for child in self._children.values():
            if child.deadline is None or child.deadline > now:
                continue
            if now - child.deadline > _AWAY_SECONDS and child.wait_again():
                continue
            child.deadline = None
            match child.state:
                case UnitState.STARTING:
                    child.verdict = f"not ready after {child.start_seconds:g} s"
                    child.late += 1
                    child.kill()
                case UnitState.READY:
                    child.verdict = f"silent for {child.unit.watchdog_seconds:g} s"
                    child.kill()
                case UnitState.STOPPING:
                    self._tell(child.name, child.state, "does not stop and is killed", child)
                    child.kill()
                case _:
                    pass  # the pause before a new start is over

    def _stop_some(self) -> None:
        """Stop what nothing that still runs needs; the plan has needs first, so users are met before what they use."""
        for child in reversed(self._children.values()):
            if child.state in {UnitState.STOPPING, UnitState.STOPPED}:
                continue
            users = [other for other in self._children.values() if child.name in (*other.unit.needs, *other.unit.uses)]
            if any(user.state is not UnitState.STOPPED for user in users):
                continue
            if child.running:
                child.terminate(self._settings.services.stop_seconds)
            else:
                self._forget(child)
                child.close()
                child.stopped()
            self._changed(child)

    def _end_all(self) -> None:
        """Whatever happened, nothing of ours stays behind."""
        for child in self._children.values():
            child.kill()
            self._forget(child)
            child.reap()
            child.log.close()

    # --- telling others -------------------------------------------------------------------------------------------

    def _changed(self, child: Child) -> None:
        up = self._metrics.gauge("ironclad_supervised_up").labels(child.name)
        up.set(float(child.state is UnitState.READY))
        match child.state:
            case UnitState.READY:
                self._board.ok(child.name, child.detail)
            case UnitState.CRASH_LOOP:
                remedy = f"See {self._settings.layout.logs / f'{child.name}.jsonl'}."
                self._board.failed(child.name, child.detail, remedy)
            case _:
                self._board.degraded(child.name, child.detail or child.state.value)
        self._tell(child.name, child.state, child.detail, child)

    def _tell(
        self, name: str, state: UnitState, detail: str = "", child: Child | None = None, pid: int | None = None
    ) -> None:
        tail = child.log.tail if child is not None and state in _DOWN else ()
        starts = 0 if child is None else child.starts
        self._on_event(ServiceEvent(name, state, detail, child.pid if child is not None else pid, starts, tail))

    def _found_leftover(self, entry: directory.Announcement) -> None:
        self._tell(entry.name, UnitState.STOPPING, "left by an earlier run", pid=entry.pid)

    def _details(self) -> dict[str, Any]:
        return {
            "units": [
                {"name": c.name, "state": c.state.value, "pid": c.pid, "starts": c.starts, "detail": c.detail}
                for c in list(self._children.values())
            ]
        }

    # --- set-up ---------------------------------------------------------------------------------------------------

    def _open_endpoint(self, undo: contextlib.ExitStack) -> None:
        host, port = self._settings.services.host, directory.port_of(directory.SUPERVISOR, self._settings)
        reports = Reports(directory.SUPERVISOR, self._board, self._metrics, self._details)
        endpoint = Endpoint(host, port, reports.paths())
        undo.callback(endpoint.close)
        run = self._settings.layout.run
        announcement = directory.announce(run, directory.SUPERVISOR, host, endpoint.port)
        undo.callback(directory.withdraw, run, announcement)

    def _forget(self, child: Child) -> None:
        for fd in (child.pidfd, child.output):
            if fd is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(fd)

    def _close(self) -> None:
        self._selector.close()
        os.close(self._wake)
        os.close(self._waker)


def _embedded(settings: Settings) -> EmbeddedServer | None:
    if settings.database_url is not None:
        return None
    from ironclad.db.embedded import EmbeddedServer as Server  # noqa: PLC0415 - only where it is used

    return Server(settings.layout.postgres)
