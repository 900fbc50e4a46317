"""Upgrading hosts one after another: code of one version works on tables of the next, unless they say otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

import ironclad
from ironclad.db import schema
from ironclad.errors import SchemaMismatch
from ironclad.jobs import lease, submit
from ironclad.jobs.states import JobState
from ironclad.ops import upgrade

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database

REVISIONS = sorted(path.name[:4] for path in (Path(schema.__file__).parent / "migrations/versions").glob("[0-9]*.py"))
LATER = "9999"
# What code of the version before could stumble over.
_TAKES_AWAY = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|FUNCTION|TYPE|VIEW)\b|\bRENAME\b|\bALTER\s+COLUMN\s+\S+\s+TYPE\b|\bSET\s+NOT\s+NULL\b"
    r"|\bADD\s+COLUMN\s+(?!IF)[^;,]*\bNOT\s+NULL\b(?![^;,]*\bDEFAULT\b)",
    re.IGNORECASE,
)


def later(database: Database, min_code: str | None) -> None:
    """What a later version would have made of the database: more columns and tables, a revision that nobody knows."""
    said = "NULL" if min_code is None else f"'ironclad min_code={min_code}'"
    with database.session() as session:
        for statement in (
            "ALTER TABLE job ADD COLUMN mood text NOT NULL DEFAULT 'calm'",
            "ALTER TABLE job_event ADD COLUMN mood text",
            "CREATE TABLE mood (name text PRIMARY KEY)",
            f"UPDATE alembic_version SET version_num = '{LATER}'",
            f"COMMENT ON TABLE alembic_version IS {said}",
        ):
            session.execute(sa.text(statement))


def test_every_migration_writes_down_who_may_use_it(database: Database) -> None:
    with database.session() as session:
        said = session.scalar(sa.text("SELECT obj_description('alembic_version'::regclass, 'pg_class')"))
    assert said == f"ironclad min_code={schema.MIN_CODE}"
    assert schema._minor(schema.MIN_CODE) <= schema._minor(ironclad.__version__)


def test_this_code_works_on_tables_of_a_later_version(database: Database, settings: Settings, tmp_path: Path) -> None:
    later(database, "0.1")
    schema.check(database)
    schema.ensure(database)
    assert schema.current(database) == LATER
    song = tmp_path / "song.flac"
    song.write_bytes(b"song")
    new = submit.NewJob(user_id="ana", source=song, stat=song.stat(), relative_path=song.name)
    with database.session() as session:
        job = submit.receive(session, new, settings).job_uuid
        submit.claimed(session, job, "hash")
        claim = lease.claim(session, job, 1, worker="w", lease_seconds=30.0)
        assert claim is not None
        lease.finish(session, claim.fence, JobState.SUCCEEDED, actor="worker:w")
        assert session.scalar(sa.text("SELECT state FROM job")) == "succeeded"


@pytest.mark.parametrize("min_code", ["99.0", None], ids=["another", "unsaid"])
def test_tables_that_do_not_allow_it_are_refused(database: Database, min_code: str | None) -> None:
    later(database, min_code)
    with pytest.raises(SchemaMismatch, match=LATER):
        schema.check(database)
    with pytest.raises(SchemaMismatch):
        schema.ensure(database)


def test_tables_of_an_older_version_are_never_used(database: Database) -> None:
    schema.downgrade(database, REVISIONS[-2])
    assert not schema.serves(database, REVISIONS[-2])
    assert not schema.serves(database, None)
    assert not schema.serves(database, LATER), "the rule of newer tables went with them"


@pytest.mark.parametrize(
    ("version", "allowed"),
    [("1.1.9", False), ("1.2.0", True), ("1.2.0rc1", True), ("1.10.0", True), ("2.0", True), ("0.9", False)],
)
def test_versions_are_compared_by_major_and_minor(database: Database, version: str, allowed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    later(database, "1.2")
    assert schema.serves(database, LATER, version) is allowed


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_migrations_only_add_unless_they_say_so(database: Database, revision: str) -> None:
    schema.downgrade(database, REVISIONS[REVISIONS.index(revision) - 1])
    sql = upgrade.pending_sql(database).partition(f"-- Running upgrade {revision} -> ")[0]
    assert f"-> {revision}" in sql
    if _TAKES_AWAY.search(sql):
        assert schema._minor(schema.MIN_CODE) == schema._minor(ironclad.__version__), (
            f"{revision} takes something away: {_TAKES_AWAY.findall(sql)}; raise schema.MIN_CODE"
        )


@pytest.mark.parametrize(
    "statement",
    ["ALTER TABLE a DROP COLUMN b", "ALTER TABLE a RENAME TO c", "ALTER TABLE a ALTER COLUMN b TYPE text",
     "ALTER TABLE a ADD COLUMN b text NOT NULL", "ALTER TABLE a ALTER COLUMN b SET NOT NULL", "DROP TABLE a"],
)  # fmt: skip
def test_what_takes_away_is_recognised(statement: str) -> None:
    assert _TAKES_AWAY.search(statement)


@pytest.mark.parametrize(
    "statement", ["ALTER TABLE a ADD COLUMN b int NOT NULL DEFAULT 0", "ALTER TABLE a ADD COLUMN b int"]
)
def test_what_adds_is_let_through(statement: str) -> None:
    assert not _TAKES_AWAY.search(statement)
