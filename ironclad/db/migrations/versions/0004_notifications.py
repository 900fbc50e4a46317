"""The outbox of what operators should hear of, and everything that delivering it must remember."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("ironclad_now()")
EMPTY = sa.text("'{}'::jsonb")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "notice",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("alert", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("labels", JSONB(), server_default=EMPTY, nullable=False),
        sa.Column("data", JSONB(), server_default=EMPTY, nullable=False),
        sa.Column("routed_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("status IN ('firing', 'resolved', 'note')", name="notice_status"),
    )
    op.create_index("notice_unrouted", "notice", ["id"], postgresql_where=sa.text("routed_at IS NULL"))
    op.create_index("notice_at", "notice", ["at"])
    op.create_index("notice_alert", "notice", ["alert", "id"])
    op.create_table(
        "alert",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("labels", JSONB(), server_default=EMPTY, nullable=False),
        sa.Column("data", JSONB(), server_default=EMPTY, nullable=False),
        sa.Column("firing_id", sa.BigInteger(), nullable=True),
        sa.Column("since", TIME, nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.Column("acked_at", TIME, nullable=True),
        sa.Column("acked_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
        sa.CheckConstraint("status IN ('firing', 'resolved')", name="alert_status"),
    )
    op.create_index("alert_firing", "alert", ["kind"], postgresql_where=sa.text("status = 'firing'"))
    op.create_index("alert_changed", "alert", ["changed_at"])
    op.create_table(
        "notification",
        sa.Column("notice_id", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("group_key", sa.String(), nullable=False),
        sa.Column("alert", sa.String(), nullable=False),
        sa.Column("state", sa.String(), server_default="pending", nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("message_uuid", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["notice_id"], ["notice.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("notice_id", "channel"),
        sa.CheckConstraint("state IN ('pending', 'told', 'suppressed')", name="notification_state"),
    )
    op.create_index(
        "notification_pending", "notification", ["channel", "group_key"], postgresql_where=sa.text("state = 'pending'")
    )
    op.create_index("notification_alert", "notification", ["alert", "channel", "notice_id"])
    op.create_index("notification_message", "notification", ["message_uuid"])
    op.create_table(
        "notify_group",
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("group_key", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("labels", JSONB(), server_default=EMPTY, nullable=False),
        sa.Column("next_at", TIME, nullable=True),
        sa.Column("told_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("channel", "group_key"),
    )
    op.create_index("notify_group_due", "notify_group", ["next_at"], postgresql_where=sa.text("next_at IS NOT NULL"))
    op.create_table(
        "message",
        sa.Column("message_uuid", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("group_key", sa.String(), nullable=False),
        sa.Column("state", sa.String(), server_default="pending", nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("body", JSONB(), server_default=EMPTY, nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("oldest_at", TIME, nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", TIME, nullable=True),
        sa.Column("process", sa.String(), nullable=True),
        sa.Column("settled_at", TIME, nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("message_uuid"),
        sa.CheckConstraint("state IN ('pending', 'sending', 'sent', 'dead', 'dropped')", name="message_state"),
        sa.CheckConstraint("(state = 'sending') = (lease_token IS NOT NULL)", name="message_sending_has_lease"),
    )
    op.create_index(
        "message_queue", "message", ["channel", "made_at"], postgresql_where=sa.text("state IN ('pending', 'sending')")
    )
    op.create_index("message_dead", "message", ["made_at"], postgresql_where=sa.text("state = 'dead'"))
    op.create_index("message_settled", "message", ["settled_at"])
    op.create_table(
        "notify_channel",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next_at", TIME, nullable=True),
        sa.Column("blocked_until", TIME, nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sent_at", TIME, nullable=True),
        sa.Column("problem", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "silence",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("matchers", JSONB(), server_default=EMPTY, nullable=False),
        sa.Column("comment", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("ends_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("silence_end", "silence", ["ends_at"])


def downgrade() -> None:
    """Remove them."""
    for table in ("silence", "notify_channel", "message", "notify_group", "notification", "alert", "notice"):
        op.drop_table(table)
