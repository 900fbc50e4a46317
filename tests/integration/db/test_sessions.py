"""Connections: spellings of a URL, errors in the catalogue's words, patience, JSON, the stepped clock."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from ironclad.config import load
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.db.tables import Control
from ironclad.errors import ConfigError, DatabaseUnavailable, DiskFull

if TYPE_CHECKING:
    from pathlib import Path

    from sqlmodel import Session


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
def test_any_spelling_of_the_url_will_do(scheme: str) -> None:
    database = Database(f"{scheme}://user:p%40ss@host:5433/name?sslmode=require")
    assert database.url.drivername == "postgresql+psycopg"
    assert (database.url.username, database.url.password, database.url.port) == ("user", "p@ss", 5433)
    assert database.dsn.startswith("postgresql://user:p%40ss@host:5433/name?")
    assert dict(database.url.query) == {
        "sslmode": "require", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3",
        "tcp_user_timeout": "30000",
    }  # fmt: skip
    database.close()


def test_keepalives_may_be_chosen() -> None:
    database = Database("postgresql://user@host/name?keepalives_idle=5")
    assert "keepalives_idle=5" in database.dsn
    database.close()


@pytest.mark.parametrize("url", ["mysql://u:secret@h/n", "not a url with secret", "sqlite:///secret.db", ""])
def test_another_database_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_a_process_that_was_frozen_in_a_transaction_connects_again(database: Database) -> None:
    """The server ends the connection meanwhile, which is an outage for whoever thaws, not an end."""
    frozen = Database(database.dsn, idle_seconds=0.2)
    ended: list[int] = []

    def is_there(pid: int) -> bool:
        with database.session() as other:
            found = other.scalar(sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid})
        return bool(found)

    def freeze() -> None:
        with frozen.session() as session:
            pid = session.scalars(sa.text("SELECT pg_backend_pid()")).one()
            while is_there(pid):
                pass
            ended.append(pid)
            session.execute(sa.text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable, match=r"idle-in-transaction|closed the connection"):
        freeze()
    assert ended
    with frozen.session() as session:
        assert session.scalar(sa.text("SELECT 1")) == 1
    frozen.close()


def test_a_session_commits_at_its_end_and_not_on_an_error(database: Database) -> None:
    with database.session() as session:
        session.execute(sa.text("INSERT INTO control (name) VALUES ('kept')"))

    def fail() -> None:
        with database.session() as session:
            session.execute(sa.text("INSERT INTO control (name) VALUES ('lost')"))
            raise DiskFull("no")

    with pytest.raises(DiskFull):
        fail()
    with database.session() as session:
        assert session.scalars(sa.text("SELECT name FROM control")).all() == ["kept"]


def test_an_unreachable_server_is_told_in_one_line() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable) as caught, database.session() as session:
        session.execute(sa.text("SELECT 1"))
    assert "\n" not in str(caught.value)
    assert caught.value.retryable
    with pytest.raises(DatabaseUnavailable), database.connection():
        pass
    with pytest.raises(DatabaseUnavailable):
        schema.upgrade(database)
    database.close()


def test_a_connection_that_was_cut_is_made_again(database: Database) -> None:
    with database.session() as session:
        pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
    with psycopg.connect(database.dsn, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with database.session() as session:
        assert session.scalar(sa.text("SELECT pg_backend_pid()")) != pid


def test_a_connection_cut_in_a_transaction_is_unavailability(database: Database) -> None:
    def cut() -> None:
        with database.session() as session:
            pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
            with psycopg.connect(database.dsn, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            session.execute(sa.text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        cut()


def test_all_connections_in_use_is_unavailability(database_url: str) -> None:
    database = Database(database_url)
    database.engine.dispose()
    database.engine = sa.create_engine(database.url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with database.session() as holder:
        holder.execute(sa.text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable, match="in use"), database.session() as session:
            session.execute(sa.text("SELECT 1"))
    database.close()


def test_json_columns_take_what_python_has(database: Database) -> None:
    with database.session() as session:
        session.add(Control(name="odd", value={"low": float("-inf"), "name": "\udcff\x00", "set": {1}}))
    with database.session() as session:
        stored = session.get(Control, "odd")
        assert stored is not None
        assert stored.value == {"low": None, "name": "\\xff\\x00", "set": [1]}


def test_patience_ends_with_success_or_with_time() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    calls: list[int] = []

    def third_time() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise DatabaseUnavailable("not yet")
        return "there"

    assert database.patiently(third_time, seconds=60) == "there"

    def never() -> str:
        raise DatabaseUnavailable("down")

    with pytest.raises(DatabaseUnavailable, match="down"):
        database.patiently(never, seconds=0.2)

    def broken() -> str:
        raise DiskFull("another matter")

    with pytest.raises(DiskFull):
        database.patiently(broken, seconds=60)
    database.close()


def test_the_clock_can_be_stepped_per_database(database: Database, database_url: str) -> None:
    now = sa.text("SELECT extract(epoch FROM ironclad_now())::float")
    for offset, seconds in (("40 seconds", 40), ("-1 hour", -3600), ("2 days 3 minutes", 172980)):
        stepped = Database(database_url, clock_offset=offset)
        with database.session() as here:
            before = here.scalar(now)
            with stepped.session() as there:
                found = there.scalar(now)
            assert before + seconds <= found <= here.scalar(now) + seconds
        stepped.close()


def test_the_clock_moves_within_a_transaction(database: Database) -> None:
    def now(session: Session) -> float:
        return float(session.scalar(sa.text("SELECT extract(epoch FROM ironclad_now())::float")) or 0)

    with database.session() as session:
        first = now(session)
        session.execute(sa.text("SELECT pg_sleep(0.01)"))
        assert now(session) > first


def test_opening_by_the_settings(database_url: str, environment: dict[str, str]) -> None:
    database = Database.open(load(environ=environment))
    assert database.server is None
    schema.check(database)
    database.close()


def test_opening_without_a_url_starts_and_shares_the_embedded_server(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del environment["IRONCLAD_DATABASE_URL"]
    settings = load(environ=environment)
    started: list[Path] = []
    released: list[Path] = []
    monkeypatch.setattr(EmbeddedServer, "start", lambda self: started.append(self.folder))
    monkeypatch.setattr(EmbeddedServer, "release", lambda self: released.append(self.folder))
    database = Database.open(settings)
    assert started == [settings.layout.postgres]
    assert str(settings.layout.postgres) in str(database.url.query["host"])
    database.close()
    assert released == started


def test_threads_have_connections_of_their_own(database: Database) -> None:
    pids: set[int] = set()
    together = threading.Barrier(4)

    def one() -> None:
        with database.session() as session:
            together.wait(60)
            pids.add(int(session.scalar(sa.text("SELECT pg_backend_pid()")) or 0))
            together.wait(60)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
