"""Upgrades: what stands in the way, the SQL that would run, and a dump that can be put back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from command_line import run_command

from ironclad import durable
from ironclad.db import schema
from ironclad.errors import DatabaseUnavailable, DiskFull, SchemaMismatch
from ironclad.jobs import lease, submit
from ironclad.ops import backup, drill, pgtools, upgrade

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database

REVISIONS = sorted(
    path.name[:4] for path in (Path(schema.__file__).parent / "migrations/versions").glob("[0-9]*.py")
)  # fmt: skip
OLDER = REVISIONS[-2]


def catalogue(database: Database) -> list[tuple[str, ...]]:
    with database.session() as session:
        return [
            tuple(row)
            for row in session.execute(
                sa.text(
                    "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns "
                    "WHERE table_schema = 'public' ORDER BY 1, 2"
                )
            )
        ]


@pytest.mark.parametrize("revision", ["base", *REVISIONS[:-1]])
def test_the_pending_sql_is_what_the_migration_does(database: Database, revision: str) -> None:
    wanted = catalogue(database)
    schema.downgrade(database, revision)
    assert schema.current(database) == (None if revision == "base" else revision)
    sql = upgrade.pending_sql(database)
    assert schema.current(database) == (None if revision == "base" else revision), "looking changes nothing"
    with database.connection() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("DROP TABLE IF EXISTS alembic_version" if revision == "base" else "SELECT 1")
        cursor.execute(sql)  # as an operator would feed it to psql
        connection.connection.commit()
    assert catalogue(database) == wanted
    assert schema.current(database) == schema.HEAD


def test_nothing_is_pending_at_head(database: Database, settings: Settings) -> None:
    assert upgrade.pending_sql(database) == ""
    found = upgrade.check(settings, database)
    assert found.ok
    assert {finding.name for finding in found.findings} == {"migration", "disk", "jobs", "plugins"}
    assert upgrade.apply(settings, database) is None
    assert list(settings.layout.backups.iterdir()) == []


def test_a_database_of_a_later_version_stands_in_the_way(database: Database, settings: Settings) -> None:
    with database.session() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    found = upgrade.check(settings, database)
    assert [finding.name for finding in found.findings if not finding.ok] == ["migration"]
    with pytest.raises(SchemaMismatch, match="9999"):
        upgrade.apply(settings, database)
    assert list(settings.layout.backups.iterdir()) == []


def test_migrating_dumps_first_and_the_dump_can_be_put_back(database: Database, settings: Settings) -> None:
    schema.downgrade(database, OLDER)
    before = catalogue(database)
    written = upgrade.apply(settings, database)
    assert written is not None
    assert written.parent == settings.layout.backups
    assert OLDER in written.name
    assert schema.current(database) == schema.HEAD
    assert sorted(path.name for path in settings.layout.backups.iterdir()) == [written.name, f"{written.name}.json"]
    schema.downgrade(database, "base")
    drill.restore(settings, database, written.name)
    assert schema.current(database) == OLDER
    assert catalogue(database) == before


def test_without_room_nothing_is_migrated(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.downgrade(database, OLDER)
    monkeypatch.setattr(durable, "free_bytes", lambda _path: 1000)
    assert not upgrade.check(settings, database).ok
    with pytest.raises(DiskFull):
        upgrade.apply(settings, database)
    assert schema.current(database) == OLDER


def test_a_dump_that_fails_leaves_no_part_and_no_migration(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.downgrade(database, OLDER)
    (tmp_path / "pg_dump").write_text(
        '#!/bin/sh\nfor last; do :; done\necho half > "${last#--file=}"\necho gone >&2\nexit 1\n'
    )
    (tmp_path / "pg_dump").chmod(0o755)
    monkeypatch.setattr(pgtools, "binaries", lambda: tmp_path)
    with pytest.raises(DatabaseUnavailable, match="gone"):
        upgrade.apply(settings, database)
    assert list(settings.layout.backups.iterdir()) == []
    assert schema.current(database) == OLDER


def test_a_dump_never_replaces_another(database: Database, settings: Settings) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    first = backup.dump(settings, database, now=now)
    assert first.name == f"database-{schema.HEAD}-20260102T030405Z.dump"
    with pytest.raises(FileExistsError):
        backup.dump(settings, database, now=now)
    assert sorted(path.name for path in settings.layout.backups.iterdir()) == [first.name, f"{first.name}.json"]


def test_running_jobs_stand_in_the_way(
    database: Database, settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    song = tmp_path / "song.flac"
    song.write_bytes(b"song")
    new = submit.NewJob(user_id="ana", source=song, stat=song.stat(), relative_path=song.name)
    with database.session() as session:
        job = submit.receive(session, new, settings).job_uuid
        submit.claimed(session, job, "hash")
        assert lease.claim(session, job, 1, worker="w", lease_seconds=30.0) is not None
    result = run_command(environment, "upgrade", "check")
    assert result.exit_code == 1
    assert "FAIL  jobs: 1 running" in result.stdout
    assert "What to do: " in result.stdout


def test_the_commands(database: Database, environment: dict[str, str]) -> None:
    schema.downgrade(database, OLDER)
    looked = run_command(environment, "upgrade", "check", "--sql")
    assert looked.exit_code == 0, looked.stderr
    assert f"from {OLDER} to {schema.HEAD}" in looked.stdout
    assert "UPDATE alembic_version" in looked.stdout
    assert schema.current(database) == OLDER
    done = run_command(environment, "upgrade", "apply", "--json")
    answer = json.loads(done.stdout)
    assert (answer["before"], answer["current"]) == (OLDER, schema.HEAD)
    assert Path(answer["dump"]).is_file()
    again = run_command(environment, "upgrade", "apply")
    assert f"is at {schema.HEAD}" in again.stdout
