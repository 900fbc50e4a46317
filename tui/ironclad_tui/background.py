"""Slow work away from the screen: a few threads that ask the source and post what they get."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ironclad.errors import IroncladError, Unexpected
from ironclad_tui.messages import Changed, Failed, Fetched, Listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.app import App
    from textual.message import Message

    from ironclad.jobs.feed import Notice

    T = TypeVar("T")

_THREADS: Final = 3
_BURST_SECONDS: Final = 0.25
"""However many events there are, the screens hear of them four times a second."""


def _post(app: App[Any], message: Message) -> None:
    """Post from a thread; an app that has ended meanwhile wants no message."""
    with contextlib.suppress(RuntimeError):  # its event loop is closed
        app.post_message(message)


class Background:
    """Runs calls in daemon threads, so that a database that hangs never keeps the cockpit from ending.

    Args:
        app: gets the messages.
    """

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"fetch-{index}", daemon=True) for index in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while (call := self._todo.get()) is not None:
            call()

    def close(self, seconds: float) -> None:
        """End the threads after what was asked for, and wait so long at most: for who closes the database after."""
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join(seconds)

    def run(
        self, what: str, call: Callable[[], T], then: Callable[[T], None], finished: Callable[[], None], *,
        deed: bool = False,
    ) -> None:  # fmt: skip
        """Make the call in a thread; `then` gets its value in the app's thread, and `finished` follows in any case.

        `deed`: it changes something, and nobody will ask for it again.
        """

        def work() -> None:
            try:
                value = call()
            except IroncladError as exc:
                _post(self._app, Failed(what, exc, finished, deed=deed))
            except Exception as exc:  # noqa: BLE001 - shown as a toast, the cockpit stays
                unforeseen = Unexpected(f"{type(exc).__name__}: {exc}")
                _post(self._app, Failed(what, unforeseen, finished, deed=deed))
            else:
                _post(self._app, Fetched(then, value, finished))

        self._todo.put(work)


class Asker:
    """One asker's questions: each at most once at a time; asked again meanwhile, it is asked once more after.

    So a thousand events a second cost one query after the other, never a queue of them.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self._busy: dict[str, tuple[Callable[[], Any], Callable[[Any], None]] | None] = {}

    def ask(self, what: str, call: Callable[[], T], then: Callable[[T], None]) -> None:
        """Ask; `then` gets the answer."""
        if what in self._busy:
            self._busy[what] = (call, then)
            return
        self._busy[what] = None
        self._background.run(what, call, then, lambda: self._finished(what))

    def _finished(self, what: str) -> None:
        again = self._busy.pop(what)
        if again is not None:
            self.ask(what, *again)

    @property
    def idle(self) -> bool:
        """Whether no answer is awaited."""
        return not self._busy


class Doer:
    """What is to be done, in lines: in a line one after the other, in their order, and none is left out.

    Two questions for the same are one, but two actions are two: the second job that is held is not the first.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self._lines: dict[str, deque[tuple[Callable[[], Any], Callable[[Any], None]]]] = {}

    def do(self, line: str, call: Callable[[], T], then: Callable[[T], None]) -> None:
        """Have it done after what waits in this line; `then` gets what came of it."""
        waiting = self._lines.setdefault(line, deque())
        waiting.append((call, then))
        if len(waiting) == 1:
            self._begin(line)

    def _begin(self, line: str) -> None:
        call, then = self._lines[line][0]
        self._background.run(line, call, then, lambda: self._finished(line), deed=True)

    def _finished(self, line: str) -> None:
        self._lines[line].popleft()
        if self._lines[line]:
            self._begin(line)
        else:
            del self._lines[line]

    @property
    def idle(self) -> bool:
        """Whether everything is done."""
        return not self._lines


class Listener:
    """Turns the database's notifications into a few messages.

    Args:
        app: gets `Changed` and `Listening`.
        listen: yields notices until the event is set (`Feed.listen`).
    """

    def __init__(
        self, app: App[Any], listen: Callable[[threading.Event], Iterable[Notice | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._app = app
        self._listen = listen
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="feed", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def _work(self) -> None:
        events, told = 0, float("-inf")
        for notice in self._listen(self._stopping):
            if notice is not None:
                if notice.channel == "connected":
                    _post(self._app, Listening(connected=True))
                events += 1
            now = self._clock()
            if events and now - told >= _BURST_SECONDS:
                _post(self._app, Changed(events))
                events, told = 0, now
