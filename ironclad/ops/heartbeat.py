"""The service's row in table `worker`, kept fresh: what the TUI, doctor and other hosts know of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ironclad.db.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.config import Settings
    from ironclad.ops.health_log import HealthLog

BEAT_SECONDS: Final = 5.0
_RETRY_SECONDS = 2.0
_CONNECT_SECONDS = 3

_UPSERT = (
    "INSERT INTO worker (name, kind, host, pid, pool, data) VALUES (%(name)s, %(kind)s, %(host)s, %(pid)s, %(pool)s, "
    "%(data)s::jsonb) ON CONFLICT (name) DO UPDATE SET kind = EXCLUDED.kind, host = EXCLUDED.host, "
    "started_at = CASE WHEN worker.pid = EXCLUDED.pid THEN worker.started_at ELSE ironclad_now() END, "
    "pid = EXCLUDED.pid, pool = EXCLUDED.pool, seen_at = ironclad_now(), data = worker.data || EXCLUDED.data"
)
_DELETE = "DELETE FROM worker WHERE name = %(name)s AND pid = %(pid)s"


def libpq_url(settings: Settings) -> str:
    """The database of the settings as libpq spells it; starts nothing."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    else:
        url = EmbeddedServer(settings.layout.postgres).url()
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def row_name(service: str, settings: Settings) -> str:
    """The row's name: unique by service, host and data folder, the same after a restart."""
    folder = hashlib.sha256(os.fsencode(settings.layout.root)).hexdigest()[:6]
    return f"{service}@{socket.gethostname()}/{folder}"


@dataclass(frozen=True, slots=True)
class Row:
    """What is written."""

    name: str
    kind: str
    pool: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """For the statements above."""
        return {
            "name": self.name, "kind": self.kind, "host": socket.gethostname(), "pid": os.getpid(), "pool": self.pool,
            "data": json.dumps(dict(self.data), default=str),
        }  # fmt: skip


class Heartbeat:
    """Writes the row at start, every `seconds` (sooner while the database is away); removes it at a clean stop.

    It connects for each beat: a connection held for ever would cost the server a process for one statement now and
    then.

    Args:
        url: libpq connection URL.
        row: the row, asked for at each beat.
        outcome: told None after a beat that worked, else what went wrong.
        changes: what is written with each beat, and forgotten at a clean stop.
        seconds: between beats.
    """

    def __init__(
        self, url: str, row: Callable[[], Row], outcome: Callable[[str | None], None],
        changes: HealthLog | None = None, *, seconds: float = BEAT_SECONDS,
    ) -> None:  # fmt: skip
        self._url = url
        self._row = row
        self._outcome = outcome
        self._changes = changes
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End and remove the row, within a few seconds."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_CONNECT_SECONDS)
        self._execute(_DELETE)

    def _beat_on(self) -> None:
        while True:
            problem = self._execute(_UPSERT)
            self._outcome(problem)
            if self._stop.wait(self._seconds if problem is None else min(_RETRY_SECONDS, self._seconds)):
                return

    def _execute(self, statement: str) -> str | None:
        import psycopg  # noqa: PLC0415 - services without a database of their own stay light until the first beat

        from ironclad.db import wire  # noqa: PLC0415

        try:
            with wire.connect(
                self._url, connect_timeout=_CONNECT_SECONDS, application_name="ironclad-heartbeat", autocommit=True,
                options="-c statement_timeout=3000",
            ) as connection:  # fmt: skip
                connection.execute(statement, self._row().parameters())
                if self._changes is not None:
                    if statement is _DELETE:
                        self._changes.forget(connection)
                    else:
                        self._changes.write(connection)
        except psycopg.Error as exc:
            return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        return None
