"""Reading and writing the notifier's rows: events in, messages out. Everything happens in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.db import jsonb
from ironclad.jobs.ids import uuid7
from ironclad.jobs.notices import Severity, Status
from ironclad.notify.model import Event
from ironclad.notify.muting import Muting, Silence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.notify.wording import Composed
    from ironclad.sections import NotifySettings

_LOCK: Final = 0x1C0_0004  # advisory lock: one notifier plans at a time
MOST: Final = 20_000
"""Events of a group that are looked at together."""
_EVENT: Final = "x.id, x.at, x.kind, x.alert, x.status, x.severity, x.labels, x.data, x.routed_at"


def lead(session: Session) -> bool:
    """Whether this transaction may plan; another notifier may be at it right now."""
    return bool(session.scalar(sa.text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}))


def database_now(session: Session) -> datetime:
    """The clock of the whole installation."""
    now: datetime = session.execute(sa.text("SELECT ironclad_now()")).scalar_one()
    return now


def event_of(row: Any) -> Event:
    """An event out of a row of `notice`; severities that a stranger made up count as warnings."""
    severity = Severity(row.severity) if row.severity in set(Severity) else Severity.WARNING
    labels = {str(key): str(value) for key, value in (row.labels or {}).items()}
    return Event(row.id, row.at, row.kind, row.alert, Status(row.status), severity, labels, row.data, row.routed_at)


def muting(session: Session, settings: NotifySettings, now: datetime) -> Muting:
    """Everything that keeps alerts back at this moment."""
    rows = session.execute(
        sa.text("SELECT id, matchers, ends_at, comment FROM silence WHERE ends_at > :now"), {"now": now}
    )
    silences = [Silence(row.id, dict(row.matchers), row.ends_at, row.comment) for row in rows]
    # Jobs are not sources of inhibition unless a rule says so: there may be thousands of failed ones.
    kinds = {rule.source.get("kind", "*") for rule in settings.inhibit}
    plain = all(not set("*?[") & set(kind) for kind in kinds)
    where = "AND kind = ANY(:kinds)" if plain else ""
    firing = session.execute(
        sa.text(f"SELECT key, kind, severity, labels FROM alert WHERE status = 'firing' {where}"),
        {"kinds": sorted(kinds)} if plain else {},
    )
    subjects = {row.key: {**row.labels, "kind": row.kind, "severity": row.severity, "alert": row.key} for row in firing}
    return Muting(silences, settings.inhibit, subjects)


def pending(session: Session, channel: str, group_key: str) -> list[Event]:
    """The events of a group that a channel has not been told of, oldest first."""
    rows = session.execute(
        sa.text(
            f"SELECT {_EVENT} FROM notification n JOIN notice x ON x.id = n.notice_id "
            "WHERE n.channel = :channel AND n.group_key = :group AND n.state = 'pending' ORDER BY x.id LIMIT :most"
        ),
        {"channel": channel, "group": group_key, "most": MOST},
    )
    return [event_of(row) for row in rows]


def heard(session: Session, channel: str, alerts: Sequence[str]) -> dict[str, Status]:
    """What a channel was told last of each of these alerts."""
    rows = session.execute(
        sa.text(
            "SELECT DISTINCT ON (n.alert) n.alert, x.status FROM notification n JOIN notice x ON x.id = n.notice_id "
            "WHERE n.channel = :channel AND n.state = 'told' AND n.alert = ANY(:alerts) "
            "ORDER BY n.alert, n.notice_id DESC"
        ),
        {"channel": channel, "alerts": list(alerts)},
    )
    return {row.alert: Status(row.status) for row in rows}


def still_firing(session: Session, channel: str, group_key: str) -> list[Event]:
    """The alerts of a group that the channel was told of, that fire, and that nobody acknowledged."""
    rows = session.execute(
        sa.text(
            f"SELECT {_EVENT} FROM notification n JOIN notice x ON x.id = n.notice_id "
            "JOIN alert a ON a.key = n.alert AND a.firing_id = n.notice_id "
            "WHERE n.channel = :channel AND n.group_key = :group AND n.state = 'told' AND a.status = 'firing' "
            "AND a.acked_at IS NULL ORDER BY x.id LIMIT :most"
        ),
        {"channel": channel, "group": group_key, "most": MOST},
    )
    return [event for event in map(event_of, rows) if event.lasts]


def told_since(session: Session, channel: str, group_key: str, moment: datetime) -> int:
    """How many failures of a group the channel was told of since a moment."""
    return int(
        session.scalar(
            sa.text(
                "SELECT count(*) FROM notification n JOIN message m USING (message_uuid) "
                "WHERE n.channel = :channel AND n.group_key = :group AND n.state = 'told' AND m.made_at >= :moment"
            ),
            {"channel": channel, "group": group_key, "moment": moment},
        )
        or 0
    )


def settle(session: Session, channel: str, notices: Sequence[int], *, message: UUID) -> None:
    """These notices are told by that message."""
    session.execute(
        sa.text(
            "UPDATE notification SET state = 'told', message_uuid = :message WHERE channel = :channel "
            "AND notice_id = ANY(:notices) AND state = 'pending'"
        ),
        {"message": message, "channel": channel, "notices": list(notices)},
    )


def suppress(session: Session, channel: str, notices: Sequence[tuple[int, str]]) -> None:
    """Nobody will hear of these on that channel, for the reason that is recorded."""
    session.execute(
        sa.text(
            "UPDATE notification SET state = 'suppressed', reason = :reason WHERE channel = :channel "
            "AND notice_id = :notice AND state = 'pending'"
        ),
        [{"channel": channel, "notice": notice, "reason": reason} for notice, reason in notices],
    )


def enqueue(
    session: Session, group: tuple[str, str], composed: Composed, events: Sequence[Event], now: datetime
) -> UUID:
    """Put a message of a group (channel, key) into its channel's queue."""
    number = uuid7()
    channel, group_key = group
    body = {
        "text": composed.text, "markdown": composed.markdown, "html": composed.html, "firing": composed.firing,
        "alerts": list(composed.records),
    }  # fmt: skip
    session.execute(
        sa.text(
            "INSERT INTO message (message_uuid, channel, group_key, severity, title, body, events, oldest_at, made_at, "
            "not_before) VALUES (:id, :channel, :group, :severity, :title, CAST(:body AS jsonb), :events, :oldest, "
            ":now, :now)"
        ),
        {
            "id": number, "channel": channel, "group": group_key, "severity": composed.severity.value,
            "title": jsonb.text(composed.title), "body": jsonb.dumps(body), "events": len(events),
            "oldest": min(event.at for event in events), "now": now,
        },
    )  # fmt: skip
    return number
