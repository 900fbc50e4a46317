"""A child process that talks in lines: started, listened to and ended, with everything it may have started itself."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import subprocess
import threading
import uuid
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ironclad.errors import EngineDied, PluginBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TOKEN = "IRONCLAD_ENGINE_HOST"  # noqa: S105  # the name of an environment variable
"""Environment variable that marks a host and whatever it starts, so that nothing of it is left behind."""

KEEPER = "IRONCLAD_ENGINE_KEEPER"
"""The same for everything below one keeper of hosts."""

_KEPT = frozenset(
    {KEEPER, "PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "SSL_CERT_FILE"}
)
_KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "COVERAGE_")
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_SHORT = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Too many processes or open files, or no memory: that passes, and says nothing of the engine."""
_QUEUED_LINES = 256
_STDERR_BYTES = 64 * 1024
_EXIT_SECONDS = 5.0


def clean_environment(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    """What a host may know of our environment: no secrets; library threads set explicitly; no network for models.

    Libraries that guess their thread count take every core for every host, which makes all of them several times
    slower.
    """
    kept = {name: value for name, value in environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return {**kept, **dict.fromkeys(_THREADS, str(threads)), "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}


class Child:
    """A running child. `start` returns when the process exists.

    It raises `PluginBroken` if there can be none, `EngineDied` if the machine has no room for one now.

    One thread starts it, reads its lines and waits for its end. The kernel's parent-death signal belongs to the
    *thread* that started a process, so that thread must live as long as the child does.
    """

    def __init__(
        self, argv: Callable[[int], Sequence[str]], environ: Mapping[str, str], *, max_line: int, name: str
    ) -> None:
        self._argv = argv
        self._max_line = max_line
        self.token = uuid.uuid4().hex
        self._environ = {**environ, TOKEN: self.token}
        self._lines: queue.Queue[bytes] = queue.Queue(_QUEUED_LINES)
        self._stderr: deque[bytes] = deque()
        self._stderr_size = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        self._started = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start it. Raises `EngineDied` if there is no room for it now, `PluginBroken` if it cannot be started."""
        try:
            self._thread.start()
        except RuntimeError as exc:
            raise EngineDied(f"its interpreter cannot be started: {exc}") from exc
        self._started.wait()
        if self._error is not None:
            kind = EngineDied if self._error.errno in _SHORT else PluginBroken
            raise kind(f"its interpreter cannot be started: {self._error}") from self._error

    @property
    def pid(self) -> int:
        """Process id; also that of its process group."""
        return self._running().pid

    def send(self, line: bytes) -> None:
        """Write a line. Raises `EngineDied` if nobody reads it."""
        stdin = self._running().stdin
        try:
            while stdin is not None and line:
                line = line[stdin.write(line) :]
        except (OSError, ValueError) as exc:
            raise EngineDied(f"its pipe is closed: {exc}") from exc

    def receive(self, seconds: float) -> bytes | None:
        """The next line, b"" at the end of its output, None if nothing came in time."""
        with contextlib.suppress(queue.Empty):
            return self._lines.get(timeout=seconds)
        return None

    def exit_status(self, seconds: float = 0.0) -> int | None:
        """Its exit status (-N: ended by signal N), None while it runs; waits for it up to `seconds`."""
        process = self._running()
        if not seconds:
            return process.poll()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)
        return None

    def stderr_tail(self) -> str:
        """The end of what it wrote to standard error (64 KiB at most)."""
        return b"".join(self._stderr).decode(errors="replace").strip()

    def end(self, grace: float = 0.0) -> None:
        """Close its input, give it `grace` seconds to exit, then kill it and every process it started."""
        process = self._running()
        self._closing.set()
        if grace:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        kill_marked(self.token)
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_EXIT_SECONDS)
        self._thread.join(_EXIT_SECONDS)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EngineDied("it was never started")
        return self._process

    def _run(self) -> None:
        try:
            process = subprocess.Popen(
                self._argv(os.getpid()),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                bufsize=0, env=self._environ, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as exc:
            self._error = exc
            self._started.set()
            return
        self._process = process
        drain = threading.Thread(target=self._drain, args=(process,), name=f"{self._thread.name}-stderr", daemon=True)
        try:
            drain.start()
        except RuntimeError as exc:  # no thread is to be had now, and who starts us waits
            self._error = OSError(errno.EAGAIN, str(exc))
            with process:
                process.kill()
            return
        finally:
            self._started.set()
        self._read(process)
        process.wait()
        drain.join(_EXIT_SECONDS)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101  # asked for above
        with os.fdopen(os.dup(process.stdout.fileno()), "rb") as stream:
            process.stdout.close()
            while line := stream.readline(self._max_line + 1):
                self._put(line)
            self._put(b"")

    def _put(self, line: bytes) -> None:
        """Hand a line on; a full queue makes the child wait, unless nobody listens any more."""
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=0.5)
                return

    def _drain(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101  # asked for above
        with process.stderr as stream:
            while block := stream.read(8192):
                self._stderr.append(block)
                self._stderr_size += len(block)
                while self._stderr_size > _STDERR_BYTES:
                    self._stderr_size -= len(self._stderr.popleft())


def kill_marked(token: str, name: str = TOKEN) -> int:
    """Kill every process of ours whose environment carries the token; how many there were. Linux only."""
    needle = f"{name}={token}".encode()
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or somebody else's
            if needle in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
    return killed
