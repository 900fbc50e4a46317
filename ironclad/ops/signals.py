"""SIGTERM, SIGINT and SIGHUP as requests to stop: the first is graceful, the second is at once."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Turns the signals into calls, in a thread of its own.

    A handler runs between any two steps of the main thread, which may hold a lock that the reaction needs (such as the
    one inside the very event to set). So the handler only writes a byte, and a thread reacts.

    Args:
        first: called at the first signal, with its number.
        again: called at each later one; usually does not return.
        overdue: called if `first` or `again` returned a number of seconds and they passed without another signal.
    """

    def __init__(
        self, first: Callable[[int], float | None], again: Callable[[int], float | None], overdue: Callable[[], None]
    ) -> None:
        self._first = first
        self._again = again
        self._overdue = overdue
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before: dict[signal.Signals, Any] = {}
        self._thread = threading.Thread(target=self._react, name="stop-signals", daemon=True)

    def install(self) -> None:
        """Take the signals over. Only the main thread may; elsewhere (tests) signals stay as they are."""
        self._thread.start()
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._before[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.write(self._writer, b"\0")
        self._thread.join()
        os.close(self._writer)
        os.close(self._reader)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        try:
            os.write(self._writer, bytes([number]))
        except OSError:  # a full pipe holds thousands of requests to stop already
            return

    def _react(self) -> None:
        patience: float | None = None
        called = False
        while True:
            ready, _, _ = select.select([self._reader], [], [], patience)
            if not ready:
                self._overdue()
                patience = None
                continue
            for number in os.read(self._reader, 16):
                if number == 0:
                    return
                react = self._again if called else self._first
                called = True
                patience = react(number)
