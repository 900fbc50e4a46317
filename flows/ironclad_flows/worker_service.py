"""The warm worker as one of our services: in this process, ended by an event."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo

from ironclad import log
from ironclad.config import load
from ironclad.db import wire
from ironclad.db.session import KEEPALIVES
from ironclad.engines import admission, keeping
from ironclad.errors import PrefectUnavailable
from ironclad.jobs.slots import CHANGED
from ironclad.ops import directory
from ironclad.ops.heartbeat import libpq_url
from ironclad_flows import environment
from ironclad_flows.prefork import fork_server
from ironclad_flows.preload import STAGE_MODULES
from ironclad_flows.wake import WakeSocket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ironclad.config import Settings
    from ironclad_flows.prefork import Forked
    from ironclad_flows.worker import IroncladWorker

_LOOK_SECONDS = 1.0
_SLOTS_SECONDS = 3.0
_CONNECT_SECONDS = 5


class WorkerService:
    """Runs the warm worker of one pool in the calling process.

    Prefect reads its settings when it is imported, so a process runs this once.

    Args:
        settings: ours; the same reach the flow runs by the environment (`IRONCLAD_*`).
        pool: the work pool.
        slots: runs at a time; the pool's own setting by default.
        name: how Prefect's UI calls the worker; host and pool by default.
        preload: modules besides Prefect's that the fork server imports; our flow's by default.
        forked: what `prefork` returned, if it was called.
    """

    def __init__(
        self,
        settings: Settings,
        pool: str,
        *,
        slots: int | None = None,
        name: str | None = None,
        preload: Sequence[str] | None = None,
        forked: Forked | None = None,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._slots = slots
        self._name = name or f"{socket.gethostname()}-{pool}"
        self._preload = preload
        self._forked = forked
        self._worker: IroncladWorker | None = None
        self._engines: keeping.Keeping | None = None

    @staticmethod
    def prefork(settings: Settings, pool: str, preload: Sequence[str] | None = None) -> Forked | None:
        """Fork the fork server from this process, which must have no threads yet: so they share what is imported."""
        return fork_server(settings, directory.worker(pool), STAGE_MODULES if preload is None else preload)

    @property
    def slots(self) -> int:
        """Runs at a time."""
        return self._slots or admission.slots_of(self._settings, self._pool)

    @property
    def engines(self) -> dict[str, Any]:
        """The warm engines: what `HostPool.stats` says; empty where none has been asked for."""
        return (self._engines.stats() if self._engines is not None else None) or {}

    @property
    def ready(self) -> bool:
        """Whether it has its fork server, has reached Prefect, and still asks for runs."""
        return self._worker is not None and self._worker.polling

    @property
    def running(self) -> int:
        """Runs at hand."""
        return 0 if self._worker is None else self._worker.runs

    def run(self, stopping: threading.Event) -> None:
        """Serve until `stopping` is set, then drain.

        Raises `ConfigError` if the preloaded modules do not load, and `PrefectUnavailable` when the server has come
        back on another port: only a new process can follow it.
        """
        url = self._server_url(stopping)
        if url is None:
            return
        os.environ.setdefault("IRONCLAD_DATA_DIR", str(self._settings.layout.root))
        environment.apply(environment.prefect_environment(self._settings, url=url))
        _read_again()
        wake_socket = WakeSocket(self._settings.layout.run, self._pool)
        limits = admission.pool_limits(self._settings, self.slots)
        name = f"{self._pool}-{os.getpid()}"
        try:
            with keeping.Keeping(self._settings.layout.run, name, limits) as self._engines:
                asyncio.run(self._serve(stopping, wake_socket, url))
        finally:
            self._engines = None
            wake_socket.close()
        if not stopping.is_set():
            raise PrefectUnavailable(self._moved(url))

    def _moved(self, url: str) -> str:
        return f"It has moved from {url} to {environment.api_url(self._settings)}."

    def _server_url(self, stopping: threading.Event) -> str | None:
        """Where the server is; waits for one that has no fixed port to say so, and is None if stopped meanwhile."""
        while not environment.is_known(self._settings):
            if stopping.wait(_LOOK_SECONDS):
                return None
        return environment.api_url(self._settings)

    async def _serve(self, stopping: threading.Event, wake_socket: WakeSocket, url: str) -> None:
        from ironclad_flows.worker import IroncladWorker  # noqa: PLC0415 - only now: see the class

        worker = IroncladWorker(work_pool_name=self._pool, name=self._name, limit=self.slots)
        if self._engines is not None:
            worker.run_environment = {keeping.SOCKET: str(self._engines.path)}
        worker.forked = self._forked
        worker.drain_seconds = self._settings.prefect.drain_seconds
        worker.handle_signals = False  # the service's runtime owns them
        worker.wake_socket = wake_socket
        worker.log_as = directory.worker(self._pool)
        if self._preload is not None:
            worker.preload = tuple(self._preload)
        self._worker = worker

        def wait() -> None:
            while not stopping.wait(_LOOK_SECONDS) and environment.api_url(self._settings) == url:
                pass
            if not stopping.is_set():  # now: the worker may have to leave the hard way, without another word
                log.get(worker=self._name, pool=self._pool).warning("prefect moved", detail=self._moved(url))
            worker.request_drain()

        def follow() -> None:
            with contextlib.closing(_Changed(self._settings, self._pool)) as changed:
                while not stopping.wait(_SLOTS_SECONDS):
                    self._follow_slots(worker, changed)

        threading.Thread(target=wait, name="stop-worker", daemon=True).start()
        if self._slots is None:
            threading.Thread(target=follow, name="follow-slots", daemon=True).start()
        await worker.start(printer=lambda _message: None)

    def _follow_slots(self, worker: IroncladWorker, changed: _Changed) -> None:
        """Take as many runs at a time as an operator said, or else as many as the settings say."""
        declared = self._settings.pools.get(self._pool)
        try:
            number = changed.ask()
        except psycopg.Error:
            return  # it stays as it is while the database is away
        worker.change_limit(number if number is not None else 1 if declared is None else declared.slots)


class _Changed:
    """Asks for the slots that an operator gave a pool, on a connection that is kept: a new one costs a hundred answers.

    While a server takes questions and does not answer, the number stays as it is.
    """

    def __init__(self, settings: Settings, pool: str) -> None:
        self._url = libpq_url(settings)
        self._pool = pool
        self._connection: psycopg.Connection[Any] | None = None

    def ask(self) -> int | None:
        """The number, None where the settings' own holds. Raises `psycopg.Error`; the next call connects again."""
        try:
            if self._connection is None:
                self._connection = wire.connect(
                    make_conninfo(self._url, connect_timeout=_CONNECT_SECONDS, **KEEPALIVES), autocommit=True,
                    application_name="ironclad-slots", options="-c statement_timeout=5000",
                )  # fmt: skip
            row = self._connection.execute(CHANGED, {"pool": self._pool}).fetchone()
        except psycopg.Error:
            self.close()
            raise
        return None if row is None else int(row[0])

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _read_again() -> None:
    """Prefect's settings, if it was imported before its environment was complete."""
    context = sys.modules.get("prefect.context")
    if context is not None:
        context.refresh_global_settings_context()


def worker_command(
    pool: str, *, slots: int | None = None, name: str | None = None, preload: Sequence[str] = ()
) -> list[str]:
    """A command line that runs a worker as a process of its own, without health and metrics endpoints."""
    command = [sys.executable, "-m", "ironclad_flows.worker_service", "--pool", pool]
    if slots is not None:
        command += ["--slots", str(slots)]
    if name is not None:
        command += ["--name", name]
    for module in preload:
        command += ["--preload", module]
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until SIGTERM or SIGINT; a second one ends it at once."""
    parser = argparse.ArgumentParser(prog="ironclad_flows.worker_service", description=main.__doc__)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--name")
    parser.add_argument("--preload", action="append", metavar="MODULE")
    options = parser.parse_args(arguments)
    stopping = threading.Event()

    def stop(number: int, _frame: object) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    settings = load()
    service = WorkerService(
        settings, options.pool, slots=options.slots, name=options.name, preload=options.preload,
        forked=WorkerService.prefork(settings, options.pool, options.preload),
    )  # fmt: skip
    service.run(stopping)
    return 0


if __name__ == "__main__":
    sys.exit(main())
