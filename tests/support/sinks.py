"""Real servers that take notifications, and that fail as they are told to: HTTP, and SMTP by aiosmtpd."""

from __future__ import annotations

import email
import email.policy
import json
import random
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from aiosmtpd.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Received:
    """One call that a sink took in."""

    text: str
    headers: Mapping[str, str]
    told: bool
    """Whether the sink said so; False: it took the message and then failed the call."""
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a sink treats one call."""

    status: int = 200
    keep: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


OK = Answer()


def flaky(rate: float, seed: int = 1, status: int = 503) -> Callable[[], Answer]:
    """Fails so many of the calls, half of them after having taken the message in."""
    chance = random.Random(seed)  # noqa: S311 - not a secret

    def decide() -> Answer:
        if chance.random() >= rate:
            return OK
        return Answer(status, keep=chance.random() < 0.5)

    return decide


class _Sink:
    def __init__(self, decide: Callable[[], Answer] | None = None) -> None:
        self.decide = decide or (lambda: OK)
        self.received: list[Received] = []
        self.calls = 0
        self.changed = threading.Condition()

    def take(self, text: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        with self.changed:
            self.calls += 1
            answer = self.decide()
            if answer.keep:
                self.received.append(Received(text, headers, answer.status < 400, body))
            self.changed.notify_all()
        return answer

    def wait(self, count: int, seconds: float = 60.0) -> bool:
        """Until so many messages were taken in."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.received) >= count, seconds)


class HttpSink(_Sink):
    """An HTTP server on a free port of the loopback interface."""

    def __enter__(self) -> Self:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = sink.take(body.decode("utf-8", "replace"), dict(self.headers), body)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_arguments: object) -> None:
                """A client that was killed is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)

    @property
    def json_url(self) -> str:
        """For Apprise."""
        return f"json://127.0.0.1:{self.port}/"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


class _Listening(Controller):
    """Serves a socket that listens already: between a look for a free port and its use, another process may take it."""

    def __init__(self, handler: Any, listener: socket.socket) -> None:
        # A machine may be too busy to start a thread within aiosmtpd's five seconds.
        super().__init__(handler, hostname="127.0.0.1", port=int(listener.getsockname()[1]), ready_timeout=60.0)
        self._listener = listener

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._listener)


class MailSink(_Sink):
    """An SMTP server on a free port of the loopback interface."""

    def __enter__(self) -> Self:
        sink = self

        class Handler:
            async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
                message = email.message_from_bytes(envelope.content, policy=email.policy.default)
                part = message.get_body(preferencelist=("plain", "html"))
                text = part.get_content() if part is not None else ""
                answer = sink.take(f"{message['Subject']}\n{text}", dict(message.items()), envelope.content)
                return "250 OK" if answer.status < 400 else f"{answer.status} no"

        self._controller = _Listening(Handler(), socket.create_server(("127.0.0.1", 0)))
        self._controller.start()
        self.port = self._controller.port
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    @property
    def mail_url(self) -> str:
        """For Apprise."""
        return f"mailto://127.0.0.1:{self.port}/?from=ironclad@example.org&to=ops@example.org&mode=insecure"
