"""Messages that background threads post; the handlers own all state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.errors import IroncladError


class Fetched(Message):
    """An answer for whoever asked: `then(value)` runs in the app's own thread."""

    def __init__(self, then: Callable[[Any], None], value: Any, finished: Callable[[], None]) -> None:
        super().__init__()
        self.then, self.value, self.finished = then, value, finished


class Failed(Message):
    """What was asked for could not be had, or (`deed`) be done."""

    def __init__(self, what: str, error: IroncladError, finished: Callable[[], None], *, deed: bool = False) -> None:
        super().__init__()
        self.what, self.error, self.finished, self.deed = what, error, finished, deed


class Changed(Message):
    """Something happened in the database (many events become one message)."""

    def __init__(self, events: int) -> None:
        super().__init__()
        self.events = events


class Listening(Message):
    """The feed is connected (again), or has lost the database."""

    def __init__(self, *, connected: bool) -> None:
        super().__init__()
        self.connected = connected
