"""Before and during an upgrade: what stands in the way, what a migration would do, and a dump before it does."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict

from ironclad import durable
from ironclad.db import schema
from ironclad.db.embedded import binaries
from ironclad.errors import DatabaseUnavailable, DiskFull, IroncladError, SchemaMismatch
from ironclad.plugins.manager import PluginManager, PluginStatus

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database

_DUMP_SECONDS: Final = 3600.0
_LOCK_WAIT: Final = "60s"
_VARIABLES: Final = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD",
    "dbname": "PGDATABASE", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at before an upgrade."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """What an upgrade would meet."""

    current: str | None
    head: str
    sql: str
    """What the pending migrations would execute; empty if none is pending."""
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return all(finding.ok for finding in self.findings)


def check(settings: Settings, database: Database) -> Check:
    """Look at everything that an upgrade touches; changes nothing.

    Args:
        settings: ours.
        database: theirs; at any revision.
    """
    revision = schema.current(database)
    sql = ""
    try:
        sql = pending_sql(database)
        pending = "nothing to migrate" if revision == schema.HEAD else f"from {revision or 'nothing'} to {schema.HEAD}"
        migration = Finding("migration", ok=True, detail=pending)
    except SchemaMismatch as exc:
        migration = Finding("migration", ok=False, detail=exc.detail, remedy="Install the version that wrote it.")
    return Check(revision, schema.HEAD, sql, (migration, _room(settings, database), _idle(database), _plugins()))


def pending_sql(database: Database) -> str:
    """The statements of the pending migrations, not executed. Raises `SchemaMismatch` if no way leads to `HEAD`."""
    revision = schema.current(database)
    if revision == schema.HEAD:
        return ""
    from alembic import command  # noqa: PLC0415 - only migrations need Alembic
    from alembic.util import CommandError  # noqa: PLC0415 - likewise

    buffer = io.StringIO()
    with database.connection() as connection:
        config = schema.alembic_config(database, connection)
        config.output_buffer = buffer
        try:
            command.upgrade(config, f"{revision or 'base'}:head", sql=True)
        except CommandError as exc:
            raise SchemaMismatch(
                f"There is no migration of the database from {revision} to {schema.HEAD}: {exc}."
            ) from exc
    return buffer.getvalue().replace("%%", "%")  # doubled for the driver, which would read %s; psql would not


def _room(settings: Settings, database: Database) -> Finding:
    with database.session() as session:
        size = int(session.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)
    settings.layout.backups.mkdir(parents=True, exist_ok=True)
    free = durable.free_bytes(settings.layout.backups)
    detail = f"{free / 1e9:.1f} GB free in {settings.layout.backups}; the database has {size / 1e9:.2f} GB"
    return Finding("disk", free > size + settings.disk.min_free_bytes, detail, "Free some space for the dump.")


def _idle(database: Database) -> Finding:
    with database.session() as session:
        if session.scalar(sa.text("SELECT to_regclass('job')")) is None:
            return Finding("jobs", ok=True, detail="there are none")
        running = int(session.scalar(sa.text("SELECT count(*) FROM job WHERE state = 'running'")) or 0)
    remedy = "`ironclad pause`, wait until nothing runs, then stop the services."
    return Finding("jobs", running == 0, f"{running} running", remedy)


def _plugins() -> Finding:
    broken = [state for state in PluginManager().load_all() if state.status is PluginStatus.BROKEN]
    detail = "; ".join(f"{state.name}: {state.error}" for state in broken) or "all fit this version"
    return Finding("plugins", not broken, detail, "Update or uninstall them.")


def dump(settings: Settings, database: Database, *, now: datetime | None = None) -> Path:
    """Write the whole database into `backups/` (pg_dump's custom format), read it back, and return the file.

    Args:
        settings: ours.
        database: at any revision.
        now: for the file's name.

    Raises `DiskFull` before it starts if there is no room, `DatabaseUnavailable` with pg_dump's own words, or
    `StorageError`.
    """
    room = _room(settings, database)
    if not room.ok:
        raise DiskFull(room.detail)
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    final = settings.layout.backups / f"database-{schema.current(database) or 'empty'}-{stamp}.dump"
    part = final.with_name(f".{final.name}.part")
    try:
        _run(database, "pg_dump", "--format=custom", f"--lock-wait-timeout={_LOCK_WAIT}", f"--file={part}")
        _run(database, "pg_restore", "--list", str(part))
        durable.publish(part, final)
    finally:
        part.unlink(missing_ok=True)
    return final


def _run(database: Database, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on the database; the password travels by the environment alone."""
    found = binaries() / program
    path = str(found) if found.exists() else shutil.which(program)
    if path is None:
        raise DatabaseUnavailable(f"{program} is missing")
    known = conninfo_to_dict(database.dsn)
    given = {variable: str(known[name]) for name, variable in _VARIABLES.items() if known.get(name) is not None}
    environment = {**{name: value for name, value in os.environ.items() if not name.startswith("PG")}, **given}
    try:
        done = subprocess.run(
            [path, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False, timeout=_DUMP_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        raise DatabaseUnavailable(f"{program} took longer than {_DUMP_SECONDS:.0f} s") from exc
    if done.returncode != 0:
        raise DatabaseUnavailable(f"{program} failed: {done.stderr.strip()[-600:]}")


def apply(settings: Settings, database: Database, *, keep: bool = True) -> Path | None:
    """Migrate to `HEAD` after a dump. Returns the dump, None where nothing was pending, or nothing was there to lose.

    Args:
        settings: ours.
        database: theirs.
        keep: write the dump.

    Raises what `dump` raises (then nothing was migrated) and `SchemaMismatch`.
    """
    revision = schema.current(database)
    if revision == schema.HEAD:
        return None
    pending_sql(database)  # no way to go is said before an hour of dumping
    written = dump(settings, database) if keep and revision is not None else None
    try:
        schema.upgrade(database)
    except IroncladError as exc:
        if written is not None:
            exc.context["dump"] = str(written)
        raise
    return written
