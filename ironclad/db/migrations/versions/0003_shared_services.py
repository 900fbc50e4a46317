"""What workers share about services (rate, answers), and indexes for retagging and for the linter at publishing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PENDING = "stage = 'metadata' AND (data->'lookup'->>'status' = 'unavailable' OR data->>'cover' = 'unavailable')"


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "service_gate",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "service_answer",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("service_answer_expiry", "service_answer", ["expires_at"])
    op.create_index("stage_run_pending", "stage_run", ["job_uuid"], postgresql_where=sa.text(PENDING))
    op.create_index(
        "artifact_album", "artifact", [sa.text("((receipt -> 'servers') ->> 'album_key')")],
        postgresql_where=sa.text("state = 'published'"),
    )  # fmt: skip
    op.create_index(
        "artifact_folder", "artifact", [sa.text("regexp_replace(path, '/[^/]*$', '')")],
        postgresql_where=sa.text("state = 'published'"),
    )  # fmt: skip


def downgrade() -> None:
    """Remove them."""
    op.drop_index("artifact_folder", table_name="artifact", postgresql_where=sa.text("state = 'published'"))
    op.drop_index("artifact_album", table_name="artifact", postgresql_where=sa.text("state = 'published'"))
    op.drop_index("stage_run_pending", table_name="stage_run", postgresql_where=sa.text(PENDING))
    op.drop_index("service_answer_expiry", table_name="service_answer")
    op.drop_table("service_answer")
    op.drop_table("service_gate")
