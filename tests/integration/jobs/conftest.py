"""A queue to work on: real jobs in every state, time that can be stepped, raw SQL."""

from __future__ import annotations

import importlib.util
import itertools
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from ironclad.config import load
from ironclad.db.session import Database
from ironclad.errors import EngineFailed, NotAudio
from ironclad.jobs import control, lease, reap, submit, transition
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator
    from types import ModuleType
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.tables import Job

POOLS = frozenset({"cpu"})
LEASE = 30.0
BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "job_queue.py"

BULK = (
    "INSERT INTO job (job_uuid, user_id, trace_id, schema_version, state, stage, pool, engine_pool, priority, fair_key,"
    " source_path, source_path_raw, source_size, source_mtime_ns, relative_path, ingest_mode, archive_name, engine,"
    " output_format, content_hash, title, queued_at) "
    "SELECT gen_random_uuid(), :user, repeat('a', 32), 1, 'queued', 'validate', :pool, 'cpu', :priority, :first + n,"
    " '/songs/' || n, '/songs', 1, 1, 'song', 'move', 'original.flac', 'center', 'auto', 'h' || n, 'Song ' || n,"
    " ironclad_now() FROM generate_series(0, :count - 1) AS n"
)


class Workbench:
    """What the tests of the queue do all the time."""

    def __init__(self, database: Database, settings: Settings, folder: Path) -> None:
        self.database = database
        self.settings = settings
        self._folder = folder
        self._numbers = itertools.count()
        self._stepped: list[Database] = []

    def session(self) -> contextlib.AbstractContextManager[Session]:
        return self.database.session()

    def new(self, user: str = "ana", content: bytes | None = None, **fields: Any) -> submit.NewJob:
        """A file with bytes of its own (or `content`), not submitted yet."""
        number = next(self._numbers)
        file = self._folder / f"song-{number}.flac"
        file.write_bytes(content or file.name.encode())
        fields.setdefault("relative_path", file.name)
        return submit.NewJob(user_id=user, source=file, stat=file.stat(), **fields)

    def job(self, state: str = "queued", *, user: str = "ana", **fields: Any) -> UUID:
        """A job that came into `state` by the real calls."""
        new = self.new(user, **fields)
        with self.session() as session:
            job = submit.receive(session, new, self.settings).job_uuid
        if state == "received":
            return job
        with self.session() as session:
            submit.claimed(session, job, f"hash-of-{new.source.name}")
        if state == "queued":
            return job
        if state == "cancelled":
            with self.session() as session:
                control.cancel(session, job, actor="user:ana")
            return job
        fence = self.claim(job).fence
        with self.session() as session:
            if state == "waiting_retry":
                lease.fail(session, fence, EngineFailed("no"), actor="worker", settings=self.settings.jobs)
            elif state != "running":
                error = None if state == "succeeded" else NotAudio("no")
                lease.finish(session, fence, JobState(state), actor="worker", error=error)
        return job

    def claim(self, job: UUID, *, lease_seconds: float = LEASE, **more: Any) -> lease.Claim:
        """Begin the job's next attempt."""
        with self.session() as session:
            attempt = transition.load(session, job).attempt + 1
            claim = lease.claim(session, job, attempt, worker="w1", lease_seconds=lease_seconds, **more)
        assert claim is not None
        return claim

    def claim_next(self, pool: str = "cpu") -> lease.Claim | None:
        with self.session() as session:
            return lease.claim_next(session, pool, worker="w1", lease_seconds=LEASE)

    def row(self, job: UUID) -> Job:
        with self.session() as session:
            return transition.load(session, job)

    def state(self, job: UUID) -> str:
        return self.row(job).state

    def events(self, job: UUID) -> list[str]:
        rows = self.rows("SELECT kind FROM job_event WHERE job_uuid = :job ORDER BY id", job=job)
        return [row.kind for row in rows]

    def rows(self, statement: str, **values: Any) -> list[Any]:
        """Run raw SQL in its own transaction."""
        with self.session() as session:
            result = session.execute(sa.text(statement), values)
            return list(result) if result.returns_rows else []  # type: ignore[attr-defined]

    def one(self, statement: str, **values: Any) -> Any:
        return self.rows(statement, **values)[0][0]

    def clock(self) -> float:
        """The database's, in seconds."""
        return float(self.one("SELECT extract(epoch FROM ironclad_now())"))

    def earliest(self, moment: str) -> float:
        """The earliest of such moments of all jobs, by that clock."""
        return float(self.one(f"SELECT extract(epoch FROM min({moment})) FROM job"))

    @staticmethod
    def between(moment: float, before: float, after: float) -> bool:
        """Whether it lies there, rounding aside."""
        return before - 0.01 <= moment <= after + 0.01

    def bulk(self, count: int, *, user: str = "ana", pool: str = "cpu", priority: int = 0, first: int = 0) -> None:
        """Many queued jobs at once."""
        self.rows(BULK, user=user, pool=pool, priority=priority, first=first, count=count)

    def later(self, seconds: float) -> Database:
        """The same database, `seconds` in the future."""
        database = Database(self.database.url.render_as_string(hide_password=False), clock_offset=f"{seconds} seconds")
        self._stepped.append(database)
        return database

    def reap(self, *, after: float = 0.0) -> reap.Reaped:
        """One pass of the reaper, `after` seconds from now."""
        result = reap.Reaped()
        with self.later(after).session() as session:
            reap.expired(session, self.settings.jobs, result)
            reap.due(session, result)
        return result

    def close(self) -> None:
        for database in self._stepped:
            database.close()


