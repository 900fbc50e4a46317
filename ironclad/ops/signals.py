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
    one inside the very event to set). And it runs late, or never, where the main thread was just about to wait when the
    signal came, or the kernel gave the signal to another thread. So the interpreter's wakeup descriptor hears of the
    signal, in whatever thread and at once, and a thread reacts.

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
        self._wakeup_before: int | None = None
        self._thread = threading.Thread(target=self._react, name="stop-signals", daemon=True)

    def install(self) -> None:
        """Take the signals over. Only the main thread may; elsewhere (tests) signals stay as they are."""
        self._thread.start()
        if threading.current_thread() is threading.main_thread():
            self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            for number in STOP_SIGNALS:
                self._before[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._wakeup_before is not None:
            signal.set_wakeup_fd(self._wakeup_before)
        os.write(self._writer, b"\0")
        self._thread.join()
        os.close(self._writer)
        os.close(self._reader)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """Does what the wakeup descriptor does, if somebody else (an event loop) has one of its own meanwhile."""
        taken = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        if taken == self._writer:
            return
        signal.set_wakeup_fd(taken, warn_on_full_buffer=False)
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
                if number not in STOP_SIGNALS:  # somebody else's, of which the descriptor hears too
                    continue
                react = self._again if called else self._first
                called = True
                patience = react(number)
