"""The HTTP endpoint of a service: GET and HEAD on a few paths, bounded in size, time and number of clients."""

from __future__ import annotations

import errno
import io
import os
import selectors
import socket
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

from ironclad.errors import PortInUse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_REQUEST_BYTES = 8192
_REQUEST_SECONDS = 5.0
_CLIENTS = 8
_NOT_OURS = frozenset({
    errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,  # a unit without a network, whose socket unit could not have the port
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """What a path answers."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Endpoint:
    """Answers `paths` in threads of its own until closed.

    Args:
        host: address to listen on.
        port: port, 0 for a free one.
        paths: what to call for each path; the query string is not part of a path.
        seconds: how long a client may take to send its request, and to read the reply.
        listening: a socket that listens already (`ironclad.ops.inherited`), instead of one at `host` and `port`.

    Raises `PortInUse` when the port is taken.
    """

    def __init__(
        self, host: str, port: int, paths: Mapping[str, Callable[[], Reply]], *, seconds: float = _REQUEST_SECONDS,
        listening: socket.socket | None = None,
    ) -> None:  # fmt: skip
        try:
            self._server = _Server(host, port, paths, seconds, listening)
        except OSError as exc:
            if exc.errno in _NOT_OURS:
                raise PortInUse(f"{host}:{port}: {exc.strerror}", port=port) from exc
            raise
        self.host = host if listening is None else str(self._server.server_address[0])
        self.port = int(self._server.server_address[1])
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="endpoint", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Requests under way may finish within their time limit."""
        os.write(self._waker, b"x")
        self._thread.join()
        self._server.server_close()
        os.close(self._wake)
        os.close(self._waker)

    def _serve(self) -> None:
        # Not serve_forever(): that one wakes up twice a second just to see whether it shall end.
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                if any(key.fd == self._wake for key, _ in selector.select()):
                    return
                self._server.handle_request()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    timeout = 0  # it is only called when a client waits

    def __init__(
        self, host: str, port: int, paths: Mapping[str, Callable[[], Reply]], seconds: float,
        listening: socket.socket | None,
    ) -> None:  # fmt: skip
        self.paths = paths
        self.seconds = seconds
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._slots = threading.BoundedSemaphore(_CLIENTS)
        if listening is None:
            super().__init__((host, port), _Handler)
            return
        # TCPServer would make a socket first, which a service without a network may not.
        BaseServer.__init__(self, listening.getsockname(), _Handler)
        self.socket = listening

    def server_bind(self) -> None:
        # Without HTTPServer's look-up of the host's full name, which may ask a name server.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started, and none gives the slot back
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "ironclad"
    sys_version = ""

    def handle(self) -> None:
        """Read the whole head first, bounded in bytes and in total time, then let the base class parse it."""
        head = _read_head(self.connection, self.server.seconds)
        if head is None:
            return
        self.rfile = io.BytesIO(head)
        self.connection.settimeout(self.server.seconds)
        self.handle_one_request()

    def do_GET(self) -> None:
        """Answer with a body."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without one."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        call = self.server.paths.get(self.path.partition("?")[0])
        if call is None:
            reply = Reply(HTTPStatus.NOT_FOUND, b'{"error": "no such path"}\n')
        else:
            try:
                reply = call()
            except Exception as exc:  # noqa: BLE001 - the border to the client; what happened is in the answer
                reply = Reply(HTTPStatus.INTERNAL_SERVER_ERROR, f'{{"error": "{type(exc).__name__}"}}\n'.encode())
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if body:
            self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Requests are not logged: they come every few seconds for ever."""


def _read_head(connection: socket.socket, seconds: float) -> bytes | None:
    """Everything up to the empty line; None for a client that sends too much, too slowly or nothing."""
    deadline = time.monotonic() + seconds
    head = b""
    while b"\r\n\r\n" not in head:
        left = deadline - time.monotonic()
        if left <= 0 or len(head) > _REQUEST_BYTES:
            return None
        connection.settimeout(left)
        try:
            data = connection.recv(_REQUEST_BYTES)
        except OSError:
            return None
        if not data:
            return None
        head += data
    return head
