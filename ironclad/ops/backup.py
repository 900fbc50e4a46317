"""Dumps of the database in `backups/`, each with a manifest of what it must hold, written from the same snapshot.

A dump is published whole under its final name (`durable.publish`), then its manifest beside it. `ironclad.ops.drill`
restores dumps and compares them with their manifests; here they are made, listed, kept and deleted.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, ValidationError

import ironclad
from ironclad import durable
from ironclad.db import schema
from ironclad.errors import DiskFull
from ironclad.ops import directory, pgtools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database

LOCK: Final = "backup"
_LOCK_WAIT: Final = "60s"
_PATTERN: Final = "database-*.dump"
_PARTS: Final = f".{_PATTERN}.part"
_HOUR: Final = 3600.0
# How a row becomes text, the same in every session, so that sums of two servers can be compared.
_AS_TEXT: Final = {
    "datestyle": "ISO", "intervalstyle": "iso_8601", "timezone": "UTC", "extra_float_digits": "1",
    "bytea_output": "hex",
}  # fmt: skip


class Table(BaseModel):
    """What a table held."""

    model_config = ConfigDict(frozen=True)

    rows: int
    checksum: str
    """Sum of a 64-bit hash of each row's text: independent of the rows' order."""


class Drill(BaseModel):
    """When a dump was restored for a trial, and what came of it."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    seconds: float
    problem: str = ""
    """What was wrong; empty if everything came back."""


class Manifest(BaseModel):
    """What a dump must hold."""

    model_config = ConfigDict(frozen=True)

    dump: str
    created_at: datetime
    ironclad: str
    revision: str | None
    server: int
    """`server_version_num` of the server that was dumped."""
    database_bytes: int
    bytes: int
    blake3: str
    tables: dict[str, Table]
    drill: Drill | None = None

    @property
    def proven(self) -> bool:
        """Whether a drill has restored it."""
        return self.drill is not None and not self.drill.problem


def room(settings: Settings, database: Database) -> tuple[bool, str]:
    """Whether there is room for a dump, in words."""
    with database.session() as session:
        size = int(session.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)
    durable.make_dirs(settings.layout.backups)
    free = durable.free_bytes(settings.layout.backups)
    words = f"{free / 1e9:.1f} GB free in {settings.layout.backups}; the database has {size / 1e9:.2f} GB"
    return free > size + settings.disk.min_free_bytes, words


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """One backup, drill or restore at a time on a data folder. Raises `AlreadyRunning`."""
    durable.make_dirs(settings.layout.run)
    held = directory.hold(settings.layout.run, LOCK)
    try:
        yield
    finally:
        os.close(held)


def dump(settings: Settings, database: Database, *, now: datetime | None = None) -> Path:
    """Write the whole database into `backups/` (pg_dump's custom format), read it back, and return the file.

    Args:
        settings: ours.
        database: at any revision.
        now: for the file's name.

    Raises `DiskFull` before it starts if there is no room, `FileExistsError`, `DatabaseUnavailable` with pg_dump's own
    words, or `StorageError`.
    """
    for left in settings.layout.backups.glob(_PARTS):
        if time.time() - left.lstat().st_mtime > _HOUR:
            durable.remove(left, reason="left by a backup that was interrupted")
    enough, words = room(settings, database)
    if not enough:
        raise DiskFull(words)
    when = now or datetime.now(UTC)
    revision = schema.current(database)
    final = settings.layout.backups / f"database-{revision or 'empty'}-{when:%Y%m%dT%H%M%SZ}.dump"
    if now is None and final.exists():  # the second one within a second, as before a restore
        final = final.with_name(f"database-{revision or 'empty'}-{when:%Y%m%dT%H%M%S%fZ}.dump")
    part = final.with_name(f".{final.name}.part")
    try:
        with database.connection() as connection, connection.begin():
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            # It stays open, and silent, for as long as pg_dump works.
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            snapshot = connection.scalar(sa.text("SELECT pg_export_snapshot()"))
            pgtools.run(
                database.dsn, "pg_dump", "--format=custom", f"--lock-wait-timeout={_LOCK_WAIT}",
                f"--snapshot={snapshot}", f"--file={part}",
            )  # fmt: skip
            tables = contents(connection)
            server, size = connection.execute(
                sa.text("SELECT current_setting('server_version_num')::int, pg_database_size(current_database())")
            ).one()
        pgtools.run(database.dsn, "pg_restore", "--list", str(part))
        durable.publish(part, final)
    finally:
        part.unlink(missing_ok=True)
    with durable.stored(final):
        length = final.stat().st_size
    save(
        final,
        Manifest(
            dump=final.name, created_at=when, ironclad=ironclad.__version__, revision=revision, server=server,
            database_bytes=size, bytes=length, blake3=durable.digest(final), tables=tables,
        ),
    )  # fmt: skip
    return final


