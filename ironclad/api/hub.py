"""From the database's notifications to the clients that listen: one connection, however many they are."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import sqlalchemy as sa

from ironclad import log
from ironclad.errors import DatabaseUnavailable, TooBusy
from ironclad.jobs.feed import CONNECTED, EVENT, Feed

if TYPE_CHECKING:
    from ironclad.access.tokens import Bearer
    from ironclad.db.session import Database
    from ironclad.ops.metrics import Metrics

_TICK_SECONDS: Final = 5.0
_BEHIND: Final = 1000
_REMEMBERED: Final = 10_000
RESET: Final = b"event: reset\ndata: {}\n\n"
"""Something may have been missed: read the state anew."""


class Listener:
    """One client. `next` gives what to send, None once it has fallen too far behind.

    Args:
        bearer: whose events it may hear.
    """

    def __init__(self, bearer: Bearer) -> None:
        self.bearer = bearer
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def next(self) -> bytes | None:
        """Wait for what comes next."""
        return await self._queue.get()

    def put(self, message: bytes) -> None:
        """Have it sent; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._put, message)
        except RuntimeError:  # the loop has ended, and with it the client
            return

    def _put(self, message: bytes) -> None:
        if self._queue.qsize() < _BEHIND:
            self._queue.put_nowait(message)
        elif self._queue.qsize() == _BEHIND:
            self._queue.put_nowait(None)


class Hub:
    """Hands every notification to every listener that may hear it.

    Args:
        database: whose notifications.
        limit: listeners at a time.
        metrics: of the service.
    """

    def __init__(self, database: Database, limit: int, metrics: Metrics) -> None:
        self._database = database
        self._limit = limit
        self._gauge = metrics.gauge("ironclad_api_listeners")
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._connected = False
        self._users: OrderedDict[UUID, str] = OrderedDict()

    def start(self, stopping: threading.Event) -> None:
        """Listen in a thread of its own until `stopping`; a lost connection is made again."""
        threading.Thread(target=self._run, args=(stopping,), name="hub", daemon=True).start()

    def join(self, listener: Listener) -> None:
        """One more listener. Raises `TooBusy`."""
        with self._lock:
            if len(self._listeners) >= self._limit:
                raise TooBusy(f"{self._limit} clients listen already.")
            self._listeners.append(listener)
            self._gauge.set(len(self._listeners))
            connected = self._connected
        if connected:  # else it is told when there is something to hear
            listener.put(RESET)

    def leave(self, listener: Listener) -> None:
        """One fewer; doing so twice is fine."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
            self._gauge.set(len(self._listeners))

    def _run(self, stopping: threading.Event) -> None:
        for notice in Feed(self._database.dsn, (EVENT,)).listen(stopping, tick_seconds=_TICK_SECONDS):
            if notice is None:
                continue
            with self._lock:
                listeners = list(self._listeners)
                self._connected = True
            try:
                self._tell(listeners, notice.channel, notice.data)
            except Exception:  # noqa: BLE001 - what somebody else sends on our channel must not end it for everybody
                log.get(component="api").exception("notice_not_told")

    def _tell(self, listeners: list[Listener], channel: str, data: dict[str, Any]) -> None:
        if channel == CONNECTED:
            for listener in listeners:
                listener.put(RESET)
            return
        kind = "job" if "job" in data else "installation"
        number = f"id: {int(data['id'])}\n" if "id" in data else ""
        message = f"event: {kind}\n{number}data: {json.dumps(data)}\n\n".encode()
        user, unknown = None, False
        if kind == "job" and not all(listener.bearer.everybody for listener in listeners):
            try:
                user = self._user(UUID(str(data["job"])))
            except DatabaseUnavailable:  # it may be theirs: let them look
                unknown = True
        for listener in listeners:
            if listener.bearer.everybody or (user is not None and listener.bearer.sees(user)):
                listener.put(message)
            elif unknown:
                listener.put(RESET)

    def _user(self, job: UUID) -> str | None:
        """Whose job it is; None if there is no such job (any more). Raises `DatabaseUnavailable`."""
        if job not in self._users:
            with self._database.session() as session:
                found = session.scalar(sa.text("SELECT user_id FROM job WHERE job_uuid = :job"), {"job": job})
            if found is None:
                return None
            self._users[job] = str(found)
            if len(self._users) > _REMEMBERED:
                self._users.popitem(last=False)
        return self._users[job]
