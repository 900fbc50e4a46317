"""Indexes for what people look at: the oldest waiting job, held jobs, and what ended lately."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    op.create_index("job_waiting", "job", ["pool", "queued_at"], postgresql_where=sa.text("state = 'queued'"))
    op.create_index("job_held", "job", ["job_uuid"], postgresql_where=sa.text("held"))
    op.create_index("job_finished", "job", ["finished_at", "job_uuid"], postgresql_include=["state"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index("job_finished", table_name="job", postgresql_include=["state"])
    op.drop_index("job_held", table_name="job", postgresql_where=sa.text("held"))
    op.drop_index("job_waiting", table_name="job", postgresql_where=sa.text("state = 'queued'"))