def contents(connection: sa.Connection) -> dict[str, Table]:
    """Rows and checksum of every table, in the snapshot of the connection's transaction."""
    for name, value in _AS_TEXT.items():
        connection.execute(sa.text(f"SET LOCAL {name} = '{value}'"))
    names = connection.scalars(
        sa.text("SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1")
    ).all()
    quoted = connection.dialect.identifier_preparer.quote
    found = {}
    for name in names:
        statement = f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {quoted(name)} t"  # noqa: S608 - a quoted name of the catalogue
        rows, checksum = connection.execute(sa.text(statement)).one()
        found[name] = Table(rows=rows, checksum=checksum)
    return found


def manifest_path(path: Path) -> Path:
    """Where a dump's manifest is."""
    return path.with_name(f"{path.name}.json")


def save(path: Path, manifest: Manifest) -> None:
    """Write a dump's manifest, in one step."""
    durable.write_atomic(manifest_path(path), manifest.model_dump_json(indent=1).encode())


def load(path: Path) -> Manifest | None:
    """A dump's manifest; None if it has none that can be read."""
    try:
        return Manifest.model_validate_json(manifest_path(path).read_bytes())
    except (OSError, ValidationError):
        return None


def dumps(settings: Settings) -> list[tuple[Path, Manifest | None]]:
    """Every dump with its manifest, the newest first (those without a manifest last)."""
    with durable.stored(settings.layout.backups):
        found = [(path, load(path)) for path in settings.layout.backups.glob(_PATTERN)]
    return sorted(found, key=lambda one: (one[1].created_at.timestamp() if one[1] else 0.0, one[0].name), reverse=True)


def due(settings: Settings, *, now: float | None = None) -> bool:
    """Whether the newest dump is older than `backup.max_age_hours` (or none is there)."""
    hours = settings.backup.max_age_hours
    if not hours:
        return False
    newest = next((manifest.created_at.timestamp() for _, manifest in dumps(settings) if manifest), 0.0)
    return (time.time() if now is None else now) - newest > hours * _HOUR


def expired(settings: Settings, *, now: datetime | None = None) -> list[Path]:
    """The dumps that `backup.keep_days` lets go: never the newest few, never the newest that was proven."""
    if not settings.backup.keep_days:
        return []
    limit = (now or datetime.now(UTC)) - timedelta(days=settings.backup.keep_days)
    known = [(path, manifest) for path, manifest in dumps(settings) if manifest is not None]
    kept = {path for path, _ in known[: settings.backup.keep_at_least]}
    kept.update([path for path, manifest in known if manifest.proven][:1])
    return [path for path, manifest in known if path not in kept and manifest.created_at < limit]


def prune(settings: Settings, *, now: datetime | None = None) -> list[Path]:
    """Delete what `expired` says: the manifest first, so that no manifest is ever without its dump."""
    gone = expired(settings, now=now)
    for path in gone:
        reason = f"older than {settings.backup.keep_days:g} days"
        durable.remove(manifest_path(path), reason=reason)
        durable.remove(path, reason=reason)
    return gone
