"""What happens, as it happens: server-sent events."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from ironclad.access import tokens
from ironclad.api import context as contexts
from ironclad.api.auth import See
from ironclad.api.closing import Closed
from ironclad.api.hub import Listener
from ironclad.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ironclad.api.context import Context

router: Final = APIRouter(tags=["Events"])
HEARTBEAT_SECONDS: Final = 15.0
_SEND_SECONDS: Final = 30.0
_BEGIN: Final = b"retry: 3000\n\n"
_HEARTBEAT: Final = b": here\n\n"
_END: Final = b"event: end\ndata: {}\n\n"


@router.get(
    "/v1/events", summary="Follow what happens", response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events until one of both goes away."}},
)  # fmt: skip
async def follow(request: Request, bearer: See) -> Response:
    """Server-sent events: `job` (its data: id, job, kind, state, stage), `installation`, `reset` and `end`.

    `installation` tells of a pause or a full disk. `reset` comes first, and whenever something may have been missed:
    read the state anew then. A comment line comes every 15 seconds. `end` says that the service stops. A token for own
    songs hears of its user's jobs only.
    """
    context = contexts.of(request)
    listener = Listener(bearer)
    context.hub.join(listener)
    return _Stream(context, listener)


class _Stream(Response):
    media_type = "text/event-stream"

    def __init__(self, context: Context, listener: Listener) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        self._context = context
        self._listener = listener
        self._checked = time.monotonic()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client or the service goes away, or the token is no longer valid."""
        gone = asyncio.ensure_future(_gone(receive))
        work = asyncio.ensure_future(self._work(send))
        try:
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            self._context.hub.leave(self._listener)
            gone.cancel()
            work.cancel()

    async def _work(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await _part(send, _BEGIN)
        while (message := await self._next()) is not None:
            await _part(send, message)
        await send({"type": "http.response.body", "body": b"" if not self._context.closing.begun else _END})

    async def _next(self) -> bytes | None:
        # By the clock and not by the silence: where something always happens there is none.
        if time.monotonic() - self._checked >= HEARTBEAT_SECONDS:
            if not await anyio.to_thread.run_sync(self._still_valid):
                return None
            self._checked = time.monotonic()
        try:
            return await self._context.closing.first(self._listener.next(), HEARTBEAT_SECONDS)
        except Closed:
            return None
        except TimeoutError:
            return _HEARTBEAT

    def _still_valid(self) -> bool:
        try:
            with self._context.database.session() as session:
                return tokens.is_valid(session, self._listener.bearer.token_id)
        except DatabaseUnavailable:
            return True


async def _part(send: Send, body: bytes) -> None:
    """Send, but not for ever to a client that does not read."""
    await asyncio.wait_for(send({"type": "http.response.body", "body": body, "more_body": True}), _SEND_SECONDS)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
