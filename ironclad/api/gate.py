"""Around every request: who may ask (Host), how many at a time, how long it took, and what nobody foresaw."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from ironclad import log
from ironclad.api import problems
from ironclad.config import is_loopback
from ironclad.errors import HostRefused, TooBusy, Unexpected

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ironclad.api.context import Context

_NOWHERE: Final = "none"
_HEADERS: Final = (
    (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)  # fmt: skip
_ERRORS: Final = 400
_KEPT: Final = frozenset({b"content-range", b"allow"})
_CUT: Final = 499
"""How a request counts whose client went away before the answer; the number is common among servers."""


class Gate:
    """The outermost layer of the application.

    Args:
        app: what is inside.
        context: the service.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context
        self._limit = context.settings.api.connections
        self._names = tuple(name.lower() for name in context.settings.api.allowed_hosts)
        self._running = 0
        self._log = log.get(component="api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        began = time.monotonic()
        answer = _Answer(send)
        self._running += 1
        try:
            await self._within(scope, receive, answer)
        finally:
            self._running -= 1
            self._count(scope, answer.status, time.monotonic() - began)

    async def _within(self, scope: Scope, receive: Receive, send: _Answer) -> None:
        host = _host(scope)
        if not (is_loopback(host) or any(fnmatch.fnmatchcase(host, name) for name in self._names)):
            await problems.response(HostRefused(), status=421)(scope, receive, send)
        elif self._running > self._limit:
            await problems.response(TooBusy())(scope, receive, send)
        else:
            try:
                await self._app(scope, _noting_the_end(scope, receive), send)
            except ClientDisconnect:
                return
            except asyncio.CancelledError:
                if not self._context.closing.begun:
                    raise  # else its time is over, as the operator wishes
            except Exception as exc:  # noqa: BLE001 - the border to the client, who learns the kind of it only
                self._log.exception("request_crashed", route=_route(scope))
                if send.status == _CUT:
                    await problems.response(Unexpected(type(exc).__name__))(scope, receive, send)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route(scope), str(scope["method"])
        if route == _NOWHERE:
            method = _NOWHERE  # whoever asks for nonsense makes no new series
        metrics = self._context.metrics
        metrics.counter("ironclad_api_requests_total").labels(method, route, str(status)).inc()
        metrics.histogram("ironclad_api_request_duration_seconds").labels(method, route).observe(seconds)
        who = scope.get("state", {}).get("actor")
        client = (scope.get("client") or ("",))[0]
        self._log.info(
            "request", method=method, route=route, path=scope["path"][:200], status=status, seconds=round(seconds, 4),
            actor=who, client=client,
        )  # fmt: skip


class _Answer:
    """Sends on what the application answers, with headers of every answer, and remembers its status.

    Errors that parts of the framework tell as plain text (a range that cannot be) become problems.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._instead: Response | None = None
        self.status = _CUT

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            message["headers"] = list(message["headers"])
            given = {name.lower(): value for name, value in message["headers"]}
            if self.status >= _ERRORS and given.get(b"content-type", b"").startswith(b"text/plain"):
                kept = {k.decode(): v.decode("latin-1") for k, v in given.items() if k in _KEPT}
                self._instead = problems.of_status(self.status, kept)
                message["headers"] = list(self._instead.raw_headers)
                given = dict(message["headers"])
            message["headers"] += [one for one in _HEADERS if one[0] not in given]
        elif self._instead is not None:
            if message.get("more_body"):
                return
            message = {"type": "http.response.body", "body": self._instead.body}
        await self._send(message)


def _noting_the_end(scope: Scope, receive: Receive) -> Receive:
    """`receive`, and a note in the scope once the whole body has come."""

    async def noted() -> Message:
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            scope[problems.BODY_READ] = True
        return message

    return noted


def _host(scope: Scope) -> str:
    """The name that the client asks for, without port; empty if it says none."""
    found = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    name, _, port = found.rpartition(":")
    return name if name and port.isdecimal() and not name.endswith(":") else found


def _route(scope: Scope) -> str:
    """The template of the path, so that there are only so many."""
    return str(getattr(scope.get("route"), "path", _NOWHERE))
