"""Dumps on servers before PostgreSQL 17: pg_restore's script without the one setting they refuse, all or nothing.

The script is played on whichever server the tests have; on an old one (`IRONCLAD_TEST_DATABASE_URL`) everything else
that restores goes this way, too.
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING

import psycopg
import pytest
import roles
import sqlalchemy as sa

from ironclad.db import embedded, schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.errors import DatabaseUnavailable
from ironclad.ops import backup, drill, pgtools

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings

LINE = "SET transaction_timeout = 0;"
KEEP = ("--no-owner", "--no-privileges")
HEADER = f"""--
-- PostgreSQL database dump
--

\\restrict aB3

-- Dumped from database version 15.18

BEGIN;

SET statement_timeout = 0;
{LINE}
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
SET default_tablespace = '';

--
-- Name: note; Type: TABLE; Schema: public
--

"""
BODY = f"""CREATE TABLE public.note (line text);
COPY public.note (line) FROM stdin;
{LINE}
\\.
{LINE}
COMMIT;
"""


def filtered(script: str) -> str:
    return b"".join(pgtools.without_transaction_timeout(io.BytesIO(script.encode()))).decode()


def test_the_setting_goes_from_the_header_and_nothing_from_what_follows() -> None:
    assert filtered(HEADER + BODY) == HEADER.replace(f"{LINE}\n", "") + BODY
    assert filtered(BODY) == BODY
    assert filtered("") == ""
    assert filtered(LINE) == LINE, "half a line is not the line"
    other = HEADER.replace("transaction_timeout", "transaction_timeouts")
    assert filtered(other) == other, "no other setting is dropped"


def put(database: Database, statement: str) -> None:
    with database.session() as session:
        session.execute(sa.text(statement))


def lines(database: Database) -> list[str]:
    with database.session() as session:
        return list(session.scalars(sa.text("SELECT line FROM note ORDER BY number")))


@pytest.fixture
def noted(database: Database) -> Database:
    """A database with a table in whose data a line is the very one that is taken out of a script's header."""
    put(database, "CREATE TABLE note (number serial, line text)")
    put(database, f"INSERT INTO note (line) SELECT '{LINE}' FROM generate_series(1, 3)")
    put(database, "CREATE TABLE bare (line text)")
    put(database, f"INSERT INTO bare VALUES ('{LINE}')")
    return database


def test_a_script_brings_back_every_row_and_replaces_what_is_there(noted: Database, settings: Settings) -> None:
    path = backup.dump(settings, noted)
    manifest = drill.find(settings, path.name)[1]
    put(noted, "UPDATE note SET line = 'changed'")
    put(noted, "DROP TABLE bare")
    pgtools.restore_script(noted.dsn, path, *KEEP, "--clean", "--if-exists")
    assert drill.compare(noted, manifest) == []
    assert lines(noted) == [LINE] * 3
    with noted.session() as session:
        assert session.scalar(sa.text("SELECT line FROM bare")) == LINE


def test_a_statement_that_fails_undoes_all(noted: Database, settings: Settings) -> None:
    path = backup.dump(settings, noted)
    put(noted, "UPDATE note SET line = 'changed'")
    put(noted, "CREATE VIEW on_note AS SELECT line FROM note")
    with pytest.raises(DatabaseUnavailable, match=r"psql failed: .*cannot drop table"):
        pgtools.restore_script(noted.dsn, path, *KEEP, "--clean", "--if-exists")
    assert lines(noted) == ["changed"] * 3
    with pytest.raises(DatabaseUnavailable, match=r"psql failed: .*already exists"):
        pgtools.restore_script(noted.dsn, path, *KEEP)
    assert lines(noted) == ["changed"] * 3


def test_a_damaged_archive_undoes_all(noted: Database, settings: Settings) -> None:
    # Bytes that do not shrink, so that the archive breaks off among the data, when tables are dropped and made.
    put(noted, "INSERT INTO note (line) SELECT string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 20000)")
    path = backup.dump(settings, noted)
    before = drill.find(settings, path.name)[1]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatabaseUnavailable, match="pg_restore failed"):
        pgtools.restore_script(noted.dsn, path, *KEEP, "--clean", "--if-exists")
    assert drill.compare(noted, before) == []


