"""The fork server: a single-threaded process with everything imported that forks one process per flow run.

It is forked from the worker (`prefork`) or started by `ironclad_flows.starter.ForkServer`, talks JSON lines over one
socket, and never outlives it:

    worker → server   {"environment": {…}}                 what the worker's own has become since it forked the server
                      {"id": "…", "environment": {…}}      start a process
    server → worker   {"event": "ready", "objects": 123}   preloading is done
                      {"event": "failed", "error": "…"}    preloading failed; the server ends
                      {"event": "started", "id": "…", "pid": 7}
                      {"event": "refused", "id": "…", "error": "…"}    the kernel made no process
                      {"event": "ended", "pid": 7, "code": 0}    negative: minus the signal's number

Who dies with whom: a child leads a process group of its own and dies with the fork server (the kernel sees to it);
when a child ends, the rest of its group is killed. When the worker ends in any way its end of the socket closes, and
the fork server kills every group and every orphan it has adopted, then ends. `multiprocessing`'s fork server does none
of this, and hides errors of preloaded modules.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any

from ironclad import log
from ironclad.config import load
from ironclad_flows import preload
from ironclad_flows.processes import become_subreaper, children, die_with_parent, kill_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ironclad.sections import LogSettings

_CHUNK = 1 << 16
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Server:
    """Serves fork requests on one connected socket until the other end closes it.

    Args:
        connection: the socket to the worker.
        run: what a child does with its environment; must not return.
        renew: what the server does with another environment of its own.
    """

    def __init__(
        self, connection: socket.socket, run: Callable[[Mapping[str, str]], Any],
        renew: Callable[[Mapping[str, str]], None] = os.environ.update,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._run = run
        self._renew = renew
        self._running: set[int] = set()
        self._wakeup, self._wakeup_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Fork on request until the socket closes, then kill everything that is left."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        connection, buffer = self._connection.fileno(), b""
        try:
            while True:
                ready, _, _ = select.select([connection, self._wakeup], [], [])
                if self._wakeup in ready:
                    os.read(self._wakeup, _CHUNK)
                    self._reap()
                if connection in ready:
                    data = self._connection.recv(_CHUNK)
                    if not data:
                        return
                    *lines, buffer = (buffer + data).split(b"\n")
                    for request in map(json.loads, lines):
                        if "id" in request:
                            self._fork(request)
                        else:
                            self._renew(request["environment"])
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            self._kill_all()

    def send(self, **message: object) -> None:
        """Write one message."""
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _fork(self, request: Mapping[str, Any]) -> None:
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as exc:  # no memory, or too many processes: the runs that go on are not to blame
            self.send(event="refused", id=request["id"], error=str(exc))
            return
        if pid == 0:
            self._become_child(server, request["environment"])
        self._running.add(pid)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            # Also here, so that the group exists before anybody can be told of it.
            os.setpgid(pid, pid)
        self.send(event="started", id=request["id"], pid=pid)

    def _become_child(self, server: int, environment: Mapping[str, str]) -> None:
        try:
            die_with_parent(server)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in (*_IGNORED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._connection.close()
            os.close(self._wakeup)
            os.close(self._wakeup_writer)
            self._run(environment)
        except BaseException:  # noqa: BLE001 - nothing of a child may reach the server's loop
            traceback.print_exc()
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while True:
            try:
                # First without reaping: as long as the zombie is there, nobody else can get its group's number.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            if pid in self._running:
                kill_group(pid)
            _, status = os.waitpid(pid, 0)
            if pid in self._running:
                self._running.discard(pid)
                self.send(event="ended", pid=pid, code=os.waitstatus_to_exitcode(status))

    def _kill_all(self) -> None:
        for pid in self._running:
            kill_group(pid)
        # Killing an orphan may hand its own children over to this process: until there are none.
        while left := children():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)


def log_as(service: str, chosen: LogSettings) -> None:
    """Log as a service does. Call it before Prefect is imported: it leaves handlers alone that are there."""
    human = {"auto": None, "human": True, "json": False}[chosen.format]
    log.configure(
        service=service, level=chosen.level, human=human, stream=sys.stdout, burst=chosen.burst, sample=chosen.sample
    )


def serve(connection: socket.socket, service: str, modules: Sequence[str]) -> int:
    """Preload Prefect and the modules, and serve until the other end closes. Returns the process's exit code.

    The process has no thread but this one, and nothing else to do. What a run logs is logged as the service's, in the
    same form.
    """
    os.set_inheritable(connection.fileno(), False)
    for number in _IGNORED:
        # Ctrl-C or a supervisor may signal every process; only the worker decides when runs end.
        signal.signal(number, signal.SIG_IGN)
    become_subreaper()
    from ironclad_flows import child  # noqa: PLC0415 - after the handlers are set

    server = Server(connection, child.main, child.renew)
    try:
        log_as(service, load().log)
        objects = preload.load((*preload.PREFECT_MODULES, *modules))
    except BaseException:  # noqa: BLE001 - told to the worker, which raises it
        server.send(event="failed", error=traceback.format_exc())
        return 1
    server.send(event="ready", objects=objects)
    server.serve()
    return 0


def main(arguments: list[str]) -> int:
    """`FD SERVICE MODULE…`: preload the modules and serve on the inherited socket. Returns the exit code."""
    return serve(socket.socket(fileno=int(arguments[0])), arguments[1], arguments[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
