"""Errors on the wire: `application/problem+json` (RFC 9457) with the catalogue's code and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from ironclad.errors import (
    BadRequest,
    DiskFull,
    EngineMissing,
    ErrorKind,
    Forbidden,
    IroncladError,
    ModelMissing,
    NotFound,
    RangeOutside,
    RequestTimeout,
    TooLarge,
    Unauthorised,
    Unexpected,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"
TYPE: Final = "urn:ironclad:error:"
"""Begins a problem's type; its code follows."""
RETRY_SECONDS: Final = 5
BODY_READ: Final = "ironclad.body_read"
"""A key in the scope of a request whose body has been read to its end."""
_DRAIN_SECONDS: Final = 1.0
CHALLENGE: Final = 'Bearer realm="ironclad"'

_BY_CLASS: Final[tuple[tuple[type[IroncladError], HTTPStatus], ...]] = (
    (Unauthorised, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (RangeOutside, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
    (RequestTimeout, HTTPStatus.REQUEST_TIMEOUT),
    (DiskFull, HTTPStatus.INSUFFICIENT_STORAGE),
    (EngineMissing, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ModelMissing, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFound, HTTPStatus.NOT_FOUND),
    (BadRequest, HTTPStatus.BAD_REQUEST),
)
_BY_KIND: Final[Mapping[ErrorKind, HTTPStatus]] = {
    ErrorKind.INPUT: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorKind.CONFIG: HTTPStatus.CONFLICT,
    ErrorKind.RESOURCE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKind.DEPENDENCY: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKind.WORKER: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKind.ENGINE: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorKind.CONTROL: HTTPStatus.CONFLICT,
    ErrorKind.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: IroncladError) -> HTTPStatus:
    """The status code of an error."""
    found = next((status for entry, status in _BY_CLASS if isinstance(error, entry)), None)
    return found or _BY_KIND[error.kind]


def response(error: IroncladError, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells an error.

    Args:
        error: it; what it says is meant for operators and users, and holds no secret.
        status: instead of the error's own.
        headers: more of them.
    """
    code = status or status_of(error)
    body: dict[str, Any] = {
        "type": f"{TYPE}{error.code}", "title": error.what(), "status": int(code), "detail": error.detail,
        "code": error.code, "hint": error.hint, "retryable": error.retryable,
    }  # fmt: skip
    more = dict(headers or {})
    if code == HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = CHALLENGE
    if code in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE}:
        more.setdefault("Retry-After", str(RETRY_SECONDS))
    return Response(json.dumps(body).encode(), int(code), more, MEDIA_TYPE)


async def known(request: Request, exc: Exception) -> Response:
    """The handler of catalogue errors."""
    return await _told(request, response(exc if isinstance(exc, IroncladError) else Unexpected(type(exc).__name__)))


async def invalid(request: Request, exc: Exception) -> Response:
    """The handler of requests that are not as the endpoint needs them; never repeats what was sent."""
    found: list[dict[str, Any]] = getattr(exc, "errors", list)()
    said = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in found)
    return await _told(request, response(BadRequest(said)))


async def plain(request: Request, exc: Exception) -> Response:
    """The handler of what the framework itself refuses: no such path, no such method."""
    status = int(getattr(exc, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR))
    return await _told(request, of_status(status, getattr(exc, "headers", None)))


def of_status(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """The problem that stands for a bare status code."""
    match status:
        case HTTPStatus.NOT_FOUND:
            error: IroncladError = NotFound("There is no such path; /v1/openapi.json lists them.")
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            error = RangeOutside()
        case _:
            error = BadRequest(HTTPStatus(status).phrase)
    return response(error, status=status, headers=headers)


async def _told(request: Request, answer: Response) -> Response:
    """The answer to a request whose body may not have been read.

    The connection ends with it, for nobody wants to read the rest. A client that is in the middle of sending would be
    reset before it could read the answer; so a little of what it sends is taken in and thrown away.
    """
    headers = request.headers
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if has_body and BODY_READ not in request.scope:
        answer.headers["Connection"] = "close"
        if "expect" not in headers:  # who asks first whether to send the body has not sent it
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    while BODY_READ not in request.scope and (await request.receive())["type"] == "http.request":
                        pass
    return answer
