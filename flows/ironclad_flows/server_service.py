"""The Prefect server as one of our services: in this process, on its own data, ended by an event."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import math
import signal
import socket
import sys
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ironclad import durable, log
from ironclad.config import load
from ironclad.errors import PortInUse
from ironclad_flows import environment
from ironclad_flows.database import PrefectDatabase, let_scheduler_insert, open_database, rewrite_where_needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import uvicorn

    from ironclad.config import Settings

_GRACE_SECONDS = 1
_BACKLOG = 2048
_BACKGROUND_SECONDS = 1.0


class PrefectService:
    """Runs Prefect's API, UI and background services with uvicorn in the calling process.

    Prefect allows one server and one set of settings in a process, so a process runs this once.

    Args:
        settings: ours.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server: uvicorn.Server | None = None
        self.url: str | None = None

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return self._server is not None and self._server.started

    @property
    def running(self) -> int:
        """Nothing: it is no worker."""
        return 0

    def run(self, stopping: threading.Event) -> None:
        """Serve until `stopping` is set.

        Raises `PortInUse` if somebody else listens on the port, and what `open_database` raises.
        """
        with _listen_again(self._settings) as listener:
            database = open_database(self._settings)
            try:
                self.url = environment.url_of(self._settings.prefect.host, listener.getsockname()[1])
                durable.make_dirs(self._settings.layout.prefect)
                environment.apply(
                    environment.prefect_environment(self._settings, url=self.url, database_url=database.url)
                    | environment.redis_environment(self._settings)
                    | dict(database.environment)
                )
                environment.publish_url(self._settings, self.url)
                asyncio.run(self._serve(listener, database, stopping))
            finally:
                database.close()

    async def _serve(self, listener: socket.socket, database: PrefectDatabase, stopping: threading.Event) -> None:
        leave_out_highlighter()
        # Only now: Prefect reads its settings when it is imported.
        import uvicorn  # noqa: PLC0415
        from prefect.server.api.server import create_app  # noqa: PLC0415

        stop_rewriting = rewrite_where_needed(database.url)

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # the service's runtime owns them

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                stop_rewriting()

        keep_catalogue_local()
        let_scheduler_insert()
        ask_for_background_work_less_often()
        config = uvicorn.Config(
            create_app(final=True),
            log_level="warning",
            access_log=False,
            timeout_keep_alive=60,
            # Workers hold websockets for ever; they connect again by themselves.
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = self._server = Server(config)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            server.should_exit = True

        def wait() -> None:
            stopping.wait()
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop)

        threading.Thread(target=wait, name="stop-prefect", daemon=True).start()
        log.get().info(
            "prefect server starting", url=self.url, database="sqlite" if database.url is None else "postgresql"
        )
        await server.serve(sockets=[listener])
        if not stopping.is_set():
            raise RuntimeError("The Prefect server ended by itself; its own log lines say why.")


def keep_catalogue_local() -> None:
    """Answer the UI's catalogue of blocks and workers from Prefect's own package.

    Otherwise the server fetches it from a public host when somebody opens those pages, for which there is no setting.
    """
    from cachetools import TTLCache  # noqa: PLC0415 - comes with Prefect
    from prefect.server.api import collections  # noqa: PLC0415 - heavy

    bundled = Path(collections.__file__).parent / "collections_data" / "views"
    views: TTLCache[str, dict[str, Any]] = TTLCache(maxsize=len(collections.KNOWN_VIEWS), ttl=math.inf)
    for view in collections.KNOWN_VIEWS:
        file = bundled / f"{view}.json"
        views[view] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    collections.GLOBAL_COLLECTIONS_VIEW_CACHE = views


def ask_for_background_work_less_often() -> None:
    """Have the worker of Prefect's background tasks look every second: a quarter of an idle server's processor time.

    It hears of new tasks at once all the same; there is no setting for how often it looks for due ones.
    """
    from docket import Worker  # noqa: PLC0415 - comes with Prefect
    from prefect.server.api import background_workers  # noqa: PLC0415 - heavy

    seldom = timedelta(seconds=_BACKGROUND_SECONDS)
    # The module makes its worker by this name.
    vars(background_workers)["Worker"] = partial(Worker, minimum_check_interval=seldom, scheduling_resolution=seldom)


def leave_out_highlighter() -> None:
    """Keep 7 MB of grammars out: Alembic's templates import them, where they are, to colour a trace in HTML."""
    sys.modules.setdefault("mako.ext.pygmentplugin", None)  # type: ignore[arg-type]  # Python's own way to say: not there


def server_command() -> list[str]:
    """A command line that runs the server as a process of its own, without health and metrics endpoints."""
    return [sys.executable, "-m", "ironclad_flows.server_service"]


def main() -> int:
    """Run the server until SIGTERM or SIGINT."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    PrefectService(load()).run(stopping)
    return 0


def _listen_again(settings: Settings) -> socket.socket:
    """As set; a free port (0) is the one of last time if that is still free, so nobody loses a restarted server."""
    prefect = settings.prefect
    last = environment.last_port(settings) if prefect.port == 0 else None
    if last is not None:
        with contextlib.suppress(PortInUse, OSError):
            return _listen(prefect.host, last)
    return _listen(prefect.host, prefect.port)


def _listen(host: str, port: int) -> socket.socket:
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; without, every answer waits 40 ms.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # At once, so that a second server with the same port is refused now; clients wait in the queue meanwhile.
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise PortInUse(f"{host}:{port}") from exc
        raise
    return listener


if __name__ == "__main__":
    sys.exit(main())
