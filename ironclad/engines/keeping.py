"""The two ends of the keeper of hosts: the worker, which has it started when needed, and a run, which uses it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Self

from ironclad import durable, log
from ironclad.engines import keeper_wire as wire
from ironclad.engines.child import KEEPER, kill_marked
from ironclad.engines.separation import Progress
from ironclad.errors import EngineDied, EngineProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ironclad.engines.hosts import Ears, Order
    from ironclad.engines.pool import PoolLimits
    from ironclad.engines.separation import Separation

SOCKET: Final = "IRONCLAD_ENGINE_HOSTS"
"""Environment variable that tells a run where its worker's keeper listens."""
_BACKLOG: Final = 128
_POLL_SECONDS: Final = 0.2
_CONNECT_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 1.0
_STATS_SECONDS: Final = 5.0
_SLACK_SECONDS: Final = 5.0


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A short name for a socket, whose path may have 107 bytes only."""
    handle = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)


class Keeping:
    """The worker's end: a listening socket, and a thread that has a keeper serve it whenever somebody connects.

    A keeper that dies is followed by another at the next connection, after everything that it left has been killed.
    """

    def __init__(self, folder: Path, name: str, limits: PoolLimits) -> None:
        """`folder`: the run folder; `name`: of the worker, unique on this machine."""
        durable.make_dirs(folder)
        self.path = folder / f"engines-{name}.sock"
        self._limits = limits
        self._token = secrets.token_hex(16)
        self._stop, self._stop_writer = os.pipe2(os.O_CLOEXEC)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.path.unlink(missing_ok=True)
        with _short(self.path) as short:
            self._listener.bind(short)
        self.path.chmod(0o600)
        self._listener.listen(_BACKLOG)
        self._keeper: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._serve, name="engine-keeping", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the keeper; None if there is none now."""
        keeper = self._keeper
        return None if keeper is None else keeper.pid

    def stats(self) -> dict[str, Any] | None:
        """What the keeper says of its hosts; None if there is no keeper (none is started) or it does not answer."""
        if self._keeper is None:
            return None
        try:
            with _connected(self.path, _STATS_SECONDS) as connection:
                connection.sendall(wire.encode({"op": "stats"}))
                heard = _events(connection, time.monotonic() + _STATS_SECONDS)
                return next((event for event in heard if event is not None), None)
        except (OSError, EngineProtocol):
            return None

    def close(self) -> None:
        """End the keeper and its hosts."""
        if self._thread.is_alive():
            os.close(self._stop_writer)
            self._thread.join()
            self._listener.close()
            os.close(self._stop)
            self.path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener.fileno(), self._stop], [], [])
            if self._stop in ready:
                return
            try:
                failed = self._keep() != 0
            except OSError as exc:  # no process or descriptor is to be had now: who has connected waits for the next
                log.get(component="engines").warning("engine_keeper_not_started", error=str(exc))
                failed = True
            # A keeper that cannot start must not be started again and again without a pause.
            if select.select([self._stop], [], [], _AGAIN_SECONDS if failed else 0.0)[0]:
                return

    def _keep(self) -> int:
        """Run a keeper until it ends, or we shall; its exit status. Raises `OSError` if it cannot be started."""
        life, ours = os.pipe2(os.O_CLOEXEC)
        passed = (self._listener.fileno(), life)
        try:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "ironclad.engines.keeper", *map(str, passed), json.dumps(asdict(self._limits))],
                stdin=subprocess.DEVNULL, pass_fds=passed, env={**os.environ, KEEPER: self._token}, cwd="/",
            )  # fmt: skip
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(life)
        self._keeper = keeper
        try:
            ended = os.pidfd_open(keeper.pid)
            try:
                select.select([ended, self._stop], [], [])
            finally:
                os.close(ended)
        finally:
            os.close(ours)  # which ends it
            keeper.wait()
            self._keeper = None
            kill_marked(self._token, KEEPER)
        return keeper.returncode


class SharedHosts:
    """A run's end: the hosts of its worker's keeper."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def separate(self, order: Order, ears: Ears) -> Separation:
        """See `Hosts`. Raises `EngineDied` too if the keeper is gone."""
        try:
            connection = _connected(self._path, _CONNECT_SECONDS)
        except OSError as exc:
            raise EngineDied(f"the keeper of the engines cannot be reached: {exc}") from exc
        with connection:
            try:
                connection.sendall(wire.encode({"op": "separate", "order": wire.order_data(order)}))
                for event in _events(connection):
                    if event is not None and (result := self._heard(event, ears)) is not None:
                        return result
                    ears.check()  # also where progress comes so often that it is never quiet
            except ConnectionError as exc:
                raise EngineDied(f"the keeper of the engines is gone: {exc}") from exc
            except BaseException:
                self._give_up(connection, order.plan.settings.cancel_seconds)
                raise
        raise EngineDied("the keeper of the engines is gone")

    @staticmethod
    def _heard(event: Mapping[str, Any], ears: Ears) -> Separation | None:
        kind = event.get("event")
        if kind == "done":
            return wire.separation_of(event["separation"])
        if kind == "error":
            raise wire.error_of(event)
        if kind == "progress":
            ears.progress(Progress(int(event["done"]), int(event["total"]), int(event["written"])))
        elif kind == "waiting":
            ears.waiting(str(event["reason"]))
        return None

    @staticmethod
    def _give_up(connection: socket.socket, cancel_seconds: float) -> None:
        """Say that it is not wanted any more, and wait until nothing writes into its folder."""
        with contextlib.suppress(OSError, EngineProtocol):
            connection.shutdown(socket.SHUT_WR)
            for event in _events(connection, time.monotonic() + cancel_seconds + _SLACK_SECONDS):
                if event is not None and event.get("event") in {"done", "error"}:
                    return


def _connected(path: Path, seconds: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        with _short(path) as short:
            connection.connect(short)
    except BaseException:
        connection.close()
        raise
    return connection


def _events(connection: socket.socket, deadline: float = float("inf")) -> Iterator[Any]:
    """What the keeper says, None when it says nothing for a moment; ends with the connection or at the deadline."""
    buffer = b""
    connection.settimeout(_POLL_SECONDS)
    while time.monotonic() < deadline:
        try:
            data = connection.recv(1 << 16)
        except TimeoutError:
            yield None
            continue
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        if len(buffer) > wire.MAX_LINE:
            raise EngineProtocol("the keeper of the engines says more than it may")
        for line in lines:
            yield wire.decode(line)
