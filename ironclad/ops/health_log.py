"""The tables `health` (how each component of each service is) and `health_event` (each change of it).

What changes while the database is away is kept in memory, with its time, and written when it is back: so its own outage
is in the history too. Listeners of `ironclad_health` hear of each change.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ironclad.db import jsonb
from ironclad.ops.health import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import psycopg
    from sqlmodel import Session

    from ironclad.ops.health import Component

CHANNEL: Final = "ironclad_health"
KEEP_DAYS: Final = 90
_MOST_PENDING: Final = 1000
_SETTLED_SECONDS: Final = 300.0
"""After so long a service has reported every component that it has."""

_BEFORE = "SELECT status FROM health WHERE service = %(service)s AND component = %(component)s FOR UPDATE"
_UPSERT = (
    "INSERT INTO health (service, component, status, detail, remedy, since) VALUES (%(service)s, %(component)s, "
    "%(status)s, %(detail)s, %(remedy)s, to_timestamp(%(since)s)) ON CONFLICT (service, component) DO UPDATE SET "
    "status = EXCLUDED.status, detail = EXCLUDED.detail, remedy = EXCLUDED.remedy, since = EXCLUDED.since"
)
_EVENT = (
    "INSERT INTO health_event (at, service, component, from_status, to_status, detail, remedy) VALUES "
    "(to_timestamp(%(since)s), %(service)s, %(component)s, %(before)s, %(status)s, %(detail)s, %(remedy)s)"
)
_FORGET = "DELETE FROM health WHERE service = %(service)s"
_FORGET_OTHERS = f"{_FORGET} AND NOT component = ANY(%(components)s)"


class HealthLog:
    """One service's changes on their way to the tables. Thread-safe.

    Args:
        service: the name of its row in table `worker`.
        monotonic: seconds that never go back.
    """

    def __init__(self, service: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._monotonic = monotonic
        self._began = monotonic()
        self._swept = False
        self._reported: set[str] = set()
        self._lock = threading.Lock()
        self._pending: deque[Component] = deque(maxlen=_MOST_PENDING)

    def note(self, component: Component) -> None:
        """A component changed."""
        with self._lock:
            self._reported.add(jsonb.text(component.name))
            self._pending.append(component)

    def write(self, connection: psycopg.Connection[Any]) -> None:
        """Write what is pending, in its order; what fails stays pending. Raises what psycopg raises."""
        while True:
            with self._lock:
                if not self._pending:
                    break
                component = self._pending[0]
            with connection.transaction():
                self._write(connection, component)
            with self._lock:
                if self._pending and self._pending[0] is component:
                    self._pending.popleft()
        if not self._swept and self._monotonic() - self._began >= _SETTLED_SECONDS:
            self._sweep(connection)

    def _sweep(self, connection: psycopg.Connection[Any]) -> None:
        """Forget what only an earlier process had that was killed: a watch root, say, that was taken out since."""
        with self._lock:
            components = sorted(self._reported)
        connection.execute(_FORGET_OTHERS, {"service": self._service, "components": components})
        self._swept = True

    def forget(self, connection: psycopg.Connection[Any]) -> None:
        """The service stops: nothing of it is current any more. Its history stays."""
        connection.execute(_FORGET, {"service": self._service})

    def _write(self, connection: psycopg.Connection[Any], component: Component) -> None:
        values = {
            "service": self._service, "component": jsonb.text(component.name), "status": component.status.value,
            "detail": jsonb.text(component.detail), "remedy": jsonb.text(component.remedy), "since": component.since,
        }  # fmt: skip
        row = connection.execute(_BEFORE, values).fetchone()
        before = None if row is None else str(row[0])
        connection.execute(_UPSERT, values)
        # A service that starts well is no news.
        if before != component.status.value and not (before is None and component.status is Status.OK):
            connection.execute(_EVENT, {**values, "before": before})


@dataclass(frozen=True, slots=True)
class Change:
    """One change, as `ironclad health --history` shows it."""

    at: datetime
    service: str
    component: str
    from_status: str | None
    to_status: str
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Current:
    """How a component of a service is, on any host."""

    service: str
    component: str
    status: str
    detail: str
    remedy: str
    since: datetime
    silent: bool
    """Whether its service has not reported for half a minute: then nothing of this may be true any more."""


def history(session: Session, limit: int = 100, component: str = "") -> Sequence[Change]:
    """The latest changes, newest first."""
    import sqlalchemy as sa  # noqa: PLC0415 - 20 MB that the supervisor, which only writes, does without

    rows = session.execute(
        sa.text(
            "SELECT at, service, component, from_status, to_status, detail, remedy FROM health_event "
            "WHERE :component = '' OR component = :component ORDER BY id DESC LIMIT :limit"
        ),
        {"limit": limit, "component": component},
    )
    return [Change(*row) for row in rows]


def current(session: Session) -> Sequence[Current]:
    """Every component of every service that reports, on all hosts."""
    import sqlalchemy as sa  # noqa: PLC0415 - likewise

    rows = session.execute(
        sa.text(
            "SELECT h.service, h.component, h.status, h.detail, h.remedy, h.since, "
            "coalesce(w.seen_at < ironclad_now() - interval '30 seconds', true) "
            "FROM health h LEFT JOIN worker w ON w.name = h.service ORDER BY h.service, h.component"
        )
    )
    return [Current(*row) for row in rows]


def prune(session: Session, days: float = KEEP_DAYS) -> int:
    """Delete changes that are older; returns how many."""
    import sqlalchemy as sa  # noqa: PLC0415 - likewise

    return len(
        session.execute(
            sa.text("DELETE FROM health_event WHERE at < ironclad_now() - make_interval(secs => :secs) RETURNING 1"),
            {"secs": days * 86_400},
        ).all()
    )
