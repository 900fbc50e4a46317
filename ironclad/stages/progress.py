"""Telling how far a stage is, without ever waiting for the database."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final, Self

from ironclad.errors import DatabaseUnavailable, LeaseLost
from ironclad.jobs import history

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ironclad.db.session import Database
    from ironclad.jobs.lease import Fence

_EVERY_SECONDS: Final = 0.5
_LEAVE_SECONDS: Final = 5.0


class ProgressWriter:
    """A thread that writes the newest progress of an attempt's stage, twice a second at most.

    A connection whose other end is gone without a word takes half a minute to notice it, and an attempt that waited for
    that could not stop itself in time. So it is this thread that waits; of what was said meanwhile, the newest counts.

    Args:
        database: where to write it.
        fence: of the attempt.
        lost: called once, from this thread, if the database says that the lease is gone.
    """

    def __init__(self, database: Database, fence: Fence, lost: Callable[[LeaseLost], None]) -> None:
        self._database = database
        self._fence = fence
        self._lost = lost
        self._newest: tuple[str, float, str | None] | None = None
        self._said = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._said.set()
        self._thread.join(timeout=_LEAVE_SECONDS)

    def say(self, stage: str, fraction: float, message: str | None) -> None:
        """A stage is so far (0..1). Returns at once."""
        self._newest = stage, fraction, message
        self._said.set()

    def _keep_writing(self) -> None:
        while True:
            self._said.wait()
            if self._stopping.is_set():
                return
            self._said.clear()  # before it is read: what is said from now on is written next time
            try:
                self._write()
            except LeaseLost as exc:
                self._lost(exc)
                return
            if self._stopping.wait(_EVERY_SECONDS):
                return

    def _write(self) -> None:
        newest = self._newest
        assert newest is not None  # noqa: S101 - it is set before the event is
        with contextlib.suppress(DatabaseUnavailable), self._database.session() as session:
            history.stage_progress(session, self._fence, *newest)
