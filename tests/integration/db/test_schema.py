"""Migrations: up, down, the same as the tables, one process at a time, and never behind an operator's back."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alembic.config
import alembic.script
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.errors import SchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIGRATIONS = Path(schema.__file__).parent / "migrations"


@pytest.fixture
def empty(server_url: str) -> Iterator[Callable[[], Database]]:
    """`empty()` makes a database with nothing in it."""
    admin = Database(server_url)
    made: list[Database] = []

    def run(statement: str) -> None:
        with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(statement))

    def new() -> Database:
        name = f"schema_{secrets.token_hex(5)}"
        run(f'CREATE DATABASE "{name}"')
        made.append(Database(sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)))
        return made[-1]

    yield new
    for database in made:
        database.close()
        run(f'DROP DATABASE "{database.url.database}" WITH (FORCE)')
    admin.close()


def scripts() -> alembic.script.ScriptDirectory:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return alembic.script.ScriptDirectory.from_config(config)


def contents(database: Database) -> dict[str, list[Any]]:
    """Everything the schema consists of, in the server's own words."""
    questions = {
        "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity "
        "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'",
        "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
        "AND tablename <> 'alembic_version'",
        "constraints": "SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid) "
        "FROM pg_constraint WHERE connamespace = 'public'::regnamespace "
        "AND conrelid::regclass::text <> 'alembic_version'",
    }
    with database.session() as session:
        return {name: sorted(map(tuple, session.execute(sa.text(sql)).all())) for name, sql in questions.items()}


def leftovers(database: Database) -> list[str]:
    with database.session() as session:
        names = session.scalars(
            sa.text(
                "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            )
        )
        return sorted(name for name in names if not name.startswith("alembic_version"))


def test_the_code_knows_the_newest_script() -> None:
    assert scripts().get_heads() == [schema.HEAD]


def test_the_tables_are_what_the_migrations_make(empty: Callable[[], Database]) -> None:
    migrated, declared = empty(), empty()
    schema.upgrade(migrated)
    with declared.session() as session:
        session.execute(sa.text("CREATE FUNCTION ironclad_now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'"))
    SQLModel.metadata.create_all(declared.engine)
    by_migration, by_tables = contents(migrated), contents(declared)
    for kind, expected in by_tables.items():
        assert by_migration[kind] == expected, kind


def test_alembic_finds_nothing_to_do(database: Database) -> None:
    with database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, SQLModel.metadata)
    assert [change for change in found if "alembic_version" not in str(change)] == []


def test_every_step_goes_up_and_down_and_up_again(empty: Callable[[], Database]) -> None:
    database = empty()
    revisions = [script.revision for script in reversed(list(scripts().walk_revisions()))]
    seen = []
    for revision in revisions:
        schema.upgrade(database, revision)
        assert schema.current(database) == revision
        seen.append(contents(database))
    for revision, expected in zip(reversed(revisions[:-1]), reversed(seen[:-1]), strict=True):
        schema.downgrade(database, revision)
        assert (schema.current(database), contents(database)) == (revision, expected)
    schema.downgrade(database, "base")
    assert (schema.current(database), leftovers(database)) == (None, [])
    schema.upgrade(database)
    assert contents(database) == seen[-1]
    schema.check(database)


def test_a_step_that_fails_leaves_the_step_before(empty: Callable[[], Database]) -> None:
    database = empty()
    with database.session() as session:
        session.execute(sa.text("CREATE TABLE stage_run (n int)"))  # in the way of the first migration
    with pytest.raises(sa.exc.ProgrammingError, match="stage_run"):
        schema.upgrade(database)
    assert (schema.current(database), leftovers(database)) == (None, ["stage_run"])


def test_an_empty_database_is_made_ready(empty: Callable[[], Database]) -> None:
    database = empty()
    with pytest.raises(SchemaMismatch, match="nothing"):
        schema.check(database)
    schema.ensure(database)
    assert schema.current(database) == schema.HEAD
    schema.ensure(database)
    schema.check(database)


@pytest.mark.parametrize("revision", ["0000", "9999"])
def test_an_operators_database_is_never_migrated_unasked(empty: Callable[[], Database], revision: str) -> None:
    database = empty()
    schema.upgrade(database)
    with database.session() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        session.execute(sa.text("COMMENT ON TABLE alembic_version IS 'ironclad min_code=99.0'"))
    with pytest.raises(SchemaMismatch, match=f"at {revision}, this version needs {schema.HEAD}"):
        schema.ensure(database)
    assert schema.current(database) == revision


def test_a_database_with_other_tables_is_not_taken_over_unasked(empty: Callable[[], Database]) -> None:
    database = empty()
    with database.session() as session:
        session.execute(sa.text("CREATE TABLE customers (n int)"))
    with pytest.raises(SchemaMismatch, match="customers"):
        schema.ensure(database)
    assert leftovers(database) == ["customers"]
    schema.upgrade(database)  # asked
    schema.check(database)


def test_an_embedded_database_follows_the_code_forwards(empty: Callable[[], Database], tmp_path: Path) -> None:
    database = empty()
    first = next(reversed(list(scripts().walk_revisions()))).revision
    schema.upgrade(database, first)
    database.server = EmbeddedServer(tmp_path)
    schema.ensure(database)
    assert schema.current(database) == schema.HEAD


def test_a_newer_versions_database_is_left_alone(empty: Callable[[], Database], tmp_path: Path) -> None:
    database = empty()
    schema.upgrade(database)
    with database.session() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        session.execute(sa.text("COMMENT ON TABLE alembic_version IS 'ironclad min_code=99.0'"))
    database.server = EmbeddedServer(tmp_path)
    with pytest.raises(SchemaMismatch, match="9999"):
        schema.ensure(database)
    with pytest.raises(SchemaMismatch, match="9999"):
        schema.upgrade(database)
    with pytest.raises(SchemaMismatch, match="no migration"):
        schema.downgrade(database, "0815")


def test_two_processes_migrating_at_once_migrate_once(empty: Callable[[], Database]) -> None:
    database = empty()
    body = (
        "import sys\nfrom ironclad.db import schema\nfrom ironclad.db.session import Database\n"
        "database = Database(sys.argv[1])\nsys.stdin.readline()\nschema.ensure(database)\n"
        "print(schema.current(database))"
    )
    url = database.url.render_as_string(hide_password=False)
    both = [
        subprocess.Popen([sys.executable, "-c", body, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=250)[0].strip() for process in both] == [schema.HEAD] * 2
    assert [process.returncode for process in both] == [0, 0]
    with database.session() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM alembic_version")) == 1