def administer(url: str, *statements: sql.SQL | sql.Composed) -> None:
    """Run statements outside of a transaction."""
    with psycopg.connect(Database(url).dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture(scope="package")
def shared_url(server_url: str, template: str) -> Iterator[str]:
    """One database for this folder: emptying its tables is ten times faster than making a new one."""
    name = f"jobs_{secrets.token_hex(4)}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    administer(server_url, create)
    yield sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    administer(server_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="package")
def janitor(shared_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that empties the shared database."""
    with psycopg.connect(Database(shared_url).dsn, autocommit=True, application_name="janitor") as connection:
        connection.execute("SET lock_timeout = '60s'")
        yield connection


@pytest.fixture
def database_url(shared_url: str, janitor: psycopg.Connection[Any]) -> str:
    """The shared database, empty."""
    few = janitor.execute("SELECT count(*) < 1000 FROM (SELECT FROM job LIMIT 1000) AS found").fetchone()
    if few is not None and few[0]:  # deleting little is much faster than making new files
        janitor.execute("DELETE FROM job; DELETE FROM observation; DELETE FROM pool; DELETE FROM control")
        janitor.execute("DELETE FROM worker")
    else:
        janitor.execute("TRUNCATE job, job_event, attempt, stage_run, artifact, observation, pool, control, worker")
    return shared_url


@pytest.fixture(scope="package")
def shared_database(shared_url: str) -> Iterator[Database]:
    """Its connections, kept open."""
    database = Database(shared_url)
    yield database
    database.close()


@pytest.fixture
def database(shared_database: Database, database_url: str) -> Database:
    """The shared database, empty."""
    return shared_database


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """Settings only: the queue touches no file, and making the folders durably costs more than most tests."""
    return load(environ=environment)


@pytest.fixture
def bench(database: Database, settings: Settings, tmp_path: Path) -> Iterator[Workbench]:
    folder = tmp_path / "songs"
    folder.mkdir()
    bench = Workbench(database, settings, folder)
    yield bench
    bench.close()


@pytest.fixture(scope="session")
def bulk_statement() -> str:
    """Inserts :count queued jobs of :user."""
    return BULK


@pytest.fixture(scope="session")
def queue_benchmark() -> ModuleType:
    """benchmarks/job_queue.py as a module."""
    spec = importlib.util.spec_from_file_location("job_queue_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
