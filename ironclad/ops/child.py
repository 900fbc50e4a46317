"""One supervised process: starting it, hearing from it, ending it. The supervisor decides; this carries out."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ironclad import processes
from ironclad.ops.service import EXIT_CONFIG, SUPERVISOR_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.ops.logfile import ChildLog
    from ironclad.ops.plan import Unit

_READ = 64 << 10
_MOST_DOUBLINGS = 3


class UnitState(enum.StrEnum):
    """Where a supervised unit is."""

    WAITING = "waiting"
    """Something it needs is not ready yet."""
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    """It ended and is started again after a pause."""
    CRASH_LOOP = "crash_loop"
    """It ended again and again, or says that a setting is wrong; it is still tried, rarely."""
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a unit is started again."""

    first_seconds: float = 0.5
    """Doubles with each end in a row."""
    most_seconds: float = 30.0
    healthy_seconds: float = 60.0
    """Ready for so long, its earlier ends are forgotten."""
    loop_after: int = 5
    """Ends in a row after which it is a crash loop."""

    def delay(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th end in a row (from 1)."""
        return float(min(self.most_seconds, self.first_seconds * 2 ** min(failures - 1, 30)))


class Child:
    """A unit and its process, if it has one. Not thread-safe; all times are of `time.monotonic()`.

    Args:
        unit: what to start.
        log: where its output goes.
    """

    def __init__(self, unit: Unit, log: ChildLog) -> None:
        self.unit: Final = unit
        self.log: Final = log
        self.state = UnitState.WAITING
        self.detail = ""
        self.verdict = ""
        """Why the supervisor killed it."""
        self.starts = 0
        self.failures = 0
        self.late = 0
        """How often in a row it was not ready in time."""
        self.deadline: float | None = None
        """When the supervisor must look at it again: start-up time-out, watchdog, end of a pause, end of patience."""
        self.ready_since: float | None = None
        self.pidfd: int | None = None
        self.output: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._left_pid: int | None = None

    @property
    def name(self) -> str:
        """The unit's name."""
        return self.unit.name

    @property
    def pid(self) -> int | None:
        """Of its process, or of the process that the task left running."""
        return self._process.pid if self._process is not None else self._left_pid

    @property
    def running(self) -> bool:
        """Whether a process of ours is there."""
        return self._process is not None

    def start(self, environment: Mapping[str, str], notify: str) -> None:
        """Start the process. Raises OSError if the program cannot be started."""
        self.log.clear_tail()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        variables = {
            **environment,
            **self.unit.environment,
            "NOTIFY_SOCKET": notify,
            SUPERVISOR_VARIABLE: str(os.getpid()),
        }
        variables.pop("WATCHDOG_PID", None)
        variables.pop("WATCHDOG_USEC", None)
        if self.unit.watchdog_seconds:
            variables["WATCHDOG_USEC"] = str(int(self.unit.watchdog_seconds * 1e6))
        try:
            # A group of its own: a terminal's Ctrl-C reaches the supervisor alone, which stops everything in order,
            # and whatever the service started can be ended with it.
            self._process = subprocess.Popen(
                self.unit.command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=variables,
                process_group=0,
            )  # fmt: skip
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self.pidfd = os.pidfd_open(self._process.pid)
        self.output = reader
        self.starts += 1
        self.detail = self.verdict = ""
        self.ready_since = None
        self.state = UnitState.STARTING
        self.deadline = time.monotonic() + self.start_seconds

    @property
    def start_seconds(self) -> float:
        """How long this start may take: twice as long after each that took too long.

        On a machine that is too busy for the unit's own time, killing it at the same moment again and again would only
        keep the machine busy.
        """
        return self.unit.start_seconds * (1 << min(self.late, _MOST_DOUBLINGS))

    def mark_ready(self) -> None:
        """It does its work."""
        self.state = UnitState.READY
        self.late = 0
        self.ready_since = time.monotonic()
        self.heard()

    def heard(self) -> None:
        """It gave a sign of life."""
        if self.state is UnitState.READY:
            seconds = 0.0 if self.unit.task else self.unit.watchdog_seconds
            self.deadline = time.monotonic() + seconds if seconds else None

    def wait_again(self) -> bool:
        """Give it its whole time once more, where it has one: nobody listened to what it said meanwhile."""
        if self.state is UnitState.STARTING:
            self.deadline = time.monotonic() + self.start_seconds
        elif self.state is UnitState.READY:
            self.heard()
        else:
            return False
        return True

    def watch_left(self) -> bool:
        """Watch the process that the finished task left running; False if it is not there (any more)."""
        if self.unit.leaves is None:
            return True
        self._left_pid = self.unit.leaves()
        if self._left_pid is None:
            return False
        try:
            self.pidfd = os.pidfd_open(self._left_pid)
        except ProcessLookupError:
            self._left_pid = None
            return False
        return True

    def terminate(self, patience_seconds: float) -> None:
        """Ask it to stop; after the patience the supervisor kills it."""
        self.state = UnitState.STOPPING
        self.detail = ""
        self.deadline = time.monotonic() + patience_seconds
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything in its process group at once."""
        if self._process is not None:
            processes.signal_group(self._process.pid, signal.SIGKILL)

    def pump(self) -> bool:
        """Move output from the pipe to the log; False at its end."""
        if self.output is None:
            return False
        try:
            data = os.read(self.output, _READ)
        except BlockingIOError:
            return True
        self.log.write(data)
        return bool(data)

    def exited(self) -> bool:
        """Whether its process has ended (without reaping it)."""
        return self.pidfd is not None and bool(select.select([self.pidfd], [], [], 0)[0])

    def reap(self) -> int | None:
        """Clean up after the process that has ended. Returns its exit code; None for a left process."""
        code: int | None = None
        if self._process is not None:
            # Before its leader is reaped, nobody else can get the group's number.
            processes.signal_group(self._process.pid, signal.SIGKILL)
            while self.output is not None and self.pump():
                if not select.select([self.output], [], [], 0)[0]:
                    break
            code = self._process.wait()
        self.log.flush()
        self.close()
        return code

    def close(self) -> None:
        """Let go of descriptors."""
        for fd in (self.pidfd, self.output):
            if fd is not None:
                os.close(fd)
        self.pidfd = self.output = self._process = self._left_pid = None

    def failed(self, reason: str, backoff: Backoff, *, hopeless: bool = False) -> None:
        """It ended unasked: plan the next start."""
        now = time.monotonic()
        if self.ready_since is not None and now - self.ready_since >= backoff.healthy_seconds:
            self.failures = 0
        self.failures += 1
        self.ready_since = None
        self.detail = reason
        looping = hopeless or self.failures >= backoff.loop_after
        self.state = UnitState.CRASH_LOOP if looping else UnitState.RESTARTING
        self.deadline = now + (backoff.most_seconds if hopeless else backoff.delay(self.failures))

    def stopped(self) -> None:
        """It ended as asked, or never ran."""
        self.state = UnitState.STOPPED
        self.detail = ""
        self.deadline = None


def is_config_error(code: int | None) -> bool:
    """Whether a service ended because an operator must act."""
    return code == EXIT_CONFIG


def last_error(tail: tuple[str, ...]) -> dict[str, object] | None:
    """The catalogue entry in the last log line that carries one."""
    for line in reversed(tail):
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                error = json.loads(line).get("error")
                if isinstance(error, dict) and "code" in error:
                    return error
    return None


def why(code: int | None, tail: tuple[str, ...]) -> str:
    """Why a process ended, in one line."""
    error = last_error(tail)
    if error is not None:
        return f"{error['code']}: {error.get('what', '')} {error.get('detail', '')}".strip()
    if code is None:
        return "it died"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    last = next((line for line in reversed(tail) if line.strip()), "")
    return f"exit code {code}{f': {last[:200]}' if last else ''}"
