"""`ironclad run postgres`: an owner for the embedded PostgreSQL server where no `ironclad up` is (systemd, containers).

Without one, the first service to start would own the server, and stopping that service would end everybody's database.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

from ironclad.db.embedded import EmbeddedServer
from ironclad.errors import ConfigError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.ops.service import ServiceRuntime


class PostgresService:
    """Starts the embedded server, stays while it runs, and stops it at the end whoever still uses it."""

    name = "postgres"

    def run(self, runtime: ServiceRuntime) -> None:
        """Own the server until the runtime stops.

        Raises `ConfigError` if the settings name another server, `DatabaseUnavailable` if the server ends by itself.
        """
        if runtime.settings.database_url is not None:
            raise ConfigError("database_url names a PostgreSQL server of yours; there is no embedded one to run.")
        server = EmbeddedServer(runtime.settings.layout.postgres)
        server.start()
        gone = threading.Event()
        try:
            pid = server.pid()
            if pid is None:
                raise DatabaseUnavailable("the embedded server ended as soon as it had started; see server.log")

            def ended() -> None:
                gone.set()
                runtime.stop()

            watch = _Watch(pid, ended)
            try:
                runtime.health.ok("postgres", f"process {pid}")
                runtime.ready()
                runtime.stopping.wait()
            finally:
                watch.close()
            if gone.is_set():
                raise DatabaseUnavailable("the embedded server ended by itself; see server.log in its folder")
        finally:
            server.stop()  # also under others' feet: whoever stops the database's own service means it
            server.release()


class _Watch:
    """Calls `ended` in a thread of its own when a process ends, unless closed before."""

    def __init__(self, pid: int, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._closing, self._closer = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = os.pidfd_open(pid)
        except ProcessLookupError:
            os.close(self._closing)
            os.close(self._closer)
            raise DatabaseUnavailable("the embedded server ended as soon as it had started; see server.log") from None
        self._thread = threading.Thread(target=self._look, name="postgres-watch", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        poll.register(self._closing, select.POLLIN)
        if self._closing not in dict(poll.poll()):
            self._ended()

    def close(self) -> None:
        """Stop looking."""
        os.write(self._closer, b"x")
        self._thread.join()
        for handle in (self._process, self._closing, self._closer):
            os.close(handle)
