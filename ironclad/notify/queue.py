"""The queue of messages: claimed with a lease and a fence, as jobs are.

So two notifiers, or one that comes back from the dead, never both believe that they own one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa

from ironclad import processes
from ironclad.db import jsonb
from ironclad.jobs import notices
from ironclad.jobs.notices import Notice, Status
from ironclad.notify import schedule
from ironclad.notify.contract import Message, NotDelivered

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlmodel import Session

    from ironclad.sections import ChannelSettings, NotifySettings

_LEASE_SPARE: Final = 30.0
_PATIENCE: Final = 3
"""Failures in a row after which the whole channel waits, not only the message that failed."""
_LONGEST_WISH: Final = 86_400.0
UNANSWERED: Final = "the delivery did not end within its time-out; whether it arrived is not known"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this process may send now, and the fence of this attempt."""

    message: Message
    channel: str
    token: UUID
    oldest_at: datetime
    troubled: bool = True
    """Whether the channel's last attempt failed."""

    def parameters(self) -> dict[str, Any]:
        """For SQL that contains `_FENCED`."""
        return {"id": UUID(self.message.id), "attempt": self.message.attempt, "token": self.token}


_FENCED: Final = "message_uuid = :id AND attempt = :attempt AND lease_token = :token AND state = 'sending'"


def claim(session: Session, name: str, channel: ChannelSettings, now: datetime) -> Claimed | float | None:
    """The next message of a channel; or the seconds until there may be one; or None, if none waits.

    The channel's row is locked: its rate is kept across notifiers and restarts.
    """
    row = _channel_row(session, name)
    found = session.execute(
        sa.text(
            "SELECT message_uuid, not_before FROM message WHERE channel = :name AND state = 'pending' "
            "ORDER BY not_before, message_uuid LIMIT 1 FOR UPDATE"
        ),
        {"name": name},
    ).first()
    if found is None:
        return None
    begin = max(found.not_before, row.blocked_until or now)
    if begin > now:
        return float((begin - now).total_seconds())
    arrival, wait = schedule.admit(row.next_at, now, channel.rate_per_minute, channel.burst)
    if wait:
        return wait
    session.execute(
        sa.text("UPDATE notify_channel SET next_at = :arrival WHERE name = :name"), {"arrival": arrival, "name": name}
    )
    token = uuid4()
    taken = session.execute(
        sa.text(
            "UPDATE message SET state = 'sending', attempt = attempt + 1, lease_token = :token, process = :process, "
            "lease_expires_at = :expiry WHERE message_uuid = :id RETURNING *"
        ),
        {
            "token": token, "process": processes.me(), "id": found.message_uuid,
            "expiry": now + timedelta(seconds=channel.timeout_seconds + _LEASE_SPARE),
        },
    ).one()  # fmt: skip
    return Claimed(_message(taken), name, token, taken.oldest_at, troubled=row.problem is not None)


def _channel_row(session: Session, name: str) -> Any:
    """The channel's row, locked; made when it is not there yet."""
    select = sa.text("SELECT next_at, blocked_until, problem FROM notify_channel WHERE name = :name FOR UPDATE")
    row = session.execute(select, {"name": name}).first()
    if row is None:
        session.execute(
            sa.text("INSERT INTO notify_channel (name) VALUES (:name) ON CONFLICT DO NOTHING"), {"name": name}
        )
        row = session.execute(select, {"name": name}).one()
    return row


def take_back(
    session: Session, name: str, settings: NotifySettings, now: datetime, *,
    uniform: Callable[[float, float], float] = random.uniform,
) -> list[tuple[Claimed, str]]:  # fmt: skip
    """Messages whose sender is gone wait again. Whether they had arrived nobody can know: they are sent again.

    One whose lease ended has failed: else a service that hangs would be tried for ever, and nobody would hear of it.
    So has one whose sender ended at its last attempt. Returns what failed, and what `failed` said of it.
    """
    _channel_row(session, name)
    rows = session.execute(
        sa.text("SELECT * FROM message WHERE channel = :name AND state = 'sending' FOR UPDATE SKIP LOCKED"),
        {"name": name},
    ).all()
    found = []
    for row in rows:
        gone = processes.gone(row.process or "")
        if row.lease_expires_at <= now or (gone and row.attempt >= settings.attempts):
            lost = Claimed(_message(row), name, row.lease_token, row.oldest_at)
            at = min(row.lease_expires_at, now)
            found.append((lost, failed(session, lost, NotDelivered(UNANSWERED), settings, at, uniform=uniform)))
        elif gone:
            session.execute(
                sa.text(
                    "UPDATE message SET state = 'pending', lease_token = NULL, lease_expires_at = NULL, "
                    "answer = 'the notifier ended while it was on its way' WHERE message_uuid = :id"
                ),
                {"id": row.message_uuid},
            )
    return found


