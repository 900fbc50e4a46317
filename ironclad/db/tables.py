"""The tables. Migrations make them (`migrations/`); a test holds the two together."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from ironclad.db import access_tables, notify_tables  # noqa: F401 - so that whoever knows these tables knows all of them
from ironclad.db.columns import UTC
from ironclad.db.columns import document as _json
from ironclad.db.columns import moment as _time

SCHEMA_VERSION = 1
"""Written into every job, marker and receipt; raised when their meaning changes."""


class Job(SQLModel, table=True):
    """One source file on its way through the pipeline."""

    __tablename__ = "job"

    job_uuid: UUID = Field(primary_key=True)
    user_id: str
    trace_id: str
    schema_version: int = SCHEMA_VERSION
    state: str
    stage: str
    pool: str
    engine_pool: str = "cpu"
    priority: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    fair_key: int = Field(default=0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"})
    held: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    cancel_requested: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})

    attempt: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    failures: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    lease_token: UUID | None = None
    lease_expires_at: datetime | None = _time()
    worker: str | None = None
    not_before: datetime | None = _time()
    dispatched_at: datetime | None = _time()
    dispatch_seq: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    run_id: str | None = None

    source_path: str
    source_path_raw: bytes
    source_key: str | None = None
    source_size: int = Field(sa_type=sa.BigInteger)
    source_mtime_ns: int = Field(sa_type=sa.BigInteger)
    watch_root: str | None = None
    relative_path: str
    ingest_mode: str
    archive_name: str
    content_hash: str | None = None

    engine: str
    output_format: str
    stems: list[str] = _json("[]")
    parameters: dict[str, Any] = _json()
    options: dict[str, Any] = _json()

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    duration_seconds: float | None = None
    progress: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})

    error_code: str | None = None
    error: dict[str, Any] | None = _json(None)
    filed: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    """Whether the original of a failed job has been moved to error/."""

    created_at: datetime | None = _time(nullable=False, default=True)
    queued_at: datetime | None = _time()
    started_at: datetime | None = _time()
    finished_at: datetime | None = _time()
    updated_at: datetime | None = _time(nullable=False, default=True)

    __table_args__ = (
        # The claim and dispatch queries walk this index in order and stop at the first free row.
        sa.Index(
            "job_queue", "pool", sa.text("priority DESC"), "fair_key", "job_uuid",
            postgresql_where=sa.text("state = 'queued' AND NOT held AND dispatched_at IS NULL"),
        ),
        sa.Index(
            "job_dispatched", "dispatched_at",
            postgresql_where=sa.text("state = 'queued' AND dispatched_at IS NOT NULL"),
        ),
        sa.Index("job_lease", "lease_expires_at", postgresql_where=sa.text("state = 'running'")),
        sa.Index("job_due", "not_before", postgresql_where=sa.text("state = 'waiting_retry'")),
        # Lists are paged by job_uuid, which is the order of creation.
        sa.Index("job_state", "state", "job_uuid"),
        sa.Index("job_user", "user_id", "job_uuid"),
        sa.Index(
            "job_user_queue", "pool", "user_id", "priority", "fair_key", postgresql_where=sa.text("state = 'queued'")
        ),
        sa.Index(
            "job_withdrawn", "dispatched_at",
            postgresql_where=sa.text("state = 'cancelled' AND dispatched_at IS NOT NULL"),
        ),
        sa.Index(
            "job_unfiled", "job_uuid", postgresql_where=sa.text("state IN ('failed', 'quarantined') AND NOT filed")
        ),
        # Views: the oldest waiting job of a pool, held jobs, what ended lately.
        sa.Index("job_waiting", "pool", "queued_at", postgresql_where=sa.text("state = 'queued'")),
        sa.Index("job_held", "job_uuid", postgresql_where=sa.text("held")),
        sa.Index("job_finished", "finished_at", "job_uuid", postgresql_include=["state"]),
        sa.Index("job_content", "content_hash"),
        # For `ironclad why`; a hash, because paths may be longer than a B-tree's entries.
        sa.Index("job_source_path", "source_path_raw", postgresql_using="hash"),
        sa.Index("job_created", "created_at"),
        # The same file of a root is claimed once; in move mode the name is free again after the claim.
        sa.Index(
            "job_source", "source_key", unique=True,
            postgresql_where=sa.text(
                "source_key IS NOT NULL AND (state = 'received' OR ingest_mode IN ('copy', 'link'))"
            ),
        ),
        sa.CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="job_running_has_lease"),
        sa.CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", name="job_running_has_expiry"),
        sa.CheckConstraint("state <> 'waiting_retry' OR not_before IS NOT NULL", name="job_retry_has_time"),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name="job_progress_range"),
    )  # fmt: skip


class JobEvent(SQLModel, table=True):
    """What happened to a job, in order: audit trail, feed and outbox."""

    __tablename__ = "job_event"

    id: int | None = Field(default=None, primary_key=True, sa_type=sa.BigInteger)
    job_uuid: UUID = Field(foreign_key="job.job_uuid", ondelete="CASCADE")
    at: datetime | None = _time(nullable=False, default=True)
    kind: str
    from_state: str | None = None
    to_state: str | None = None
    attempt: int
    stage: str | None = None
    actor: str
    data: dict[str, Any] = _json()

    __table_args__ = (sa.Index("job_event_job", "job_uuid", "id"), sa.Index("job_event_at", "at"))


class Attempt(SQLModel, table=True):
    """One attempt: who held the lease, and how it ended."""

    __tablename__ = "attempt"

    job_uuid: UUID = Field(primary_key=True, foreign_key="job.job_uuid", ondelete="CASCADE")
    attempt: int = Field(primary_key=True)
    worker: str
    process: str | None = None
    """The process that holds the lease (`ironclad.processes.me`), so that its death is seen before the lease ends."""
    pool: str
    run_id: str | None = None
    first_stage: str
    started_at: datetime | None = _time(nullable=False, default=True)
    ended_at: datetime | None = _time()
    outcome: str | None = None
    error_code: str | None = None

    __table_args__ = (
        # One live attempt a job, whatever the code does.
        sa.Index("attempt_live", "job_uuid", unique=True, postgresql_where=sa.text("ended_at IS NULL")),
    )


class StageRun(SQLModel, table=True):
    """One run of one stage in one attempt."""

    __tablename__ = "stage_run"

    job_uuid: UUID = Field(primary_key=True, foreign_key="job.job_uuid", ondelete="CASCADE")
    attempt: int = Field(primary_key=True)
    stage: str = Field(primary_key=True)
    state: str
    """running, done, reused (its marker matched) or failed."""
    progress: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    message: str | None = None
    inputs_digest: str | None = None
    error_code: str | None = None
    started_at: datetime | None = _time(nullable=False, default=True)
    ended_at: datetime | None = _time()
    data: dict[str, Any] = _json()

    __table_args__ = (
        # Jobs whose tags or cover wait for a service that did not answer (`ironclad retag --pending`).
        sa.Index(
            "stage_run_pending", "job_uuid",
            postgresql_where=sa.text(
                "stage = 'metadata' AND (data->'lookup'->>'status' = 'unavailable' OR data->>'cover' = 'unavailable')"
            ),
        ),
    )  # fmt: skip


class Artifact(SQLModel, table=True):
    """A file in the library: recorded as intent before it is published."""

    __tablename__ = "artifact"

    artifact_uuid: UUID = Field(primary_key=True)
    job_uuid: UUID = Field(foreign_key="job.job_uuid", ondelete="CASCADE", index=True)
    attempt: int
    kind: str
    """The stem (instrumental, vocals …), or with the stem that it belongs to, `receipt:…` or `cover:…`."""
    path: str
    size: int = Field(sa_type=sa.BigInteger)
    blake3: str
    state: str
    """intent, published or superseded."""
    receipt: dict[str, Any] | None = _json(None)
    created_at: datetime | None = _time(nullable=False, default=True)
    published_at: datetime | None = _time()

    __table_args__ = (
        # Two jobs never own the same name; letter case does not make a name (SMB, macOS).
        sa.Index(
            "artifact_path", sa.text("lower(path)"), unique=True, postgresql_where=sa.text("state <> 'superseded'")
        ),
        # What the linter compares a new file with: the files of its album, and those in its folder.
        sa.Index(
            "artifact_album", sa.text("((receipt -> 'servers') ->> 'album_key')"),
            postgresql_where=sa.text("state = 'published'"),
        ),
        sa.Index(
            "artifact_folder", sa.text("regexp_replace(path, '/[^/]*$', '')"),
            postgresql_where=sa.text("state = 'published'"),
        ),
        sa.CheckConstraint("state IN ('intent', 'published', 'superseded')", name="artifact_state"),
    )  # fmt: skip


class Observation(SQLModel, table=True):
    """What a watcher knows about a file that is not a job (yet); it survives restarts."""

    __tablename__ = "observation"

    root: str = Field(primary_key=True)
    path_raw: bytes = Field(primary_key=True)
    path: str
    size: int = Field(sa_type=sa.BigInteger)
    mtime_ns: int = Field(sa_type=sa.BigInteger)
    source_key: str
    status: str
    """growing, ignored, claimed, refused or gone."""
    reason: str | None = None
    job_uuid: UUID | None = None
    first_seen_at: datetime | None = _time(nullable=False, default=True)
    changed_at: datetime | None = _time(nullable=False, default=True)


class Pool(SQLModel, table=True):
    """A work pool: whether it is paused, and how many flow runs it may have in flight."""

    __tablename__ = "pool"

    name: str = Field(primary_key=True)
    slots: int
    paused: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    updated_at: datetime | None = _time(nullable=False, default=True)


class Control(SQLModel, table=True):
    """Switches of the whole installation (pipeline paused, disk low …)."""

    __tablename__ = "control"

    name: str = Field(primary_key=True)
    value: dict[str, Any] = _json()
    updated_at: datetime | None = _time(nullable=False, default=True)


class Transition(SQLModel, table=True):
    """The legal transitions, for the guard in the database; written by migrations only."""

    __tablename__ = "job_transition"

    from_state: str = Field(primary_key=True)
    to_state: str = Field(primary_key=True)


class Worker(SQLModel, table=True):
    """A service that reports: a worker, the dispatcher, a watcher."""

    __tablename__ = "worker"

    name: str = Field(primary_key=True)
    kind: str
    host: str
    pid: int
    pool: str | None = None
    started_at: datetime | None = _time(nullable=False, default=True)
    seen_at: datetime | None = _time(nullable=False, default=True)
    data: dict[str, Any] = _json()


class Health(SQLModel, table=True):
    """How a component of a service is."""

    __tablename__ = "health"

    service: str = Field(primary_key=True)
    component: str = Field(primary_key=True)
    status: str
    """ok, degraded or failed."""
    detail: str
    remedy: str
    since: datetime = Field(sa_type=UTC, nullable=False)


class HealthEvent(SQLModel, table=True):
    """A component of a service became better or worse."""

    __tablename__ = "health_event"

    id: int | None = Field(default=None, primary_key=True, sa_type=sa.BigInteger)
    at: datetime = Field(sa_type=UTC, nullable=False, index=True)
    service: str
    component: str
    from_status: str | None = None
    to_status: str
    detail: str
    remedy: str


class ServiceGate(SQLModel, table=True):
    """When the next request to a public service may go out, for the whole installation."""

    __tablename__ = "service_gate"

    name: str = Field(primary_key=True)
    next_at: datetime = Field(sa_type=UTC, nullable=False)


class ServiceAnswer(SQLModel, table=True):
    """An answer of a public service, by the SHA-256 of its key; without content the service knew nothing."""

    __tablename__ = "service_answer"

    digest: bytes = Field(primary_key=True)
    key: str
    content: bytes | None = None
    expires_at: datetime = Field(sa_type=UTC, nullable=False)

    __table_args__ = (sa.Index("service_answer_expiry", "expires_at"),)
