"""The keeper of hosts: one process for each worker, which its runs share; it outlives them, and not the worker.

`python -m ironclad.engines.keeper LISTEN_FD LIFE_FD LIMITS`: serves the inherited listening socket until the pipe
`LIFE_FD` ends (the worker is gone, in whatever way), then ends every host and all that they have started. It is started
when somebody first connects (`ironclad.engines.keeping`) and ends when it has had neither hosts nor users for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ironclad import processes
from ironclad.engines import keeper_wire as wire
from ironclad.engines.hosts import Ears, LocalHosts
from ironclad.engines.pool import HostPool, PoolLimits
from ironclad.errors import Cancelled, EngineProtocol, IroncladError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.engines.separation import Progress

IDLE_SECONDS: Final = 60.0
"""How long it stays without hosts and without users."""
_LOOK_SECONDS: Final = 5.0
_REQUEST_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 600.0
"""How long a run may not listen, and gets its result all the same."""
_CREDENTIALS: Final = struct.Struct("3i")


class Keeper:
    """Serves connections on a listening socket, each in a thread of its own, out of one pool."""

    def __init__(self, listener: socket.socket, pool: HostPool, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._listener = listener
        self._hosts = LocalHosts(pool)
        self._idle_seconds = idle_seconds
        self._users = 0
        self._lock = threading.Lock()

    def serve(self, life: int) -> bool:
        """Serve until `life` can be read (its other end is closed): True. Idle for long: False."""
        used, door = time.monotonic(), self._listener.fileno()
        while True:
            ready, _, _ = select.select([door, life], [], [], min(_LOOK_SECONDS, self._idle_seconds))
            if life in ready:
                return True
            if door in ready:
                connection, _ = self._listener.accept()
                with self._lock:
                    self._users += 1
                threading.Thread(target=self._serve, args=(connection,), name="engine-user", daemon=True).start()
            if self._users or len(self._hosts.pool):
                used = time.monotonic()
            elif time.monotonic() - used > self._idle_seconds:
                return False

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(_REQUEST_SECONDS)
                _refuse_strangers(connection)
                answer = self._answer(connection, _line(connection))
            except Exception as exc:  # noqa: BLE001 - whatever it was, the user gets to know
                answer = wire.error_data(exc)
            finally:
                with self._lock:
                    self._users -= 1
            with contextlib.suppress(OSError):
                connection.settimeout(_ANSWER_SECONDS)
                connection.sendall(wire.encode(answer))

    def _answer(self, connection: socket.socket, request: Mapping[str, Any]) -> dict[str, Any]:
        if request.get("op") == "stats":
            return {"event": "stats", "pid": os.getpid(), **self._hosts.pool.stats()}
        if request.get("op") != "separate":
            raise EngineProtocol(f"the keeper of the engines does not know {request.get('op')!r}")
        order = wire.order_of(request["order"])
        user = _User(connection)
        result = self._hosts.separate(order, Ears(user.progress, user.check, user.waiting))
        return {"event": "done", "separation": wire.separation_data(result)}


class _User:
    """The run at the other end: told of what happens, and asked whether it is still there."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._said = ""

    def progress(self, step: Progress) -> None:
        """Tell how far it is."""
        self._send({"event": "progress", "done": step.done, "total": step.total, "written": step.written})

    def waiting(self, reason: str) -> None:
        """Tell what is waited for, once."""
        if reason != self._said and self._send({"event": "waiting", "reason": reason}):
            self._said = reason

    def check(self) -> None:
        """Raise `Cancelled` if the other end is closed (a run says nothing after its request)."""
        if select.select([self._connection], [], [], 0)[0]:
            raise Cancelled("the run does not want it any more")

    def _send(self, data: dict[str, Any]) -> bool:
        """Tell it, unless much of what it was told is not heard yet; whether it was told.

        A run that makes its stems durable on a slow disk does not listen meanwhile. It is not gone, nobody has
        cancelled it, and what comes later says more.
        """
        if not select.select([], [self._connection], [], 0)[1]:
            return False
        try:
            self._connection.sendall(wire.encode(data))
        except OSError as exc:
            raise Cancelled("the run is gone") from exc
        return True


def _line(connection: socket.socket) -> dict[str, Any]:
    buffer = b""
    while not buffer.endswith(b"\n"):
        data = connection.recv(1 << 16)
        if not data or len(buffer) > wire.MAX_LINE:
            raise EngineProtocol("a request that does not end")
        buffer += data
    return wire.decode(buffer)


def _refuse_strangers(connection: socket.socket) -> None:
    """A request names programs to run: only who could run them anyway may ask."""
    _pid, user, _group = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    if user != os.getuid():
        raise EngineProtocol(f"user {user} may not use these engines")


def main(arguments: list[str]) -> int:
    """Serve; see the module."""
    listener = socket.socket(fileno=int(arguments[0]))
    life = int(arguments[1])
    for handle in (listener.fileno(), life):
        os.set_inheritable(handle, False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the worker decides when runs end, and they end before it does
    processes.adopt_orphans()
    pool = HostPool(PoolLimits(**json.loads(arguments[2])))
    try:
        if not Keeper(listener, pool).serve(life):
            with contextlib.suppress(IroncladError):
                pool.close()
    finally:
        processes.end_descendants()
        os._exit(0)  # threads of users that are gone wait for hosts that are gone


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
