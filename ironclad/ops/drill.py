"""The restore drill: a dump is put back into a server of its own, and what came back is compared with the manifest.

The drill's server is an embedded one in a folder that exists for the drill alone: it needs no right on the real server,
cannot touch it, and shows that the dump is enough.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ironclad import durable
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.errors import BackupBroken, BadRequest, DatabaseUnavailable, DiskFull, NotFound
from ironclad.ops import backup, pgtools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.ops.backup import Manifest

_PREFIX: Final = ".drill-"
# What is restored here is thrown away in the end: nothing of it need survive a power cut.
_FAST: Final = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "1GB",
    "max_connections": "20", "autovacuum": "off",
}  # fmt: skip
_MAJOR: Final = 10_000


def find(settings: Settings, name: str | None = None) -> tuple[Path, Manifest]:
    """A dump by its name, or the newest. Raises `NotFound` if it, or its manifest, is not there."""
    for path, manifest in backup.dumps(settings):
        if name in {None, path.name, str(path)}:
            if manifest is None:
                raise NotFound(f"{path.name} has no manifest; only pg_restore knows what to do with it.")
            return path, manifest
    wanted = "no dump" if name is None else f"no dump {name}"
    raise NotFound(f"There is {wanted} in {settings.layout.backups}.")


def verify(settings: Settings, name: str | None = None) -> Manifest:
    """Restore a dump (the newest) for a trial; returns its manifest with the result, which is also kept.

    Args:
        settings: ours.
        name: the dump's file name.

    Raises `BackupBroken` if something did not come back (that is kept, too), `NotFound`, `DiskFull`, `AlreadyRunning`,
    `DatabaseUnavailable` if no server can be started here.
    """
    with backup.alone(settings):
        path, manifest = find(settings, name)
        _sweep(settings)
        free = durable.free_bytes(settings.layout.backups)
        if free < 2 * manifest.database_bytes + settings.disk.min_free_bytes:
            raise DiskFull(f"A drill needs {2 * manifest.database_bytes / 1e9:.2f} GB; {free / 1e9:.1f} GB are free.")
        began = time.monotonic()
        problems = _problems(settings, path, manifest)
        seconds = round(time.monotonic() - began, 3)
        result = backup.Drill(at=datetime.now(UTC), seconds=seconds, problem="; ".join(problems))
        manifest = manifest.model_copy(update={"drill": result})
        backup.save(path, manifest)
    if problems:
        raise BackupBroken(f"{path.name}: {result.problem}", dump=path)
    return manifest


def _problems(settings: Settings, path: Path, manifest: Manifest) -> list[str]:
    if durable.digest(path) != manifest.blake3:
        return ["its bytes are not those that were written"]
    with _scratch(settings) as url:
        database = Database(url)
        try:
            try:
                _restore(database, path)
            except DatabaseUnavailable as exc:
                return [exc.detail]
            return compare(database, manifest)
        finally:
            database.close()


def _restore(database: Database, path: Path, *extra: str) -> None:
    with database.connection() as connection:
        server = int(connection.scalar(sa.text("SELECT current_setting('server_version_num')")) or 0)
    pgtools.restore(database.dsn, path, "--no-owner", "--no-privileges", *extra, server=server)


def compare(database: Database, manifest: Manifest) -> list[str]:
    """What of a manifest is not in a database, in words; empty if all is.

    Rows are counted in any case; their contents are compared between servers of one major version, since PostgreSQL
    promises the same hashes only there.
    """
    with database.connection() as connection, connection.begin():
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        found = backup.contents(connection)
        server = int(connection.scalar(sa.text("SELECT current_setting('server_version_num')")) or 0)
    problems = [f"table {name} did not come back" for name in manifest.tables if name not in found]
    for name, table in manifest.tables.items():
        other = found.get(name)
        if other is None:
            continue
        if other.rows != table.rows:
            problems.append(f"table {name} has {other.rows} rows instead of {table.rows}")
        elif server // _MAJOR == manifest.server // _MAJOR and other.checksum != table.checksum:
            problems.append(f"table {name} has other rows")
    revision = schema.current(database)
    if revision != manifest.revision:
        problems.append(f"the revision is {revision} instead of {manifest.revision}")
    return problems


@contextlib.contextmanager
def _scratch(settings: Settings) -> Iterator[str]:
    """A server of its own; it and its folder are gone in the end."""
    folder = settings.layout.backups / f"{_PREFIX}{secrets.token_hex(4)}"
    server = EmbeddedServer(folder / "postgres", _FAST)
    try:
        server.start()
        yield server.url()
    finally:
        _end(folder, server)


def _end(folder: Path, server: EmbeddedServer) -> None:
    server.stop()
    server.release()
    durable.remove_tree(folder, reason="the drill is over")


def _sweep(settings: Settings) -> None:
    """End what a drill that was killed left behind: its server outlives it. The lock says that no other drill runs."""
    for folder in sorted(settings.layout.backups.glob(f"{_PREFIX}*")):
        _end(folder, EmbeddedServer(folder / "postgres"))


def restore(settings: Settings, database: Database, name: str) -> tuple[Path, Path | None]:
    """Put a dump back into the real database, all or nothing, after a dump of what is there now.

    Args:
        settings: ours.
        database: empty, or at the dump's revision, with no service at work.
        name: the dump's file name.

    Returns the dump, and the dump of what was there (None if that was nothing). Raises `BadRequest` if something is at
    work or the revision differs, `BackupBroken` if the dump is damaged or something did not come back.
    """
    with backup.alone(settings):
        path, manifest = find(settings, name)
        if durable.digest(path) != manifest.blake3:
            raise BackupBroken(f"{path.name}: its bytes are not those that were written", dump=path)
        revision = schema.current(database)
        if revision not in {None, manifest.revision}:
            raise BadRequest(
                f"The database is at {revision}, the dump at {manifest.revision}. `ironclad db downgrade base --yes` "
                f"empties it (a dump of it first: `ironclad backup create`)."
            )
        busy = _at_work(database) if revision else []
        if busy:
            raise BadRequest(f"Stop the services first: {', '.join(busy)} used the database a moment ago.")
        before = backup.dump(settings, database) if revision else None
        _restore(database, path, "--clean", "--if-exists")
        problems = compare(database, manifest)
        if problems:
            raise BackupBroken(f"{path.name}: {'; '.join(problems)}", dump=path, before=before)
    return path, before


def _at_work(database: Database) -> list[str]:
    """Services that were seen within the last half minute (the database's own must run)."""
    with database.session() as session:
        rows = session.execute(
            sa.text(
                "SELECT name FROM worker WHERE kind <> 'postgres' AND seen_at > ironclad_now() - interval '30 seconds' "
                "ORDER BY name"
            )
        )
        return [str(row.name) for row in rows]
