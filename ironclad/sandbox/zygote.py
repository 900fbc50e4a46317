"""The fork server of one process that uses the sandbox: it has the targets imported and forks a child for each order.

Started by `ironclad.sandbox.nursery` as `python -I -m ironclad.sandbox.zygote SOCKET PARENT SECONDS`. It never sees a
byte of a file, nor of an order: one datagram on the socket names the target's module, and carries four descriptors:

* the child's stdin, through which it gets its order when it is known to run, stdout and stderr,
* the order's channel, on which this process says `pid N` when the child runs, and `status N` (negative: a signal) when
  it has ended and its whole process group has been killed. The other end, shut down or closed, has the group killed.

It ends with the process that started it (its groups are killed first), after SECONDS without an order, and when
the socket closes and the last order has ended. A child dies with it.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ironclad.sandbox import child

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_DUMPABLE = 4
_DATAGRAM = 4096
_DESCRIPTORS = 4


@dataclass(frozen=True, slots=True)
class _Order:
    """A child that runs."""

    pid: int
    handle: int
    """A descriptor that becomes readable when the child ends."""
    channel: socket.socket

    def say(self, word: str, number: int) -> None:
        """Tell the parent, if it still listens."""
        with suppress(OSError):
            self.channel.send(f"{word} {number}\n".encode("ascii"))

    def kill(self) -> None:
        """SIGKILL to the child and all of its group. It is not reaped yet, so both ids are still its own."""
        for send in (os.killpg, os.kill):  # the group is not there before the child has made it
            with suppress(ProcessLookupError, PermissionError):
                send(self.pid, signal.SIGKILL)


class Zygote:
    """Serves the orders of one socket."""

    def __init__(self, control: socket.socket, parent: int, idle_seconds: float) -> None:
        self._control = control
        self._open = True
        self._idle = idle_seconds
        self._orders: set[_Order] = set()
        self._imported: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._watch(control.fileno(), self._accept)
        self._watch(os.pidfd_open(parent), self._abandon)

    def serve(self) -> None:
        """Fork on request until there can be no more."""
        while self._open or self._orders:
            ready = self._selector.select(None if self._orders else self._idle)
            if not ready:
                return
            for key, _ in ready:
                if self._selector.get_map().get(key.fd) is key:  # not one that an earlier event of this round closed
                    key.data()

    def _watch(self, fd: int, call: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, call)

    def _abandon(self) -> None:
        """The parent has died: nobody wants the results."""
        for order in self._orders:
            order.kill()
        os._exit(0)

    def _accept(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, _DATAGRAM, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, fds = b"", []
        if not data:
            self._selector.unregister(self._control)
            self._open = False
            return
        if len(fds) != _DESCRIPTORS:  # no room for more: the parent sees that no child came of it
            for fd in fds:
                os.close(fd)
            return
        *standard, last = fds
        channel = socket.socket(fileno=last)
        try:
            self._prepare(data.decode("utf-8"))
            if _wanted(channel):
                self._fork(standard, channel)
            else:
                channel.close()
        except OSError:  # no more processes or descriptors: likewise
            channel.close()
        finally:
            for fd in standard:
                os.close(fd)

    def _prepare(self, module: str) -> None:
        """Import a target's module, once for all children to come."""
        if module in self._imported:
            return
        with suppress(Exception):  # the child imports it again, and says what is wrong
            importlib.import_module(module)
        if len(list(Path("/proc/self/task").iterdir())) != 1:
            raise OSError("an import started a thread: a lock that it holds would stay locked in a child")
        self._imported.add(module)
        gc.collect()
        gc.freeze()  # a collection in a child would write to each object's head, and so copy its page

    def _fork(self, standard: list[int], channel: socket.socket) -> None:
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_child(zygote, standard)
        try:
            order = _Order(pid, os.pidfd_open(pid), channel)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._orders.add(order)
        order.say("pid", pid)
        self._watch(channel.fileno(), lambda: self._unwanted(order))
        self._watch(order.handle, lambda: self._ended(order))

    def _unwanted(self, order: _Order) -> None:
        self._selector.unregister(order.channel)
        order.kill()

    def _ended(self, order: _Order) -> None:
        order.kill()
        _, status = os.waitpid(order.pid, 0)
        self._orders.discard(order)
        self._selector.unregister(order.handle)
        os.close(order.handle)
        if order.channel.fileno() in self._selector.get_map():
            self._selector.unregister(order.channel)
        order.say("status", os.waitstatus_to_exitcode(status))
        order.channel.close()


def _wanted(channel: socket.socket) -> bool:
    """Whether the other end has not been shut down meanwhile."""
    try:
        return channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True


def _become_child(zygote: int, standard: list[int]) -> NoReturn:
    """Keep nothing of the fork server's but its modules, and be the child."""
    status = 1
    try:
        os.setsid()
        for number, fd in enumerate(standard):
            os.dup2(fd, number)
        for fd in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208 -- names, no paths
            if fd > 2:  # noqa: PLR2004 -- the last of the three standard ones
                with suppress(OSError):  # the one that listed them
                    os.close(fd)
        child.main(zygote)
        status = 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001 -- nothing of a child may get into the fork server's loop
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()  # noqa: SLF001 -- as multiprocessing does; measured coverage is saved there
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def main(arguments: list[str]) -> int:
    """`SOCKET PARENT SECONDS`: serve on the inherited socket until it closes, PARENT ends or no order comes so long."""
    control, parent = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    control.set_inheritable(False)
    # A child that a file has taken over is of the same user, and must not reach into the process that forks the next.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    zygote = Zygote(control, parent, float(arguments[2]))
    if os.getppid() != parent:
        return 1  # it died before it was watched
    zygote.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
