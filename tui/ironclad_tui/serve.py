"""The cockpit in a browser: textual-serve runs `ironclad tui` for each visitor. Loopback only without a token."""

from __future__ import annotations

import hmac
import ipaddress
import shlex
import sys
from typing import TYPE_CHECKING, Final

from aiohttp import web
from textual_serve.server import Server

from ironclad.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ironclad.cli.options import GlobalOptions

_COOKIE: Final = "ironclad-token"
_DEFAULT_HOST: Final = "127.0.0.1"
_DEFAULT_PORT: Final = 9660
_LEAST_TOKEN: Final = 16
_PORTS: Final = 65_535
_POLICY: Final = "style-src 'self' 'unsafe-inline'; font-src 'self' data:; frame-ancestors 'none'"


def address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `HOST`, `:PORT` or nothing. Raises `BadRequest`."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    host = host.strip("[]") or _DEFAULT_HOST
    if port and (not port.isdecimal() or int(port) > _PORTS):
        raise BadRequest(f"{text!r} is no HOST:PORT.")
    return host, int(port) if port else _DEFAULT_PORT


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(host: str, token: str | None) -> None:
    """Refuse to open the cockpit to others without a token. Raises `BadRequest`."""
    if token is not None and len(token) < _LEAST_TOKEN:
        raise BadRequest(f"The token has fewer than {_LEAST_TOKEN} characters.")
    if token is None and not is_loopback(host):
        raise BadRequest(f"{host} can be reached from other machines: set a token with --token or IRONCLAD_TUI_TOKEN.")


def command(given: GlobalOptions, *, read_only: bool) -> str:
    """What each visitor gets: this very program, with the same options."""
    parts = [sys.executable, "-m", "ironclad.cli.main"]
    if given.data_dir is not None:
        parts += ["--data-dir", str(given.data_dir.absolute())]
    if given.config is not None:
        parts += ["--config", str(given.config.absolute())]
    parts.append("tui")
    if read_only:
        parts.append("--read-only")
    return shlex.join(parts)


class TokenServer(Server):
    """textual-serve that lets in only who knows the token (`/?token=…` once; a cookie keeps it), and only own pages.

    A page of another site must not open our websocket: the origin is checked, token or not.
    """

    def __init__(self, command: str, host: str, port: int, token: str | None) -> None:
        super().__init__(command, host=f"[{host}]" if ":" in host else host, port=port, title="Ironclad")
        self.host = host
        self._token = token

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(_keep_to_ourselves)
        return app

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise web.HTTPForbidden(text="This page belongs to another site.\n")
        if self._token is None:
            if not is_loopback(request.url.host or ""):  # a name that somebody pointed at this machine
                raise web.HTTPForbidden(text="Open it as localhost.\n")
            return await handler(request)
        if self._known(request.query.get("token")):
            answer = web.HTTPFound("/")
            answer.set_cookie(_COOKIE, self._token, httponly=True, samesite="Strict")
            raise answer
        if self._known(request.cookies.get(_COOKIE)):
            return await handler(request)
        raise web.HTTPUnauthorized(text="Open the address with ?token=…\n")

    def _known(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), (self._token or "").encode())


async def _keep_to_ourselves(_request: web.Request, response: web.StreamResponse) -> None:
    """textual-serve's page asks a font of another company's server: nobody else needs to know who looks at this."""
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"


def serve(text: str, token: str | None, given: GlobalOptions, *, read_only: bool) -> None:
    """Serve until Ctrl-C. Raises `BadRequest`."""
    host, port = address(text)
    check(host, token)
    TokenServer(command(given, read_only=read_only), host, port, token).serve()
