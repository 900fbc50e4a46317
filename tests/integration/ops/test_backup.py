"""Backups are restored, not believed: real dumps, a real second server, and damage that must be found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from command_line import run_command

from ironclad import config
from ironclad.db import embedded, schema
from ironclad.errors import AlreadyRunning, BackupBroken, BadRequest, DiskFull, NotFound
from ironclad.jobs import submit
from ironclad.ops import backup, drill, housekeeper, pgtools
from ironclad.ops.backup import Drill, Manifest, Table
from ironclad.ops.backup_metrics import BackupReader
from ironclad.ops.metrics import Metrics

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def receive(database: Database, settings: Settings, folder: Path, *names: str) -> None:
    for name in names:
        song = folder / name
        song.write_text(name, encoding="utf-8")
        new = submit.NewJob(user_id="ana", source=song, stat=song.stat(), relative_path=song.name)
        with database.session() as session:
            submit.receive(session, new, settings)


def titles(database: Database) -> list[str]:
    with database.session() as session:
        return list(session.scalars(sa.text("SELECT relative_path FROM job ORDER BY 1")))


def fake(settings: Settings, age_days: float, *, drilled: str | None = None) -> Path:
    """A dump of some age that only listing and pruning look at; `drilled` is the problem that a drill found."""
    made = NOW - timedelta(days=age_days)
    path = settings.layout.backups / f"database-0001-{made:%Y%m%dT%H%M%SZ}.dump"
    path.write_bytes(b"dump")
    trial = None if drilled is None else Drill(at=made, seconds=1.0, problem=drilled)
    backup.save(
        path,
        Manifest(
            dump=path.name, created_at=made, ironclad="0", revision="0001", server=180000, database_bytes=4, bytes=4,
            blake3="", tables={"job": Table(rows=1, checksum="1")}, drill=trial,
        ),
    )  # fmt: skip
    return path


def left(settings: Settings) -> set[str]:
    return {path.name for path in settings.layout.backups.iterdir()}


def test_a_dump_comes_back_in_a_drill_and_that_is_kept(database: Database, settings: Settings, tmp_path: Path) -> None:
    receive(database, settings, tmp_path, "a.flac", "b.flac")
    path = backup.dump(settings, database)
    manifest = backup.load(path)
    assert manifest is not None
    assert manifest.tables["job"].rows == 2
    assert manifest.revision == schema.HEAD
    assert not manifest.proven
    assert drill.verify(settings).proven
    kept = backup.load(path)
    assert kept is not None
    assert kept.proven
    assert left(settings) == {path.name, f"{path.name}.json"}, "neither server nor folder of the drill is left"


def test_the_manifest_is_of_the_dumps_own_moment(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(database, settings, tmp_path, "before.flac")
    run = pgtools.run

    def while_dumping(dsn: str, program: str, *arguments: str) -> None:
        run(dsn, program, *arguments)
        if program == "pg_dump":  # a job arrives after pg_dump has looked and before rows are counted
            receive(database, settings, tmp_path, "meanwhile.flac")

    monkeypatch.setattr(pgtools, "run", while_dumping)
    path = backup.dump(settings, database)
    manifest = backup.load(path)
    assert manifest is not None
    assert manifest.tables["job"].rows == 1
    assert titles(database) == ["before.flac", "meanwhile.flac"]
    monkeypatch.undo()
    drill.restore(settings, database, path.name)
    assert titles(database) == ["before.flac"]


@pytest.mark.parametrize("damage", ["bytes", "cut"])
def test_a_damaged_dump_is_found(database: Database, settings: Settings, damage: str) -> None:
    path = backup.dump(settings, database)
    data = bytearray(path.read_bytes())
    if damage == "bytes":
        data[len(data) // 2] ^= 0xFF
    else:
        del data[-100:]
    path.write_bytes(data)
    with pytest.raises(BackupBroken, match="bytes are not those"):
        drill.verify(settings)
    kept = backup.load(path)
    assert kept is not None
    assert kept.drill is not None
    assert kept.drill.problem
    assert not kept.proven


def test_a_dump_that_lacks_rows_or_has_others_is_found(database: Database, settings: Settings, tmp_path: Path) -> None:
    receive(database, settings, tmp_path, "a.flac")
    path = backup.dump(settings, database)
    manifest = backup.load(path)
    assert manifest is not None
    tables = dict(manifest.tables)
    wanted = {
        "job": Table(rows=2, checksum=tables["job"].checksum),
        "job_event": Table(rows=tables["job_event"].rows, checksum="1"),
        "lost": Table(rows=1, checksum="1"),
    }
    backup.save(path, manifest.model_copy(update={"tables": {**tables, **wanted}, "revision": "0000"}))
    with pytest.raises(BackupBroken) as raised:
        drill.verify(settings)
    # The drill's server is the embedded one: contents are compared where that is of the same major version.
    program = [embedded.binaries() / "postgres", "--version"]
    major = int(subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()[2].split(".")[0])
    others = "table job_event has other rows; " if manifest.server // 10_000 == major else ""
    assert raised.value.detail == (
        f"{path.name}: table lost did not come back; table job has 1 rows instead of 2; "
        f"{others}the revision is {schema.HEAD} instead of 0000"
    )


def test_a_dump_that_cannot_be_restored_at_all_is_found(database: Database, settings: Settings) -> None:
    path = backup.dump(settings, database)
    manifest = backup.load(path)
    assert manifest is not None
    path.write_bytes(b"PGDMP no more")
    digest = backup.durable.digest(path)
    backup.save(path, manifest.model_copy(update={"blake3": digest}))
    with pytest.raises(BackupBroken, match="pg_restore failed"):
        drill.verify(settings)


def test_a_drill_cleans_up_after_one_that_was_killed(database: Database, settings: Settings) -> None:
    backup.dump(settings, database)
    folder = settings.layout.backups / ".drill-00c0ffee"
    killed = drill.EmbeddedServer(folder / "postgres", drill._FAST)
    killed.start()
    pid = killed.pid()
    assert pid is not None
    killed._let_go()  # as the kernel does for a killed process: the lock goes, the server stays
    assert drill.verify(settings).proven
    assert not folder.exists()
    assert killed.pid() is None


def test_a_restore_brings_back_what_was_and_keeps_what_is(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    receive(database, settings, tmp_path, "kept.flac")
    path = backup.dump(settings, database, now=NOW)
    before = drill.find(settings, path.name)[1].tables
    receive(database, settings, tmp_path, "later.flac")
    restored, saved = drill.restore(settings, database, path.name)
    assert restored == path
    assert titles(database) == ["kept.flac"]
    with database.connection() as connection, connection.begin():
        assert backup.contents(connection) == before
    assert saved is not None
    drill.restore(settings, database, saved.name)
    assert titles(database) == ["kept.flac", "later.flac"]


def test_a_restore_into_an_emptied_database(database: Database, settings: Settings, tmp_path: Path) -> None:
    receive(database, settings, tmp_path, "kept.flac")
    path = backup.dump(settings, database)
    schema.downgrade(database, "base")
    with database.session() as session:
        session.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
    assert drill.restore(settings, database, path.name) == (path, None)
    assert titles(database) == ["kept.flac"]
    schema.check(database)


def test_a_restore_is_refused_while_something_works_or_at_another_revision(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    path = backup.dump(settings, database, now=NOW)
    receive(database, settings, tmp_path, "later.flac")
    with database.session() as session:
        session.execute(sa.text("INSERT INTO worker (name, kind, host, pid) VALUES ('watch@a/1', 'watch', 'a', 1)"))
        session.execute(sa.text("INSERT INTO worker (name, kind, host, pid) VALUES ('p@a/1', 'postgres', 'a', 2)"))
    with pytest.raises(BadRequest, match=r"Stop the services first: watch@a/1 used"):
        drill.restore(settings, database, path.name)
    with database.session() as session:
        session.execute(sa.text("UPDATE worker SET seen_at = now() - interval '1 hour'"))
    manifest = drill.find(settings, path.name)[1]
    backup.save(path, manifest.model_copy(update={"revision": "0001"}))
    with pytest.raises(BadRequest, match="the dump at 0001"):
        drill.restore(settings, database, path.name)
    backup.save(path, manifest)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BackupBroken):
        drill.restore(settings, database, path.name)
    assert titles(database) == ["later.flac"]


def test_two_dumps_within_a_second_have_names_of_their_own(database: Database, settings: Settings) -> None:
    made = {backup.dump(settings, database) for _ in range(3)}
    assert len(made) == 3
    assert {path for path, _ in backup.dumps(settings)} == made


def test_one_at_a_time(database: Database, settings: Settings) -> None:
    backup.dump(settings, database)
    with backup.alone(settings), pytest.raises(AlreadyRunning):
        drill.verify(settings)


def test_room_is_asked_for(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    backup.dump(settings, database)
    monkeypatch.setattr(backup.durable, "free_bytes", lambda _path: 1000)
    with pytest.raises(DiskFull):
        backup.dump(settings, database)
    with pytest.raises(DiskFull, match="drill needs"):
        drill.verify(settings)


def test_nothing_to_drill(settings: Settings) -> None:
    with pytest.raises(NotFound):
        drill.verify(settings)
    (settings.layout.backups / "database-0001-20200101T000000Z.dump").write_bytes(b"from elsewhere")
    with pytest.raises(NotFound, match="no manifest"):
        drill.verify(settings)


def test_old_dumps_go_but_the_newest_few_and_the_newest_proven_stay(settings: Settings) -> None:
    limited = settings.model_copy(update={"backup": config.BackupSettings(keep_days=10, keep_at_least=2)})
    names = {
        age: fake(limited, age, drilled=drilled).name
        for age, drilled in ((1, None), (12, None), (13, "lost"), (14, ""), (15, ""), (16, None))
    }
    foreign = limited.layout.backups / "database-9-by-hand.dump"
    foreign.write_bytes(b"no manifest: not ours to delete")
    assert [path.name for path in backup.expired(limited, now=NOW)] == [names[13], names[15], names[16]]
    assert len(backup.prune(limited, now=NOW)) == 3
    wanted = {names[1], names[12], names[14]}
    assert left(limited) == wanted | {f"{name}.json" for name in wanted} | {foreign.name}
    everything = settings.model_copy(update={"backup": config.BackupSettings(keep_days=0, keep_at_least=1)})
    assert backup.expired(everything, now=NOW) == []


def test_the_part_that_a_killed_backup_left_goes_with_the_next(database: Database, settings: Settings) -> None:
    settings.layout.create()
    old, new = (settings.layout.backups / f".database-5-2026010{day}T000000Z.dump.part" for day in (1, 2))
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    backup.dump(settings, database)
    assert not old.exists()
    assert new.exists()  # one that is being written, as before an upgrade


def test_housekeeping_makes_one_when_the_newest_is_too_old(database: Database, settings: Settings) -> None:
    assert backup.due(settings)
    housekeeper.tidy(database, settings)
    (made,) = [path for path, _ in backup.dumps(settings)]
    assert not backup.due(settings)
    housekeeper.tidy(database, settings)
    assert [path for path, _ in backup.dumps(settings)] == [made]
    assert backup.due(settings, now=(datetime.now(UTC) + timedelta(hours=31)).timestamp())
    never = settings.model_copy(update={"backup": config.BackupSettings(max_age_hours=0)})
    assert not backup.due(never, now=4e9)


def value(metrics: Metrics, name: str) -> float:
    found = next(line for line in metrics.render().decode().splitlines() if line.startswith(f"ironclad_{name} "))
    return float(found.split()[1])


def test_the_ages_are_metrics(settings: Settings) -> None:
    metrics = Metrics("dispatch", process=False)
    BackupReader(settings, metrics)
    assert (value(metrics, "backup_timestamp_seconds"), value(metrics, "backup_drill_ok")) == (0.0, 1.0)
    fake(settings, 5, drilled="")
    fake(settings, 1)
    assert value(metrics, "backup_timestamp_seconds") == (NOW - timedelta(days=1)).timestamp()
    assert value(metrics, "backup_drill_timestamp_seconds") == (NOW - timedelta(days=5)).timestamp()
    assert value(metrics, "backup_bytes") == 4
    fake(settings, 0, drilled="lost")
    assert value(metrics, "backup_drill_ok") == 0.0
    assert value(metrics, "backup_drill_timestamp_seconds") == (NOW - timedelta(days=5)).timestamp()
    shutil.rmtree(settings.layout.backups)
    assert value(metrics, "backup_timestamp_seconds") == 0.0


def test_the_commands(database: Database, settings: Settings, environment: dict[str, str], tmp_path: Path) -> None:
    receive(database, settings, tmp_path, "a.flac")

    def run(*words: str) -> dict[str, Any]:
        done = run_command(environment, "backup", *words, "--json")
        assert done.exit_code == 0, done.stderr
        return dict(json.loads(done.stdout))

    made = run("create")
    assert Path(made["path"]).is_file()
    assert not made["proven"]
    tried = run("verify")
    assert tried["proven"]
    assert tried["dump"] == made["dump"]
    assert [row["dump"] for row in run("list")["dumps"]] == [made["dump"]]
    receive(database, settings, tmp_path, "b.flac")
    refused = run_command(environment, "backup", "restore", made["dump"])
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    done = run("restore", made["dump"], "--yes")
    assert Path(done["before"]).is_file()
    assert titles(database) == ["a.flac"]
    listed = run_command(environment, "backup", "list").stdout
    assert "restored in a drill" in listed
    assert "not tried yet" in listed
    assert "was written to" in run_command(environment, "backup").stdout


def test_a_failed_drill_is_an_exit_code(database: Database, settings: Settings, environment: dict[str, str]) -> None:
    path = backup.dump(settings, database)
    path.write_bytes(b"x")
    done = run_command(environment, "backup", "verify")
    assert done.exit_code == 3
    assert "E_BACKUP" in done.stderr
    assert "NOT RESTORED" in run_command(environment, "backup", "list").stdout


def test_dumping_stops_nobody(database: Database, settings: Settings, tmp_path: Path) -> None:
    writing = threading.Event()
    thread = threading.Thread(target=lambda: (backup.dump(settings, database), writing.set()))
    thread.start()
    try:
        for number in range(20):
            receive(database, settings, tmp_path, f"{number}.flac")
    finally:
        thread.join(60)
    assert writing.is_set()
    assert len(titles(database)) == 20
