"""A notifier's workshop: one database for the folder, jobs that fail, a clock that is stepped."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from ironclad.cli import queueing
from ironclad.cli.queueing import Found, Wishes
from ironclad.config import load
from ironclad.db.session import Database
from ironclad.jobs import lease
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from ironclad.config import Settings
    from ironclad.errors import IroncladError

TABLES = (
    "job, job_event, attempt, stage_run, artifact, observation, pool, control, worker, "
    "notice, notification, alert, notify_group, message, notify_channel, silence"
)


@pytest.fixture(scope="package")
def shared_url(server_url: str, template: str) -> Iterator[str]:
    """One database for this folder: emptying it is faster than making a new one."""
    name = f"notify_{secrets.token_hex(4)}"
    with psycopg.connect(Database(server_url).dsn, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')  # type: ignore[arg-type]  # a name of ours
    yield sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(Database(server_url).dsn, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]  # likewise


@pytest.fixture
def database_url(shared_url: str) -> str:
    """The shared database, empty."""
    with psycopg.connect(Database(shared_url).dsn, autocommit=True) as janitor:
        janitor.execute("SET lock_timeout = '10s'")
        for table in TABLES.split(", "):
            janitor.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]  # names of ours
    return shared_url


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """Settings only: most tests touch no file."""
    return load(environ=environment)


@pytest.fixture
def put(database: Database, settings: Settings, tmp_path: Path) -> Callable[..., UUID]:
    """`put("name")` queues a file with bytes of its own."""

    def queue(name: str = "song", **wishes: Any) -> UUID:
        file = tmp_path / f"{name}.mp3"
        file.write_bytes(name.encode())
        return queueing.queue(database, settings, Wishes(**wishes), Found(file, file.name)).job_uuid

    return queue


@pytest.fixture
def finish(database: Database) -> Callable[..., None]:
    """`finish(job, JobState.FAILED, error)` claims a queued job and ends its attempt."""

    def end(job_uuid: UUID, state: JobState = JobState.SUCCEEDED, error: IroncladError | None = None) -> None:
        with database.session() as session:
            claim = lease.claim(session, job_uuid, 1, worker="test", lease_seconds=30)
            assert claim is not None
        with database.session() as session:
            lease.finish(session, claim.fence, state, actor="test", error=error)

    return end
