"""The tables of notifications: outbox, alerts, groups, messages, channels, silences."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from ironclad.db.columns import UTC
from ironclad.db.columns import document as _json
from ironclad.db.columns import moment as _time


class Notice(SQLModel, table=True):
    """The outbox: something that operators should hear of, written in the transaction in which it came about."""

    __tablename__ = "notice"

    id: int | None = Field(default=None, primary_key=True, sa_type=sa.BigInteger)
    at: datetime | None = _time(nullable=False, default=True)
    kind: str
    alert: str
    """What it is about: the same key says that the same thing broke, or is well again."""
    status: str
    """firing, resolved, or note (something that happened and does not end)."""
    severity: str
    labels: dict[str, Any] = _json()
    data: dict[str, Any] = _json()
    routed_at: datetime | None = _time()

    __table_args__ = (
        sa.Index("notice_unrouted", "id", postgresql_where=sa.text("routed_at IS NULL")),
        sa.Index("notice_at", "at"),
        sa.Index("notice_alert", "alert", "id"),
        sa.CheckConstraint("status IN ('firing', 'resolved', 'note')", name="notice_status"),
    )


class Alert(SQLModel, table=True):
    """What is or was wrong, as the notifier knows it from the notices."""

    __tablename__ = "alert"

    key: str = Field(primary_key=True)
    kind: str
    status: str
    severity: str
    labels: dict[str, Any] = _json()
    data: dict[str, Any] = _json()
    firing_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    """The last notice that said it fires."""
    since: datetime = Field(sa_type=UTC, nullable=False)
    changed_at: datetime = Field(sa_type=UTC, nullable=False)
    acked_at: datetime | None = _time()
    acked_by: str | None = None

    __table_args__ = (
        sa.Index("alert_firing", "kind", postgresql_where=sa.text("status = 'firing'")),
        sa.Index("alert_changed", "changed_at"),
        sa.CheckConstraint("status IN ('firing', 'resolved')", name="alert_status"),
    )


class Notification(SQLModel, table=True):
    """One notice for one channel: pending until a message tells it, or a reason is recorded why none does."""

    __tablename__ = "notification"

    notice_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, sa.ForeignKey("notice.id", ondelete="CASCADE"), primary_key=True)
    )
    channel: str = Field(primary_key=True)
    group_key: str
    alert: str
    state: str = Field(default="pending", sa_column_kwargs={"server_default": "pending"})
    reason: str | None = None
    message_uuid: UUID | None = None

    __table_args__ = (
        sa.Index("notification_pending", "channel", "group_key", postgresql_where=sa.text("state = 'pending'")),
        sa.Index("notification_alert", "alert", "channel", "notice_id"),
        sa.Index("notification_message", "message_uuid"),
        sa.CheckConstraint("state IN ('pending', 'told', 'suppressed')", name="notification_state"),
    )


class NotifyGroup(SQLModel, table=True):
    """Notifications that are told together, and when the next message about them is due."""

    __tablename__ = "notify_group"

    channel: str = Field(primary_key=True)
    group_key: str = Field(primary_key=True)
    route: str
    labels: dict[str, Any] = _json()
    next_at: datetime | None = _time()
    told_at: datetime | None = _time()

    __table_args__ = (
        sa.Index("notify_group_due", "next_at", postgresql_where=sa.text("next_at IS NOT NULL")),
    )  # fmt: skip


class Message(SQLModel, table=True):
    """One message to one channel, with its lease while it is on its way."""

    __tablename__ = "message"

    message_uuid: UUID = Field(primary_key=True)
    channel: str
    group_key: str
    state: str = Field(default="pending", sa_column_kwargs={"server_default": "pending"})
    severity: str
    title: str
    body: dict[str, Any] = _json()
    events: int
    oldest_at: datetime = Field(sa_type=UTC, nullable=False)
    """When the oldest event in it came about."""
    made_at: datetime = Field(sa_type=UTC, nullable=False)
    not_before: datetime = Field(sa_type=UTC, nullable=False)
    attempt: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    lease_token: UUID | None = None
    lease_expires_at: datetime | None = _time()
    process: str | None = None
    settled_at: datetime | None = _time()
    answer: str | None = None
    """What came back the last time, without secrets."""

    __table_args__ = (
        sa.Index(
            "message_queue", "channel", "made_at", postgresql_where=sa.text("state IN ('pending', 'sending')")
        ),
        sa.Index("message_dead", "made_at", postgresql_where=sa.text("state = 'dead'")),
        sa.Index("message_settled", "settled_at"),
        sa.CheckConstraint("state IN ('pending', 'sending', 'sent', 'dead', 'dropped')", name="message_state"),
        sa.CheckConstraint("(state = 'sending') = (lease_token IS NOT NULL)", name="message_sending_has_lease"),
    )  # fmt: skip


class NotifyChannel(SQLModel, table=True):
    """How a channel does: its rate, its last answer."""

    __tablename__ = "notify_channel"

    name: str = Field(primary_key=True)
    next_at: datetime | None = _time()
    """The rate limit's theoretical arrival time (GCRA, ITU-T I.371)."""
    blocked_until: datetime | None = _time()
    failures: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """In a row."""
    sent_at: datetime | None = _time()
    problem: str | None = None


class Silence(SQLModel, table=True):
    """Nothing that matches is told until it ends."""

    __tablename__ = "silence"

    id: int | None = Field(default=None, primary_key=True, sa_type=sa.BigInteger)
    matchers: dict[str, Any] = _json()
    comment: str
    created_by: str
    created_at: datetime | None = _time(nullable=False, default=True)
    ends_at: datetime = Field(sa_type=UTC, nullable=False)

    __table_args__ = (sa.Index("silence_end", "ends_at"),)
