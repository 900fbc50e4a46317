"""Fixtures of the whole suite: a real PostgreSQL, a fresh migrated database a test, settings on a temporary folder."""

from __future__ import annotations

import os
import secrets
import signal
import time
from typing import TYPE_CHECKING, Any

import hypothesis
import psycopg
import pytest
import schedule
import sqlalchemy as sa

from ironclad.config import Settings, load
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# How fast examples are made and tried says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")

# What a shell runs in the background ignores these, and so would every process that a test starts and interrupts.
for ignored in (number for number in (signal.SIGINT, signal.SIGQUIT) if signal.getsignal(number) is signal.SIG_IGN):
    signal.signal(ignored, signal.default_int_handler if ignored is signal.SIGINT else signal.SIG_DFL)

# Throw-away clusters need not survive a power cut.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> schedule.ByGroup | None:
    if config.getvalue("dist") != "loadgroup":
        return None
    config.option.loadscopereorder = False
    return schedule.ByGroup(config, log)


@pytest.hookimpl(trylast=True)  # after the order was made random
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = schedule.ordered(items)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for the whole run: the one of IRONCLAD_TEST_DATABASE_URL, else an embedded one of our own."""
    given = os.environ.get("IRONCLAD_TEST_DATABASE_URL")
    if given:
        yield given
        return
    server = EmbeddedServer(tmp_path_factory.mktemp("pg") / "postgres", FAST)
    server.start()
    yield server.url("postgres")
    server.release()


class Admin:
    """One connection for making and dropping databases: thousands of tests would open two each for it."""

    def __init__(self, url: str) -> None:
        self._dsn = Database(url).dsn
        self._connection: psycopg.Connection[Any] | None = None

    def __call__(self, statement: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                return self._execute(statement)
            except psycopg.errors.ObjectInUse:  # by a backend that was told to go; PostgreSQL gives it five seconds
                if time.monotonic() > deadline:
                    raise
            except psycopg.OperationalError:  # a test may have ended every connection there was
                self.close()
                return self._execute(statement)

    def _execute(self, statement: str) -> None:
        if self._connection is None:
            self._connection = psycopg.connect(self._dsn, autocommit=True)
        self._connection.execute(statement)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@pytest.fixture(scope="session")
def admin(server_url: str) -> Iterator[Admin]:
    """Executes statements on the server."""
    admin = Admin(server_url)
    yield admin
    admin.close()


def _with_name(url: str, name: str) -> str:
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def template(server_url: str, admin: Admin) -> Iterator[str]:
    """A migrated database that each test's database is a copy of."""
    name = f"template_{secrets.token_hex(4)}"
    admin(f'CREATE DATABASE "{name}"')
    database = Database(_with_name(server_url, name))
    schema.upgrade(database)
    database.close()
    yield name
    admin(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def database_url(server_url: str, admin: Admin, template: str) -> Iterator[str]:
    """The URL of a fresh migrated database."""
    name = f"test_{secrets.token_hex(6)}"
    admin(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield _with_name(server_url, name)
    admin(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh migrated database."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def environment(tmp_path: Path, database_url: str) -> dict[str, str]:
    """The settings of a test's installation, as environment variables (for child processes too)."""
    return {
        "IRONCLAD_DATA_DIR": str(tmp_path / "data"),
        "IRONCLAD_DATABASE_URL": database_url,
        "IRONCLAD_INGEST__STABILITY_SECONDS": "0.5",
        "IRONCLAD_SERVICES__BASE_PORT": "0",
        "IRONCLAD_PREFECT__PORT": "0",
        "IRONCLAD_POOLS__CPU__SLOTS": "2",
        "IRONCLAD_DISK__MIN_FREE_BYTES": "1000000",
    }


@pytest.fixture(scope="session")
def make_song() -> Callable[..., Path]:
    """`make_song(path, seconds=4.0, seed=1, **tags)` writes a tagged song with cover art (flac, mp3 or m4a)."""

    def write(path: Path, seconds: float = 4.0, seed: int = 1, **tags: Any) -> Path:
        from ironclad.audio import synth  # noqa: PLC0415 - most tests need no audio libraries

        song = synth.short_song(seconds, seed)
        given = {
            "title": "Blue", "artist": "Ana", "album": "Colours", "genre": "Pop", "date": "2020", "track": 1,
            "total": 9, **tags,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        synth.write_song(path, song.mixture, synth.Tags(**given), rate=song.rate, cover=synth.cover_art(seed, 64))
        return path

    return write


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """Settings on a temporary data folder (its folders made) and a fresh database."""
    settings = load(environ=environment)
    settings.layout.create()
    return settings
