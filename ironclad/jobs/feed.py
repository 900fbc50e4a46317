"""LISTEN: what happens in the database, as it happens; reconnects by itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from ironclad.db import wire

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

EVENT = "ironclad_event"
PROGRESS = "ironclad_progress"
CONNECTED = "connected"
_RECONNECT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification; `channel` is `connected` after every (re)connection: read the state anew then."""

    channel: str
    data: dict[str, Any]


class Feed:
    """Notifications of one database.

    Args:
        dsn: connection string for psycopg.
        channels: what to listen to.
    """

    def __init__(self, dsn: str, channels: tuple[str, ...] = (EVENT,)) -> None:
        self._dsn = dsn
        self._channels = channels

    def _connect(self) -> psycopg.Connection[Any]:
        connection = wire.connect(self._dsn, autocommit=True, connect_timeout=10, application_name="ironclad-feed")
        try:
            for channel in self._channels:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        except BaseException:
            connection.close()
            raise
        return connection

    def listen(self, stopping: threading.Event, *, tick_seconds: float) -> Iterator[Notice | None]:
        """Yield notices until `stopping` is set, and None whenever nothing came for `tick_seconds`.

        A lost connection is made again; a `connected` notice follows, because notices were missed meanwhile.
        """
        while not stopping.is_set():
            try:
                with self._connect() as connection:
                    yield Notice(CONNECTED, {})
                    yield from self._drain(connection, stopping, tick_seconds)
            except psycopg.OperationalError:
                yield None
                stopping.wait(_RECONNECT_SECONDS)

    def _drain(
        self, connection: psycopg.Connection[Any], stopping: threading.Event, tick_seconds: float
    ) -> Iterator[Notice | None]:
        while not stopping.is_set():
            quiet = True
            for notify in connection.notifies(timeout=tick_seconds, stop_after=1):
                quiet = False
                data = _data(notify.payload)
                if data is not None:
                    yield Notice(notify.channel, data)
            if quiet:
                yield None


def _data(payload: str) -> dict[str, Any] | None:
    """A notice's data; None for what somebody else sent on our channel."""
    try:
        data = json.loads(payload)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
