"""How services and what they need are, and each change of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NOTIFY = """
CREATE FUNCTION health_event_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('ironclad_health', json_build_object(
    'id', NEW.id, 'service', NEW.service, 'component', NEW.component, 'from', NEW.from_status, 'to', NEW.to_status
  )::text);
  RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "health",
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("component", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("remedy", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("service", "component"),
    )
    op.create_table(
        "health_event",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("component", sa.String(), nullable=False),
        sa.Column("from_status", sa.String(), nullable=True),
        sa.Column("to_status", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("remedy", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_health_event_at"), "health_event", ["at"])
    op.execute(NOTIFY)
    op.execute(
        "CREATE TRIGGER health_event_notify AFTER INSERT ON health_event "
        "FOR EACH ROW EXECUTE FUNCTION health_event_notify()"
    )


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TRIGGER health_event_notify ON health_event")
    op.execute("DROP FUNCTION health_event_notify")
    op.drop_index(op.f("ix_health_event_at"), table_name="health_event")
    op.drop_table("health_event")
    op.drop_table("health")
