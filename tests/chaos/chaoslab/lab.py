"""Runs experiments: one protocol, one system call of it, one thing done to it there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from chaoslab.power import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaoslab.world import World

CALLS = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "unlink",
    "unlinkat", "rmdir", "ftruncate", "mkdir", "mkdirat", "sendto",
)  # fmt: skip
"""The durability calls, and `sendto`: each message to the database, commits among them."""
_WRITES = re.compile(r"O_(WRONLY|RDWR|CREAT)")
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)")
_PATIENCE = 240.0  # on a machine that does much else
_SITE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Point:
    """The `number`-th call of its name in the traced thread, counted from 1."""

    call: str
    number: int
    text: str
    """What strace said of it."""


class Driver:
    """The warm process (`chaoslab.driver`)."""

    def __init__(self, scratch: Path) -> None:
        self._errors = scratch / f"errors-{id(self)}.txt"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaoslab.driver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(_SITE)},
        )  # fmt: skip

    def warm(self, world: World) -> None:
        """Let the driver do everything once, before it forks."""
        self._write({"world": json.loads(world.to_json()), "phase": "warm"})
        self.status()

    def begin(self, world: World, protocol: str, phase: str, **more: Any) -> int:
        """Fork a child that is prepared and stands still; returns its pid."""
        request = {"world": json.loads(world.to_json()), "protocol": protocol, "phase": phase, "slept": "", **more}
        self._write({**request, "errors": str(self._errors)})
        pid = self._read().get("pid")
        if pid is None:
            raise AssertionError(f"{protocol} could not be prepared:\n{self.errors()}")
        return int(pid)

    def go(self) -> None:
        """Let the child go on."""
        self._send("go")

    def status(self) -> int:
        """The child's exit code (negative: the signal); waits for its end."""
        return int(self._read()["status"])

    def errors(self) -> str:
        """The child's standard error."""
        return self._errors.read_text() if self._errors.exists() else ""

    def _write(self, data: Any) -> None:
        self._send(json.dumps(data))

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise AssertionError(f"the driver does not answer:\n{self.errors()}")
        answer: dict[str, Any] = json.loads(line)
        if "status" in answer and answer["status"] == "unprepared":
            return {}
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        with contextlib.suppress(psutil.Error):  # one of them may stand still at a point
            for child in psutil.Process(self._process.pid).children(recursive=True):
                child.kill()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _attached(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    return True  # it is gone: the caller sees its status


@contextlib.contextmanager
def traced(pid: int, log: Path, *injections: str) -> Any:
    """Trace the main thread of a process that stands still. `-f` is left out on purpose: counts are exact then."""
    command = ["strace", "-qq", "-y", "-s", "300", "-e", f"trace={','.join(CALLS)}"]
    for injection in injections:
        command += ["-e", f"inject={injection}"]
    # Never --seccomp-bpf: strace 6.1 then injects nothing and says nothing.
    tracer = subprocess.Popen([*command, "-o", str(log), "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _attached(pid):
            if tracer.poll() is not None or time.monotonic() > deadline:
                assert tracer.stderr is not None
                raise AssertionError(f"strace cannot attach: {tracer.stderr.read()}")
            time.sleep(0.001)  # the kernel offers no event for it
        yield
    finally:
        try:
            tracer.wait(_PATIENCE)
        finally:
            tracer.kill()
            tracer.wait()
            assert tracer.stderr is not None
            tracer.stderr.close()


class Laboratory:
    """A world, two drivers (one acts, one recovers while the first is paused), and strace."""

    def __init__(self, world: World, scratch: Path) -> None:
        self.world = world
        self.scratch = scratch
        self._log = scratch / "strace.log"
        self._begin()

    def _begin(self) -> None:
        self._cut_off = False
        self._actor = Driver(self.scratch)
        self._rescuer = Driver(self.scratch)
        for driver in (self._actor, self._rescuer):
            driver.warm(self.world)

    def ready(self) -> None:
        """Take new drivers where an experiment was cut off: the old ones still have its answers to give."""
        if self._cut_off:
            self._end()
            self._begin()

    @contextlib.contextmanager
    def _experiment(self) -> Iterator[None]:
        before, self._cut_off = self._cut_off, True
        yield
        self._cut_off = before

    def _end(self) -> None:
        for driver in (self._actor, self._rescuer):
            driver.__exit__()

    def close(self) -> None:
        self._end()
        self.world.database.close()

    def act(self, protocol: str, *injections: str, trace: bool = True, **more: Any) -> int:
        """Prepare a fresh world and act in it; returns the exit code."""
        with self._experiment():
            self.world.empty()
            pid = self._actor.begin(self.world, protocol, "act", **more)
            with traced(pid, self._log, *injections) if trace else contextlib.nullcontext():
                self._actor.go()
                return self._actor.status()

    def record(self, protocol: str) -> Trace:
        """Act undisturbed; returns the durable effects and the commits, in order."""
        out = self.scratch / "trace.json"
        status = self.act(protocol, trace=False, record=str(out))
        assert status == 0, self.errors()
        return Trace.load(out)

    def recover(self, protocol: str) -> None:
        """What a restarted installation does."""
        with self._experiment():
            self._rescuer.begin(self.world, protocol, "recover")
            self._rescuer.go()
            status = self._rescuer.status()
        if status != 0:
            raise AssertionError(f"recovery of {protocol} ended with {status}:\n{self._rescuer.errors()[-2000:]}")

    def pause(self, protocol: str, point: Point) -> bool:
        """Stop the process at a point, let another one take over, then wake it. False if it was not stopped."""
        slept = self.scratch / "slept"
        slept.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._experiment())
            self.world.empty()
            pid = self._actor.begin(self.world, protocol, "act", slept=str(slept))
            stack.enter_context(traced(pid, self._log, f"{point.call}:signal=SIGSTOP:when={point.number}"))
            self._actor.go()
            stopped = self._until_stopped(pid)
            if stopped:
                slept.touch()
                self.recover(protocol)
                os.kill(pid, signal.SIGCONT)
            self._actor.status()
        return stopped

    def _until_stopped(self, pid: int) -> bool:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if "stopped by SIGSTOP" in self._log.read_text(errors="replace"):
                return True
            if not Path(f"/proc/{pid}").exists():
                return False
            time.sleep(0.002)
        raise AssertionError("the process neither stopped nor ended")

    def injected(self) -> bool:
        """Whether strace says that it injected something in the last run."""
        return "(INJECTED)" in self._log.read_text(errors="replace")

    def errors(self) -> str:
        """What the acting child said."""
        return self._actor.errors()

    def points(self, protocol: str) -> list[Point]:
        """Every call of an undisturbed run that touches the world's folders for writing, or the database."""
        status = self.act(protocol)
        assert status == 0, self.errors()
        return self.parse(self._log)

    def parse(self, log: Path) -> list[Point]:
        """The points of a strace log."""
        counts: dict[str, int] = {}
        found = []
        ours = (str(self.world.root), str(self.world.outside))
        for line in log.read_text(errors="replace").splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            call, rest = match[1], match[2]
            counts[call] = counts.get(call, 0) + 1
            touches = any(folder in rest for folder in ours)
            if call == "openat":
                touches = touches and _WRITES.search(rest) is not None
            if touches or call == "sendto":
                found.append(Point(call, counts[call], rest[:200]))
        return found


def available() -> str:
    """Why the laboratory cannot work here; empty if it can."""
    if shutil.which("strace") is None:
        return "needs strace (apt-get install strace)"
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        done = subprocess.run(
            ["strace", "-qq", "-p", str(pid), "-o", "/dev/null", "-e", "trace=none"], capture_output=True, timeout=1,
            text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return f"strace cannot attach here: {done.stderr.strip()}"
