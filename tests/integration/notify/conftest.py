"""A notifier's workshop: one database for the folder, jobs that fail, a clock that is stepped."""

from __future__ import annotations

import itertools
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from ironclad.cli import queueing
from ironclad.cli.queueing import Found, Wishes
from ironclad.config import load
from ironclad.db.session import Database
from ironclad.jobs import lease, notices
from ironclad.jobs.states import JobState
from ironclad.notify import channels
from ironclad.notify.courier import Courier
from ironclad.notify.planner import Planner
from ironclad.sections import NotifySettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from ironclad.config import Settings
    from ironclad.errors import IroncladError

TABLES = (
    "job, job_event, attempt, stage_run, artifact, observation, pool, control, worker, "
    "notice, notification, alert, notify_group, message, notify_channel, silence, health, health_event"
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
        janitor.execute("SET lock_timeout = '60s'")
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


class Desk:
    """Publishes, plans and delivers at moments of its own choosing."""

    def __init__(self, database: Database, **notify: Any) -> None:
        self.database = database
        self.now = datetime.now(UTC)
        self.settings = NotifySettings.model_validate(notify)
        self.planner = Planner(database, self.settings, clock=self.clock)
        self.planner.begin()
        self.ids = itertools.count(1)

    def clock(self, _session: Any = None) -> datetime:
        return self.now

    def later(self, seconds: float) -> Desk:
        self.now += timedelta(seconds=seconds)
        return self

    def publish(self, kind: str = "job_failed", alert: str | None = None, status: str = "firing", **more: Any) -> int:
        number = next(self.ids)
        key = alert or f"{kind}:{number}"
        labels = {"code": "E_NOT_AUDIO", "stage": "validate", **more.pop("labels", {})}
        data = {"name": f"event-{number:06}", "code": labels["code"], **more.pop("data", {})}
        with self.database.session() as session:
            notice = notices.Notice(kind, key, notices.Status(status), labels=labels, data=data, **more)
            found = notices.publish(session, notice)
            session.execute(sa.text("UPDATE notice SET at = :now WHERE id = :id"), {"now": self.now, "id": found})
        return found

    def plan(self, seconds: float = 0.0) -> list[Any]:
        """Step until nothing is left to do, now and after so many seconds; the messages that were made."""
        before = {row.message_uuid for row in self.messages()}
        for wait in (0.0, seconds):
            self.later(wait)
            while not self.planner.step().idle:
                pass
        return [row for row in self.messages() if row.message_uuid not in before]

    def messages(self) -> list[Any]:
        return self.rows("SELECT * FROM message ORDER BY made_at, message_uuid")

    def states(self) -> list[tuple[str, str | None]]:
        rows = self.rows("SELECT state, reason FROM notification ORDER BY notice_id, channel")
        return [(row.state, row.reason) for row in rows]

    def rows(self, statement: str, **values: Any) -> list[Any]:
        with self.database.session() as session:
            result = session.execute(sa.text(statement), values)
            return list(result) if result.returns_rows else []  # type: ignore[attr-defined]  # a cursor's has it

    def restart(self, **notify: Any) -> None:
        """A new notifier, with other settings if any are given."""
        if notify:
            self.settings = NotifySettings.model_validate(notify)
        self.planner = Planner(self.database, self.settings, clock=self.clock)
        self.planner.begin()

    def courier(self, name: str, **options: Any) -> Courier:
        options.setdefault("uniform", lambda _low, high: high)
        return Courier(
            self.database, self.settings, name, channels.kinds(self.settings), clock=self.clock, **options
        )  # fmt: skip


@pytest.fixture
def desk(database: Database) -> Callable[..., Desk]:
    """`desk(channels={…}, routes=[…])` makes a notifier whose clock the test steps; one channel `ops` by default."""

    def make(**notify: Any) -> Desk:
        return Desk(database, **{"channels": {"ops": {"url": "json://127.0.0.1:9/"}}, "timezone": "UTC", **notify})

    return make
