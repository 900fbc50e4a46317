"""The first schema: jobs, their history, artifacts, the watcher's memory, and the guards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Frozen with this migration; a test compares it with ironclad.jobs.states.
TRANSITIONS = {
    "received": ("queued", "skipped", "failed", "cancelled"),
    "queued": ("running", "cancelled", "skipped", "failed"),
    "running": ("queued", "waiting_retry", "succeeded", "failed", "cancelled", "skipped", "quarantined"),
    "waiting_retry": ("queued", "cancelled", "failed"),
    "succeeded": ("queued",),
    "failed": ("queued",),
    "cancelled": ("queued",),
    "skipped": ("queued",),
    "quarantined": ("queued",),
}

# The database's clock for all leases, so that hosts need not agree on the time; tests may step it.
CLOCK = """
CREATE OR REPLACE FUNCTION ironclad_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT statement_timestamp()
       + coalesce(nullif(current_setting('ironclad.clock_offset', true), '')::interval, interval '0')
$$
"""

GUARD = """
CREATE FUNCTION job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.state NOT IN ('received', 'queued') THEN
      RAISE EXCEPTION 'a job cannot begin as %', NEW.state USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
  END IF;
  IF NEW.state <> OLD.state AND NOT EXISTS (
    SELECT 1 FROM job_transition WHERE from_state = OLD.state AND to_state = NEW.state
  ) THEN
    RAISE EXCEPTION 'a job cannot go from % to %', OLD.state, NEW.state USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.attempt < OLD.attempt THEN
    RAISE EXCEPTION 'an attempt number never goes back' USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.state = 'running' AND OLD.state <> 'running' THEN
    IF NEW.attempt <> OLD.attempt + 1 THEN
      RAISE EXCEPTION 'a claim begins a new attempt' USING ERRCODE = 'check_violation';
    END IF;
  ELSIF NEW.attempt <> OLD.attempt THEN
    RAISE EXCEPTION 'only a claim begins an attempt' USING ERRCODE = 'check_violation';
  END IF;
  NEW.updated_at := ironclad_now();
  RETURN NEW;
