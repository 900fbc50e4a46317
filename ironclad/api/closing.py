"""How what runs for long in the event loop hears that the service stops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

_T = TypeVar("_T")


class Closed(Exception):
    """The service stops."""


class Closing:
    """Said once, in the event loop; heard by everybody who waits by `first`."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def close(self) -> None:
        """The service stops. Call it in the event loop."""
        self._event.set()

    @property
    def begun(self) -> bool:
        """Whether the service stops."""
        return self._event.is_set()

    async def first(self, wanted: Awaitable[_T], seconds: float) -> _T:
        """What is wanted, unless the service stops before (`Closed`) or it takes too long (`TimeoutError`)."""
        wish = asyncio.ensure_future(wanted)
        stop = asyncio.ensure_future(self._event.wait())
        try:
            done, _ = await asyncio.wait({wish, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if wish in done:
                return wish.result()
            if stop in done:
                raise Closed
            raise TimeoutError
        finally:
            stop.cancel()
            wish.cancel()
