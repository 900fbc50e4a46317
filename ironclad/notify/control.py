"""What operators do: acknowledge, silence, send dead letters again or drop them, try a channel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ironclad.db import jsonb
from ironclad.errors import BadRequest, ChannelFailed, ConfigError, IroncladError, NotFound
from ironclad.jobs.ids import uuid7
from ironclad.jobs.notices import CHANNEL
from ironclad.notify.channels import kinds, opened, uncovered
from ironclad.notify.contract import Message, NotDelivered
from ironclad.notify.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.plugins.manager import PluginManager
    from ironclad.sections import NotifySettings


def acknowledge(session: Session, key: str, *, actor: str) -> None:
    """Somebody looks after an alert: it is neither repeated nor escalated. Raises `NotFound` if it does not fire."""
    row = session.execute(
        sa.text(
            "UPDATE alert SET acked_at = ironclad_now(), acked_by = :actor WHERE key = :key AND status = 'firing' "
            "RETURNING key"
        ),
        {"key": key, "actor": jsonb.text(actor)},
    ).first()
    if row is None:
        raise NotFound(f"No alert {key} fires.")


def silence(session: Session, matchers: Mapping[str, str], *, ends_at: datetime, comment: str, actor: str) -> int:
    """Tell nobody of what matches until an end. Returns its number. Raises `BadRequest`."""
    if not matchers or not all(name and pattern for name, pattern in matchers.items()):
        raise BadRequest("A silence needs something to match: kind=job_failed, code=E_*, user=ana …")
    now: datetime = session.execute(sa.text("SELECT ironclad_now()")).scalar_one()
    if ends_at <= now:
        raise BadRequest("A silence must end later than now.")
    row = session.execute(
        sa.text(
            "INSERT INTO silence (matchers, comment, created_by, ends_at) "
            "VALUES (CAST(:matchers AS jsonb), :comment, :actor, :ends) RETURNING id"
        ),
        {
            "matchers": jsonb.dumps(dict(matchers)), "comment": jsonb.text(comment), "actor": jsonb.text(actor),
            "ends": ends_at,
        },
    ).one()  # fmt: skip
    return int(row.id)


def end_silence(session: Session, number: int) -> None:
    """End a silence now; what still fires is told within a minute. Raises `NotFound`."""
    row = session.execute(
        sa.text("UPDATE silence SET ends_at = ironclad_now() WHERE id = :id AND ends_at > ironclad_now() RETURNING id"),
        {"id": number},
    ).first()
    if row is None:
        raise NotFound(f"There is no silence {number}; see `ironclad notify silence list`.")


def resend(session: Session, messages: Sequence[UUID], *, channel: str | None = None) -> int:
    """Put dead letters back into the queue, with all their attempts, and to another channel if one is given."""
    rows = session.execute(
        sa.text(
            "UPDATE message SET state = 'pending', attempt = 0, settled_at = NULL, not_before = ironclad_now(), "
            "channel = coalesce(:channel, channel) WHERE message_uuid = ANY(:ids) AND state = 'dead' RETURNING channel"
        ),
        {"ids": list(messages), "channel": channel},
    ).all()
    session.execute(
        sa.text("UPDATE notify_channel SET blocked_until = NULL, failures = 0 WHERE name = ANY(:names)"),
        {"names": sorted({row.channel for row in rows})},
    )
    session.execute(sa.text("SELECT pg_notify(:channel, '{}')"), {"channel": CHANNEL})
    return len(rows)


def drop(session: Session, messages: Sequence[UUID]) -> int:
    """Nobody will hear of these dead letters."""
    return len(
        session.execute(
            sa.text(
                "UPDATE message SET state = 'dropped', settled_at = ironclad_now() "
                "WHERE message_uuid = ANY(:ids) AND state = 'dead' RETURNING message_uuid"
            ),
            {"ids": list(messages)},
        ).all()
    )


def try_channel(settings: NotifySettings, name: str, plugins: PluginManager | None = None) -> str:
    """Send a message for real, past the queue. Returns what came back; raises `ChannelFailed`, `NotFound`."""
    channel = settings.channels.get(name)
    if channel is None:
        raise NotFound(f"There is no channel {name}; there is {', '.join(settings.channels) or 'none yet'}.")
    text = "If you can read this, the channel works. It was sent by `ironclad notify test`; nothing is wrong."
    message = Message(
        id=str(uuid7()), title="[TEST] Ironclad can reach you", text=text, markdown=text, html=f"<p>{text}</p>",
        severity="info", firing=False, made_at=datetime.now(UTC), total=0,
    )  # fmt: skip
    given = uncovered(name, channel)
    try:
        return opened(name, channel, kinds(settings, plugins)).send(message)
    except NotDelivered as failure:
        raise ChannelFailed(
            f"{name}: {redacted(failure.answer, given)}", channel=name, permanent=failure.permanent
        ) from None
    except IroncladError:
        raise
    except Exception as exc:  # noqa: BLE001 - whatever a plugin raises
        raise ChannelFailed(f"{name}: {redacted(f'{type(exc).__name__}: {exc}', given)}", channel=name) from None


def check(settings: NotifySettings, plugins: PluginManager | None = None) -> Mapping[str, str]:
    """What is wrong with each channel as it is set, without sending anything; an empty text is nothing."""
    found: dict[str, str] = {}
    known = kinds(settings, plugins)
    for name, channel in settings.channels.items():
        try:
            opened(name, channel, known)
        except ConfigError as exc:
            found[name] = exc.detail
        else:
            found[name] = ""
    return found


def describe(settings: NotifySettings) -> list[dict[str, Any]]:
    """The channels of the settings, without secrets."""
    return [
        {
            "name": name, "type": channel.type, "url": bool(channel.url), "rate_per_minute": channel.rate_per_minute,
            "quiet_hours": channel.quiet_hours, "resolved": channel.resolved,
        }
        for name, channel in settings.channels.items()
    ]  # fmt: skip
