"""The using process's side of the fork server: starts it when first needed, and hands it orders."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from ironclad.sandbox.running import NotStarted, environment

_MODULE = "ironclad.sandbox.zygote"
_IDLE_SECONDS = 30.0
"""The longest pause between the orders of one song that is worth 34 MB of memory."""
_END_SECONDS = 30.0
_WORD = 64
_FAILURES = 2
"""So many fork servers in succession that had no child are enough: children are started directly from then on."""


class Zygote:
    """A fork server that was started by this process, which holds the only other end of its socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", _MODULE, str(theirs.fileno()), str(os.getpid()), str(_IDLE_SECONDS)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=environment(),
                cwd="/",
                pass_fds=[theirs.fileno()],
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def gone(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def order(self, module: str, descriptors: list[int]) -> None:
        """Have it fork. Raises OSError if it is not there."""
        socket.send_fds(self._control, [module.encode("utf-8")], descriptors)

    def close(self) -> None:
        """Give it no more orders: it ends when it has done those that it has."""
        self._control.close()

    def end(self, seconds: float) -> None:
        """Wait until it has ended; kill it if that takes longer."""
        self.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def disown(self) -> None:
        """Forget it in a fork of the process that started it."""
        self._control.close()
        self._process.returncode = 0  # nobody's to wait for here


class ForkedChild:
    """A child that the fork server has forked, or was asked to. It gets its order when it is known to run."""

    def __init__(self, nursery: Nursery, zygote: Zygote, order: dict[str, Any]) -> None:
        self._nursery = nursery
        self._zygote = zygote
        self._order = json.dumps(order).encode() + b"\n"
        self._pid = 0
        self._code: int | None = None
        self._heard = b""
        request, self._stdin = os.pipe()
        self.stdout, out = os.pipe()
        self.stderr, err = os.pipe()
        self._channel, theirs = socket.socketpair()
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        try:
            with suppress(OSError):  # it has gone: that no child answers is noticed where its answers are awaited
                zygote.order(order["target"].partition(":")[0], [request, out, err, theirs.fileno()])
        finally:
            theirs.close()
            for fd in (request, out, err):
                os.close(fd)

    def begun(self, seconds: float) -> bool:
        """Whether it has got its order, or never will, after at most so many seconds."""
        if not self._pid and self._code is None and self._poll.poll(seconds * 1000) and self._hear():
            stdin, self._stdin = self._stdin, -1
            with suppress(BrokenPipeError), os.fdopen(stdin, "wb") as pipe:  # it died at once: its exit says why
                pipe.write(self._order)
        return bool(self._pid) or self._code is not None

    def ended(self) -> bool:
        """Whether it has ended, or will never begin."""
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, or will never begin, after at most so many seconds."""
        deadline = time.monotonic() + seconds
        while self._code is None:
            if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return False
            self._hear()
        return True

    def _hear(self) -> int:
        """Read what the fork server says; returns the child's process id, 0 if that is not known yet."""
        try:
            data = self._channel.recv(_WORD)
        except ConnectionResetError:
            data = b""
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"pid":
                self._pid = int(number)
            else:
                self._code = int(number)
        if not data and self._code is None:
            # The fork server was killed, and its children with it. What those had started is left to be killed here.
            self._code = -signal.SIGKILL
            if self._pid:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._pid, signal.SIGKILL)
        return self._pid

    def end(self) -> int | None:
        """Have its group killed and reaped, and close the pipes; returns its exit code, None if it had no order."""
        unasked = self._code is not None
        try:
            if self._stdin >= 0:
                os.close(self._stdin)
            if not unasked:
                self._channel.shutdown(socket.SHUT_WR)
                if self._pid:
                    self.wait(_END_SECONDS)
        finally:
            for fd in (self.stdout, self.stderr):
                os.close(fd)
            self._channel.close()
        if self._pid:
            self._nursery.ended(self._zygote, well=self._code == 0)
            return -signal.SIGKILL if self._code is None else self._code
        if unasked:
            self._nursery.failed(self._zygote)
        return None


class Nursery:
    """The fork server of this process: at most one at a time takes orders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None
        self._retired: list[Zygote] = []
        self._failures = 0
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def start(self, order: dict[str, Any]) -> ForkedChild:
        """Hand over an order. Raises `NotStarted` where there can be no fork server."""
        with self._lock:
            if self._failures >= _FAILURES:
                raise NotStarted
            self._retired = [zygote for zygote in self._retired if not zygote.gone()]
            if self._zygote is None or self._zygote.gone():
                self._retire()
                try:
                    self._zygote = Zygote()
                except OSError as exc:
                    self._failures += 1
                    raise NotStarted from exc
            return ForkedChild(self, self._zygote, order)

    def pid(self) -> int | None:
        """The fork server that takes orders now."""
        return self._zygote.pid if self._zygote is not None else None

    def ended(self, zygote: Zygote, *, well: bool) -> None:
        """One of its children has ended. It goes if that was not as it should be.

        All its children have the same addresses in memory: a file that crashes one may be trying to guess them, and the
        next one finds others.
        """
        with self._lock:
            self._failures = 0
            if not well and zygote is self._zygote:
                self._retire()

    def failed(self, zygote: Zygote) -> None:
        """It took an order and had no child."""
        with self._lock:
            if zygote is not self._zygote:
                return  # said before, of another order
            self._retire()
            self._failures += 1
            if self._failures == _FAILURES:
                from ironclad import log  # noqa: PLC0415 -- the children import this module too, and log nothing

                log.get().warning("sandbox_without_fork_server")

    def close(self) -> None:
        """Have all fork servers end."""
        with self._lock:
            self._retire()
            for zygote in self._retired:
                zygote.end(_END_SECONDS)
            self._retired = []

    def _retire(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            self._retired.append(self._zygote)
            self._zygote = None

    def _forget(self) -> None:
        """In a fork of this process, which has a nursery of its own: these fork servers are not its."""
        for zygote in (*self._retired, *([] if self._zygote is None else [self._zygote])):
            zygote.disown()
        self._zygote, self._retired = None, []


@functools.cache
def of_process(pid: int) -> Nursery:
    """The nursery of a process, which must be this one: after a fork there is another."""
    if pid != os.getpid():
        raise ValueError(f"{pid} is not this process")
    return Nursery()


def start(order: dict[str, Any]) -> ForkedChild:
    """Have this process's fork server fork a child. Raises `NotStarted`."""
    return of_process(os.getpid()).start(order)