def fake(folder: Path, text: str) -> Path:
    """The package's programs, but a pg_restore that says `text` and ends badly where the first line asks for it."""
    for program in ("psql", "pg_dump"):
        (folder / program).symlink_to(embedded.binaries() / program)
    program = folder / "pg_restore"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {int('FAIL' in text)}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("BEGIN;\nSET no_such_setting = 0;\nUPDATE note SET line = 'new';\nCOMMIT;\n", "no_such_setting"),
        ("BEGIN;\nUPDATE note SET line = 'new';\nCOMMIT;\n-- FAIL\n", "pg_restore failed"),
        ("BEGIN;\nUPDATE note SET line = 'new';\nCOPY note (line) FROM stdin;\nhalf\n-- FAIL\n", "pg_restore failed"),
        ("\\nonsense\n", "nonsense"),
    ],
    ids=["another setting", "after its end", "amid data", "a command"],
)
def test_nothing_else_is_passed_over(
    noted: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    folder = fake(tmp_path, script)
    monkeypatch.setattr(pgtools, "binaries", lambda: folder)
    with pytest.raises(DatabaseUnavailable, match=words):
        pgtools.restore_script(noted.dsn, tmp_path / "any.dump")
    assert lines(noted) == [LINE] * 3


def test_the_password_is_in_no_argument(
    noted: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server_url: str
) -> None:
    seen = tmp_path / "seen"
    (tmp_path / "psql").write_text(f'#!/bin/sh\nenv > {seen}\necho "$@" > {seen}.words\ncat > /dev/null\n')
    (tmp_path / "pg_restore").write_text("#!/bin/sh\necho\n")
    for program in ("psql", "pg_restore"):
        (tmp_path / program).chmod(0o755)
    monkeypatch.setattr(pgtools, "binaries", lambda: tmp_path)
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    dsn = "postgresql://ana:pa%3Ass@127.0.0.1:1/music?sslmode=require&channel_binding=disable&connect_timeout=7"
    pgtools.restore_script(dsn, tmp_path / "any.dump")
    environment = dict(line.split("=", 1) for line in seen.read_text().splitlines() if line.startswith("PG"))
    assert environment == {
        "PGUSER": "ana", "PGPASSWORD": "pa:ss", "PGHOST": "127.0.0.1", "PGPORT": "1", "PGDATABASE": "music",
        "PGSSLMODE": "require", "PGCHANNELBINDING": "disable", "PGCONNECT_TIMEOUT": "7",
        **{name: value for name, value in os.environ.items() if name.startswith("PG") and name != "PGOPTIONS"},
    }  # fmt: skip
    assert "pa" not in (seen.with_suffix(".words").read_text()).split()
    assert "pa:ss" not in seen.with_suffix(".words").read_text()


def test_the_embedded_database_moves_to_a_server(settings: Settings, tmp_path: Path, server_url: str) -> None:
    """As docs/operations.md tells: a dump of the one is restored into an empty database of the other, as its owner."""
    server = EmbeddedServer(tmp_path / "old" / "postgres", {"fsync": "off"})
    server.start()
    old = Database(server.url(), server)
    try:
        schema.ensure(old)
        put(old, "INSERT INTO control (name, value) VALUES ('moved', '{\"by\": \"dump\"}')")
        path = backup.dump(settings, old)
    finally:
        old.close()
    with roles.owned_database(server_url, "hush") as url:
        new = Database(url)
        try:
            assert drill.restore(settings, new, path.name) == (path, None)
            schema.check(new)
            with new.session() as session:
                assert session.scalar(sa.text("SELECT value ->> 'by' FROM control WHERE name = 'moved'")) == "dump"
        finally:
            new.close()
        with psycopg.connect(url) as connection:
            owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
            assert owners.fetchall() == [(sa.make_url(url).username,)]
