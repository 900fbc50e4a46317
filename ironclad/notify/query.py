"""What the command line, the cockpit and metrics show of notifications. Read only; rows as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ironclad.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlmodel import Session

_UUID_PART = 4


@dataclass(frozen=True, slots=True)
class ChannelView:
    """How a channel does."""

    name: str
    waiting: int
    dead: int
    failures: int
    """In a row."""
    sent_at: datetime | None
    problem: str | None
    blocked_until: datetime | None


@dataclass(frozen=True, slots=True)
class Overview:
    """Notifications at a glance."""

    unrouted: int
    """Events of the outbox that the notifier has not seen."""
    pending: int
    """Events that wait for their group's time, the end of a silence, or of what holds them back."""
    waiting: int
    """Messages that wait for their channel."""
    dead: int
    firing: int
    silences: int
    oldest_seconds: float
    """Age of the oldest event or message that waits to be sent; what is muted does not count."""
    channels: tuple[ChannelView, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertView:
    """An alert."""

    key: str
    kind: str
    status: str
    severity: str
    since: datetime
    changed_at: datetime
    labels: dict[str, str]
    data: dict[str, Any]
    acked_at: datetime | None
    acked_by: str | None

    @property
    def name(self) -> str:
        """What it is about, for people."""
        return str(self.data.get("name") or self.key)


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message."""

    message_uuid: UUID
    channel: str
    state: str
    severity: str
    title: str
    text: str
    events: int
    made_at: datetime
    attempt: int
    settled_at: datetime | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class SilenceView:
    """A silence."""

    id: int
    matchers: dict[str, str]
    comment: str
    created_by: str
    created_at: datetime
    ends_at: datetime


_OVERVIEW = sa.text(
    "SELECT (SELECT count(*) FROM notice WHERE routed_at IS NULL) AS unrouted, "
    "(SELECT count(*) FROM notification WHERE state = 'pending') AS pending, "
    "(SELECT count(*) FROM message WHERE state IN ('pending', 'sending')) AS waiting, "
    "(SELECT count(*) FROM message WHERE state = 'dead') AS dead, "
    "(SELECT count(*) FROM alert WHERE status = 'firing') AS firing, "
    "(SELECT count(*) FROM silence WHERE ends_at > ironclad_now()) AS silences, "
    "coalesce(extract(epoch FROM ironclad_now() - least("
    "(SELECT min(at) FROM notice WHERE routed_at IS NULL), "
    "(SELECT min(made_at) FROM message WHERE state IN ('pending', 'sending'))))::float, 0) AS oldest"
)
_CHANNELS = sa.text(
    "SELECT coalesce(c.name, m.channel) AS name, coalesce(m.waiting, 0) AS waiting, coalesce(m.dead, 0) AS dead, "
    "coalesce(c.failures, 0) AS failures, c.sent_at, c.problem, c.blocked_until FROM notify_channel c FULL JOIN ("
    "SELECT channel, count(*) FILTER (WHERE state <> 'dead') AS waiting, "
    "count(*) FILTER (WHERE state = 'dead') AS dead "
    "FROM message WHERE state IN ('pending', 'sending', 'dead') GROUP BY channel) m ON m.channel = c.name ORDER BY 1"
)


def overview(session: Session) -> Overview:
    """Everything in numbers."""
    row = session.execute(_OVERVIEW).one()
    channels = tuple(ChannelView(**found._mapping) for found in session.execute(_CHANNELS))  # noqa: SLF001 - its public name
    return Overview(
        row.unrouted, row.pending, row.waiting, row.dead, row.firing, row.silences, max(0.0, row.oldest), channels
    )


_ALERT = "key, kind, status, severity, since, changed_at, labels, data, acked_at, acked_by"
_MESSAGE = (
    "message_uuid, channel, state, severity, title, body->>'text' AS text, events, made_at, attempt, settled_at, answer"
)


def alerts(session: Session, *, everything: bool = False, kind: str | None = None, limit: int = 50) -> list[AlertView]:
    """Alerts, the newest first; those that fire, or `everything` that is remembered."""
    rows = session.execute(
        sa.text(
            f"SELECT {_ALERT} FROM alert WHERE (:everything OR status = 'firing') "
            "AND kind = coalesce(:kind, kind) ORDER BY changed_at DESC, key LIMIT :limit"
        ),
        {"everything": everything, "kind": kind, "limit": limit},
    )
    return [AlertView(**row._mapping) for row in rows]  # noqa: SLF001 - its public name


def alert(session: Session, reference: str) -> AlertView:
    """An alert by its key, or by the end of it. Raises `NotFound`, or `BadRequest` if several match."""
    rows = session.execute(
        sa.text(
            f"SELECT {_ALERT} FROM alert WHERE key = :key OR right(key, length(:key)) = :key ORDER BY key = :key DESC, "
            "status, changed_at DESC LIMIT 3"
        ),
        {"key": reference},
    ).all()
    if not rows:
        raise NotFound(f"There is no alert {reference}; see `ironclad notify list`.")
    if len(rows) > 1 and rows[0].key != reference:
        raise BadRequest(f"Several alerts end like {reference}: {', '.join(row.key for row in rows)}.")
    return AlertView(**rows[0]._mapping)  # noqa: SLF001 - its public name


def told(session: Session, key: str) -> list[dict[str, Any]]:
    """What became of each event of an alert on each channel, oldest first; of very many, the latest."""
    rows = session.execute(
        sa.text(
            "SELECT x.id, x.at, x.status, n.channel, n.state, n.reason, n.message_uuid, m.state AS message_state, "
            "m.answer FROM notice x LEFT JOIN notification n ON n.notice_id = x.id "
            "LEFT JOIN message m USING (message_uuid) WHERE x.alert = :key ORDER BY x.id DESC, n.channel DESC LIMIT 200"
        ),
        {"key": key},
    ).all()
    return [dict(row._mapping) for row in reversed(rows)]  # noqa: SLF001 - its public name


def messages(session: Session, *, states: Sequence[str] = (), limit: int = 50) -> list[MessageView]:
    """Messages, the newest first."""
    rows = session.execute(
        sa.text(
            f"SELECT {_MESSAGE} FROM message WHERE (:every OR state = ANY(:states)) ORDER BY made_at DESC LIMIT :limit"
        ),
        {"every": not states, "states": list(states), "limit": limit},
    )
    return [MessageView(**row._mapping) for row in rows]  # noqa: SLF001 - its public name


def dead(session: Session, references: Sequence[str]) -> list[UUID]:
    """Dead letters by id or a part of it; all without any. Raises `NotFound` and `BadRequest`."""
    rows = list(session.scalars(sa.text("SELECT message_uuid FROM message WHERE state = 'dead' ORDER BY made_at")))
    if not references:
        return rows
    found: list[UUID] = []
    for reference in references:
        if len(reference) < _UUID_PART:
            raise BadRequest(f"{reference!r} is too short; give at least {_UUID_PART} characters of an id.")
        fitting = [one for one in rows if str(one).startswith(reference) or str(one).endswith(reference)]
        if not fitting:
            raise NotFound(f"There is no dead letter {reference}; see `ironclad notify dead list`.")
        if len(fitting) > 1:
            raise BadRequest(f"Several dead letters have an id like {reference}.")
        found.append(fitting[0])
    return found


def silences(session: Session, *, ended: bool = False) -> list[SilenceView]:
    """Silences, the next to end first."""
    rows = session.execute(
        sa.text(
            "SELECT id, matchers, comment, created_by, created_at, ends_at FROM silence "
            "WHERE :ended OR ends_at > ironclad_now() ORDER BY ends_at"
        ),
        {"ended": ended},
    )
    return [SilenceView(**row._mapping) for row in rows]  # noqa: SLF001 - its public name


def as_dict(view: Any) -> dict[str, Any]:
    """Any of these as a dictionary."""
    return asdict(view)
