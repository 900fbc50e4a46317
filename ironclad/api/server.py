"""Uvicorn in a thread of its own: the main thread belongs to the service's runtime and its signals."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ironclad.errors import PortInUse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from ironclad.api.closing import Closing
    from ironclad.config import ApiSettings

THREADS: Final = 10
"""Requests at a time that ask the database, of which there are as many connections."""
_BACKLOG: Final = 128
_HEAD_BYTES: Final = 32 << 10
_HEAD_SECONDS: Final = 15.0
_SPARE: Final = 50
"""Connections beyond twice the limit of requests: those that idle, and those that are told to come again."""
_KEEP_ALIVE_SECONDS: Final = 30
_CANCELLED_SECONDS: Final = 5.0


def bound(host: str, port: int) -> socket.socket:
    """A socket that the server will listen on. Raises `PortInUse`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        if exc.errno in {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL} or isinstance(exc, socket.gaierror):
            raise PortInUse(f"{host}:{port}: {exc.strerror}", port=port) from exc
        raise
    return sock


class _Protocol(H11Protocol):
    """Uvicorn's, but a client that does not send the head of its request soon is cut off."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class's
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        if not waiting and self._late is not None:
            self._late.cancel()
            self._late = None
        elif waiting and self._late is None:
            self._late = self.loop.call_later(_HEAD_SECONDS, self._cut)

    def _cut(self) -> None:
        self._late = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._listening()


class Server:
    """Serves an application on a socket until stopped.

    Args:
        app: the application.
        sock: listens already.
        settings: limits.
        closing: set when the server begins to stop, so that what takes long can end itself.
        on_end: called when the server's thread ends, whatever the reason.
    """

    def __init__(
        self, app: ASGIApp, sock: socket.socket, settings: ApiSettings, closing: Closing, on_end: Callable[[], None]
    ) -> None:
        config = uvicorn.Config(
            app, loop="asyncio", http=_Protocol, ws="none", lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, limit_concurrency=2 * settings.connections + _SPARE,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=round(settings.stop_seconds),
            h11_max_incomplete_event_size=_HEAD_BYTES,
        )  # fmt: skip
        self._listening = threading.Event()
        self._server = _Uvicorn(config, self._listening.set)
        self._sock = sock
        self._closing = closing
        self._on_end = on_end
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)
        self.failure: BaseException | None = None
        """What ended the server, if `stop` did not."""

    def start(self) -> None:
        """Begin to answer; returns once it does."""
        self._thread.start()
        self._listening.wait()

    def stop(self) -> None:
        """Take no more connections, let what runs end in its time, return when all is done."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.close)
        self._server.should_exit = True
        self._thread.join()

    def answers(self, seconds: float) -> bool:
        """Whether the event loop turns: it gets round to a small task in time."""
        if self._loop is None or not self._thread.is_alive():
            return False
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return turned.wait(seconds)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:  # noqa: BLE001 - told to the service's own thread
            self.failure = exc
        finally:
            self._listening.set()
            self._sock.close()
            self._on_end()

    async def _serve(self) -> Any:
        self._loop = asyncio.get_running_loop()
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await self._server.serve(sockets=[self._sock])
        for connection in list(self._server.server_state.connections):  # whose client reads nothing, and got its time
            connection.transport.abort()
        if self._server.server_state.tasks:
            await asyncio.wait(self._server.server_state.tasks, timeout=_CANCELLED_SECONDS)
