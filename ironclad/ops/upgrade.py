"""Before and during an upgrade: what stands in the way, what a migration would do, and a dump before it does."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ironclad.db import schema
from ironclad.errors import IroncladError, SchemaMismatch
from ironclad.ops import backup
from ironclad.plugins.manager import PluginManager, PluginStatus

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database


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
    enough, words = backup.room(settings, database)
    return Finding("disk", enough, words, "Free some space for the dump.")


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


def apply(settings: Settings, database: Database, *, keep: bool = True) -> Path | None:
    """Migrate to `HEAD` after a dump. Returns the dump, None where nothing was pending, or nothing was there to lose.

    Args:
        settings: ours.
        database: theirs.
        keep: write the dump.

    Raises what `backup.dump` raises (then nothing was migrated) and `SchemaMismatch`.
    """
    revision = schema.current(database)
    if revision == schema.HEAD:
        return None
    pending_sql(database)  # no way to go is said before an hour of dumping
    written = backup.dump(settings, database) if keep and revision is not None else None
    try:
        schema.upgrade(database)
    except IroncladError as exc:
        if written is not None:
            exc.context["dump"] = str(written)
        raise
    return written