END $$
"""

NOTIFY = """
CREATE FUNCTION job_event_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('ironclad_event', json_build_object(
    'id', NEW.id, 'job', NEW.job_uuid, 'kind', NEW.kind, 'state', NEW.to_state, 'stage', NEW.stage)::text);
  RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Make everything."""
    op.execute(CLOCK)
    op.create_table(
        "control",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "job",
        sa.Column("job_uuid", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("trace_id", sa.String(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("engine_pool", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fair_key", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatch_seq", sa.Integer(), server_default="0", nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("source_path", sa.String(), nullable=False),
        sa.Column("source_path_raw", sa.LargeBinary(), nullable=False),
        sa.Column("source_key", sa.String(), nullable=True),
        sa.Column("source_size", sa.BigInteger(), nullable=False),
        sa.Column("source_mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("watch_root", sa.String(), nullable=True),
        sa.Column("relative_path", sa.String(), nullable=False),
        sa.Column("ingest_mode", sa.String(), nullable=False),
        sa.Column("archive_name", sa.String(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=True),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("output_format", sa.String(), nullable=False),
        sa.Column("stems", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("parameters", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("options", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("title", sa.String(), nullable=True),
        sa.Column("artist", sa.String(), nullable=True),
        sa.Column("album", sa.String(), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("progress", sa.Float(), server_default="0", nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("filed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="job_running_has_lease"),
        sa.CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", name="job_running_has_expiry"),
        sa.CheckConstraint("state <> 'waiting_retry' OR not_before IS NOT NULL", name="job_retry_has_time"),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name="job_progress_range"),
        sa.PrimaryKeyConstraint("job_uuid"),
    )
    op.create_index(
        "job_user_queue",
        "job",
        ["pool", "user_id", "priority", "fair_key"],
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "job_withdrawn",
        "job",
        ["dispatched_at"],
        postgresql_where=sa.text("state = 'cancelled' AND dispatched_at IS NOT NULL"),
    )
    op.create_index(
        "job_unfiled", "job", ["job_uuid"], postgresql_where=sa.text("state IN ('failed', 'quarantined') AND NOT filed")
    )
    op.create_index("job_content", "job", ["content_hash"], unique=False)
    op.create_index("job_source_path", "job", ["source_path_raw"], unique=False, postgresql_using="hash")
    op.create_index("job_created", "job", ["created_at"], unique=False)
    op.create_index(
        "job_dispatched",
        "job",
        ["dispatched_at"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND dispatched_at IS NOT NULL"),
    )
    op.create_index("job_due", "job", ["not_before"], unique=False, postgresql_where=sa.text("state = 'waiting_retry'"))
    op.create_index(
        "job_lease", "job", ["lease_expires_at"], unique=False, postgresql_where=sa.text("state = 'running'")
    )
    op.create_index(
        "job_queue",
        "job",
        ["pool", sa.literal_column("priority DESC"), "fair_key", "job_uuid"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND NOT held AND dispatched_at IS NULL"),
    )
    op.create_index(
        "job_source",
        "job",
        ["source_key"],
        unique=True,
        postgresql_where=sa.text("source_key IS NOT NULL AND (state = 'received' OR ingest_mode IN ('copy', 'link'))"),
    )
    op.create_index("job_state", "job", ["state", "job_uuid"], unique=False)
    op.create_index("job_user", "job", ["user_id", "job_uuid"], unique=False)
    op.create_table(
        "observation",
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("path_raw", sa.LargeBinary(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("source_key", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("job_uuid", sa.Uuid(), nullable=True),
        sa.Column(
            "first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False
        ),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.PrimaryKeyConstraint("root", "path_raw"),
    )
    op.create_table(
        "pool",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "worker",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pool", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.Column("data", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "artifact",
        sa.Column("artifact_uuid", sa.Uuid(), nullable=False),
        sa.Column("job_uuid", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("blake3", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("receipt", JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('intent', 'published', 'superseded')", name="artifact_state"),
        sa.ForeignKeyConstraint(["job_uuid"], ["job.job_uuid"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("artifact_uuid"),
    )
    op.create_index(
        "artifact_path",
        "artifact",
        [sa.literal_column("lower(path)")],
        unique=True,
        postgresql_where=sa.text("state <> 'superseded'"),
    )
    op.create_index(op.f("ix_artifact_job_uuid"), "artifact", ["job_uuid"], unique=False)
    op.create_table(
        "attempt",
        sa.Column("job_uuid", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("process", sa.String(), nullable=True),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("first_stage", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["job_uuid"], ["job.job_uuid"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_uuid", "attempt"),
    )
    op.create_index("attempt_live", "attempt", ["job_uuid"], unique=True, postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "job_event",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("job_uuid", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("from_state", sa.String(), nullable=True),
        sa.Column("to_state", sa.String(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("data", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.ForeignKeyConstraint(["job_uuid"], ["job.job_uuid"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("job_event_at", "job_event", ["at"], unique=False)
    op.create_index("job_event_job", "job_event", ["job_uuid", "id"], unique=False)
    op.create_table(
        "stage_run",
        sa.Column("job_uuid", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("progress", sa.Float(), server_default="0", nullable=False),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("inputs_digest", sa.String(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("ironclad_now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("data", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.ForeignKeyConstraint(["job_uuid"], ["job.job_uuid"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_uuid", "attempt", "stage"),
    )

    rules = op.create_table(
        "job_transition",
        sa.Column("from_state", sa.String(), nullable=False),
        sa.Column("to_state", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("from_state", "to_state"),
    )
    op.bulk_insert(rules, [{"from_state": a, "to_state": b} for a, targets in TRANSITIONS.items() for b in targets])
    op.execute(GUARD)
    op.execute("CREATE TRIGGER job_guard BEFORE INSERT OR UPDATE ON job FOR EACH ROW EXECUTE FUNCTION job_guard()")
    op.execute(NOTIFY)
    op.execute(
        "CREATE TRIGGER job_event_notify AFTER INSERT ON job_event FOR EACH ROW EXECUTE FUNCTION job_event_notify()"
    )


def downgrade() -> None:
    """Remove everything."""
    op.execute("DROP TRIGGER job_event_notify ON job_event")
    op.execute("DROP FUNCTION job_event_notify")
    op.execute("DROP TRIGGER job_guard ON job")
    op.execute("DROP FUNCTION job_guard")
    op.drop_table("job_transition")
    op.drop_table("stage_run")
    op.drop_index("job_event_job", table_name="job_event")
    op.drop_index("job_event_at", table_name="job_event")
    op.drop_table("job_event")
    op.drop_index("attempt_live", table_name="attempt", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_table("attempt")
    op.drop_index(op.f("ix_artifact_job_uuid"), table_name="artifact")
    op.drop_index("artifact_path", table_name="artifact", postgresql_where=sa.text("state <> 'superseded'"))
    op.drop_table("artifact")
    op.drop_table("worker")
    op.drop_table("pool")
    op.drop_table("observation")
    op.drop_index("job_user", table_name="job")
    op.drop_index("job_state", table_name="job")
    op.drop_index(
        "job_source",
        table_name="job",
        postgresql_where=sa.text("source_key IS NOT NULL AND (state = 'received' OR ingest_mode IN ('copy', 'link'))"),
    )
    op.drop_index(
        "job_queue",
        table_name="job",
        postgresql_where=sa.text("state = 'queued' AND NOT held AND dispatched_at IS NULL"),
    )
    op.drop_index("job_lease", table_name="job", postgresql_where=sa.text("state = 'running'"))
    op.drop_index("job_due", table_name="job", postgresql_where=sa.text("state = 'waiting_retry'"))
    op.drop_index(
        "job_dispatched", table_name="job", postgresql_where=sa.text("state = 'queued' AND dispatched_at IS NOT NULL")
    )
    op.drop_index("job_created", table_name="job")
    op.drop_index("job_content", table_name="job")
    op.drop_table("job")
    op.drop_table("control")
    op.execute("DROP FUNCTION ironclad_now")