def _message(row: Any) -> Message:
    body = row.body
    return Message(
        id=str(row.message_uuid), title=row.title, text=body["text"], markdown=body["markdown"], html=body["html"],
        severity=row.severity, firing=bool(body["firing"]), made_at=row.made_at, alerts=tuple(body["alerts"]),
        total=row.events, attempt=row.attempt,
    )  # fmt: skip


def sent(session: Session, claimed: Claimed, answer: str, now: datetime) -> bool:
    """The message got through. False if the lease was lost meanwhile: somebody else sends it again."""
    row = session.execute(
        sa.text(
            "UPDATE message SET state = 'sent', lease_token = NULL, lease_expires_at = NULL, settled_at = :now, "
            f"answer = :answer WHERE {_FENCED} RETURNING message_uuid"
        ),
        {**claimed.parameters(), "now": now, "answer": jsonb.text(answer)},
    ).first()
    session.execute(
        sa.text(
            "UPDATE notify_channel SET failures = 0, blocked_until = NULL, problem = NULL, sent_at = :now "
            "WHERE name = :name"
        ),
        {"now": now, "name": claimed.channel},
    )
    if claimed.troubled and _failing(session, claimed.channel):
        detail = "Messages get through again."
        notices.publish(session, _channel_notice(claimed.channel, detail, Status.RESOLVED))
    return row is not None


def failed(
    session: Session, claimed: Claimed, failure: NotDelivered, settings: NotifySettings, now: datetime, *,
    uniform: Callable[[float, float], float] = random.uniform,
) -> str:  # fmt: skip
    """The message did not get through: it waits for its next attempt, or is a dead letter.

    Returns `retry`, `dead`, or `lost` (the lease was lost meanwhile).
    """
    dead = failure.permanent or claimed.message.attempt >= settings.attempts
    wish = min(failure.retry_after or 0.0, _LONGEST_WISH)
    own = schedule.backoff(claimed.message.attempt, settings.backoff_seconds, settings.backoff_max_seconds, uniform)
    row = session.execute(
        sa.text(
            "UPDATE message SET state = :state, lease_token = NULL, lease_expires_at = NULL, answer = :answer, "
            "settled_at = CASE WHEN :dead THEN CAST(:now AS timestamptz) END, "
            f"not_before = CASE WHEN :dead THEN not_before ELSE :next END WHERE {_FENCED} RETURNING message_uuid"
        ),
        {
            **claimed.parameters(), "state": "dead" if dead else "pending", "answer": jsonb.text(failure.answer),
            "dead": dead, "now": now, "next": now + timedelta(seconds=max(own, wish)),
        },
    ).first()  # fmt: skip
    _hold_channel(session, claimed.channel, failure, settings, now, wish=wish, uniform=uniform)
    if row is None:
        return "lost"
    if dead and not _failing(session, claimed.channel):
        notices.publish(session, _channel_notice(claimed.channel, failure.answer, Status.FIRING))
    return "dead" if dead else "retry"


def _hold_channel(
    session: Session, name: str, failure: NotDelivered, settings: NotifySettings, now: datetime, *,
    wish: float, uniform: Callable[[float, float], float],
) -> None:  # fmt: skip
    """Count the failure; a channel that asked for a pause, or that failed several times in a row, pauses as a whole."""
    failures = session.execute(
        sa.text(
            "UPDATE notify_channel SET failures = failures + 1, problem = :problem WHERE name = :name "
            "RETURNING failures"
        ),
        {"name": name, "problem": jsonb.text(failure.answer)},
    ).scalar_one()
    pause = wish
    if not failure.permanent and failures >= _PATIENCE:
        over = failures - _PATIENCE + 1
        pause = max(wish, schedule.backoff(over, settings.backoff_seconds, settings.backoff_max_seconds, uniform))
    if pause:
        session.execute(
            sa.text("UPDATE notify_channel SET blocked_until = :until WHERE name = :name"),
            {"until": now + timedelta(seconds=pause), "name": name},
        )


def _failing(session: Session, name: str) -> bool:
    """Whether the channel's failure has been told, or is about to be."""
    status = session.scalar(
        sa.text(
            "SELECT coalesce("
            "(SELECT status FROM notice WHERE alert = :key AND routed_at IS NULL ORDER BY id DESC LIMIT 1), "
            "(SELECT status FROM alert WHERE key = :key))"
        ),
        {"key": f"channel:{name}"},
    )
    return bool(status == "firing")


def _channel_notice(name: str, detail: str, status: Status) -> Notice:
    return Notice(
        "channel_failing", f"channel:{name}", status, labels={"channel": name}, data={"name": name, "detail": detail}
    )  # fmt: skip
