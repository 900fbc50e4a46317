"""From the outbox to the channels: each event becomes one notification a channel, once, whatever is restarted when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.db import jsonb
from ironclad.jobs.notices import Status
from ironclad.notify.routing import Router, Target
from ironclad.notify.store import event_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlmodel import Session

    from ironclad.notify.model import Event

_BATCH: Final = 1000


@dataclass(slots=True)
class _Known:
    """An alert, as far as routing needs it."""

    firing_id: int | None
    last_id: int
    """The last event of it that was routed. Not its time: clocks are set back."""


def route(session: Session, router: Router, channels: frozenset[str], now: datetime) -> int:
    """Give the next events of the outbox to their channels. Returns how many there were.

    An event that nobody shall hear of is routed, too: to nobody. Without any channel nothing is routed: it waits.
    """
    if not channels:
        return 0
    rows = session.execute(
        sa.text(
            "SELECT id, at, kind, alert, status, severity, labels, data, routed_at FROM notice "
            "WHERE routed_at IS NULL ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED"
        ),
        {"batch": _BATCH},
    )
    events = [event_of(row) for row in rows]
    if not events:
        return 0
    alerts, placed = _known(session, events)
    changed: dict[str, dict[str, Any]] = {}
    found: list[tuple[Event, Target]] = []
    for event in events:
        if event.status is Status.RESOLVED:
            known = alerts.get(event.alert)
            targets = placed.get(known.firing_id or 0, ()) if known else ()
        else:
            targets = router.targets(event)
            placed[event.id] = targets
        found += [(event, target) for target in targets if target.channel in channels]
        _change(event, alerts, changed, now)
    _write(session, found, list(changed.values()), now)
    session.execute(
        sa.text("UPDATE notice SET routed_at = :now WHERE id = ANY(:ids)"),
        {"now": now, "ids": [event.id for event in events]},
    )
    return len(events)


def _known(session: Session, events: Sequence[Event]) -> tuple[dict[str, _Known], dict[int, tuple[Target, ...]]]:
    """The alerts that the events are about, and where the events that made them fire went."""
    keys = list({event.alert for event in events if event.status is not Status.NOTE})
    rows = session.execute(
        sa.text(
            "SELECT key, firing_id, coalesce((SELECT max(x.id) FROM notice x WHERE x.alert = key "
            "AND x.routed_at IS NOT NULL), 0) AS last_id FROM alert WHERE key = ANY(:keys)"
        ),
        {"keys": keys},
    )
    alerts = {row.key: _Known(row.firing_id, row.last_id) for row in rows}
    over = {event.alert for event in events if event.status is Status.RESOLVED}
    ids = [known.firing_id for key, known in alerts.items() if key in over and known.firing_id is not None]
    placed: dict[int, tuple[Target, ...]] = {}
    places = session.execute(
        sa.text(
            "SELECT n.notice_id, n.channel, g.route, n.group_key, g.labels FROM notification n "
            "JOIN notify_group g USING (channel, group_key) WHERE n.notice_id = ANY(:ids)"
        ),
        {"ids": ids},
    )
    for row in places:
        target = Target(row.channel, row.route, row.group_key, row.labels)
        placed[row.notice_id] = (*placed.get(row.notice_id, ()), target)
    return alerts, placed


def _change(event: Event, alerts: dict[str, _Known], changed: dict[str, dict[str, Any]], now: datetime) -> None:
    """Note what an event makes of its alert; an event that is routed anew changes nothing that came after it."""
    known = alerts.get(event.alert)
    if event.status is Status.NOTE or (known is not None and event.id < known.last_id):
        return
    if event.status is Status.RESOLVED and known is None:
        return  # of something that was never wrong
    firing_id = event.id if event.status is Status.FIRING else known.firing_id if known else None
    alerts[event.alert] = _Known(firing_id, event.id)
    changed[event.alert] = {
        "key": event.alert, "kind": event.kind, "status": event.status.value, "severity": event.severity.value,
        "labels": jsonb.dumps(dict(event.labels)), "data": jsonb.dumps(dict(event.data)), "firing": firing_id,
        "at": event.at, "now": now,
    }  # fmt: skip


def _write(session: Session, found: list[tuple[Event, Target]], alerts: list[dict[str, Any]], now: datetime) -> None:
    if alerts:
        session.execute(
            sa.text(
                "INSERT INTO alert (key, kind, status, severity, labels, data, firing_id, since, changed_at) VALUES "
                "(:key, :kind, :status, :severity, CAST(:labels AS jsonb), CAST(:data AS jsonb), :firing, :at, :at) "
                "ON CONFLICT (key) DO UPDATE SET status = EXCLUDED.status, severity = EXCLUDED.severity, "
                "labels = CASE WHEN EXCLUDED.status = 'firing' THEN EXCLUDED.labels ELSE alert.labels END, "
                "data = EXCLUDED.data, changed_at = EXCLUDED.changed_at, "
                "since = CASE WHEN alert.status = EXCLUDED.status THEN alert.since ELSE EXCLUDED.changed_at END, "
                "acked_at = CASE WHEN alert.firing_id = EXCLUDED.firing_id THEN alert.acked_at END, "
                "acked_by = CASE WHEN alert.firing_id = EXCLUDED.firing_id THEN alert.acked_by END, "
                "firing_id = EXCLUDED.firing_id"
            ),
            alerts,
        )
    place(session, [(event.id, event.alert, target) for event, target in found], now)


def place(session: Session, found: Sequence[tuple[int, str, Target]], now: datetime) -> None:
    """Make the notifications (notice id, alert, target), and have their groups looked at."""
    if not found:
        return
    session.execute(
        sa.text(
            "INSERT INTO notification (notice_id, channel, group_key, alert) "
            "VALUES (:notice, :channel, :group, :alert) ON CONFLICT DO NOTHING"
        ),
        [
            {"notice": notice, "channel": target.channel, "group": target.group_key, "alert": alert}
            for notice, alert, target in found
        ],
    )
    groups = {(target.channel, target.group_key): target for _, _, target in found}
    session.execute(
        sa.text(
            "INSERT INTO notify_group (channel, group_key, route, labels, next_at) "
            "VALUES (:channel, :group, :route, CAST(:labels AS jsonb), :now) ON CONFLICT (channel, group_key) "
            "DO UPDATE SET route = EXCLUDED.route, next_at = least(notify_group.next_at, EXCLUDED.next_at)"
        ),
        [
            {
                "channel": target.channel, "group": target.group_key, "route": target.route,
                "labels": jsonb.dumps(dict(target.labels)), "now": now,
            }
            for target in groups.values()
        ],
    )  # fmt: skip


def adopt(session: Session, channels: frozenset[str], now: datetime) -> int:
    """Bring back what waits for channels that are not in the settings any more: its events are routed anew.

    Messages that were made for such a channel are dead letters: they can be seen, and sent to another. Returns how
    many events were brought back.
    """
    if not channels:
        return 0
    known = {"known": sorted(channels), "now": now}
    back = session.execute(
        sa.text(
            "WITH lost AS (DELETE FROM notification WHERE state = 'pending' AND NOT channel = ANY(:known) "
            "RETURNING notice_id) "
            "UPDATE notice SET routed_at = NULL WHERE id IN (SELECT notice_id FROM lost) RETURNING id"
        ),
        known,
    ).all()
    session.execute(
        sa.text(
            "UPDATE message SET state = 'dead', settled_at = :now, lease_token = NULL, lease_expires_at = NULL, "
            "answer = 'the channel is not in the settings any more' "
            "WHERE state IN ('pending', 'sending') AND NOT channel = ANY(:known)"
        ),
        known,
    )
    session.execute(sa.text("DELETE FROM notify_group WHERE NOT channel = ANY(:known)"), known)
    return len(back)
