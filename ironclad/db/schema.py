"""The schema's version: what the database has, what this code needs, and going from one to the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ironclad.errors import SchemaMismatch

if TYPE_CHECKING:
    from alembic.config import Config

    from ironclad.db.session import Database

HEAD = "0004"
"""The newest migration; a test holds it to the migration scripts, so that a check needs no Alembic."""

_LOCK = 0x1C0_0001  # advisory lock: one migration at a time


def current(database: Database) -> str | None:
    """The revision of the database; None if it is empty."""
    with database.session() as session:
        if session.scalar(sa.text("SELECT to_regclass('alembic_version')")) is None:
            return None
        revision = session.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return None if revision is None else str(revision)


def check(database: Database) -> None:
    """Raise `SchemaMismatch` unless the database is at `HEAD`."""
    revision = current(database)
    if revision != HEAD:
        raise SchemaMismatch(f"The database is at {revision or 'nothing'}, this version needs {HEAD}.")


def ensure(database: Database) -> None:
    """Bring an empty or embedded database to `HEAD`; raise `SchemaMismatch` for a server of the operator's.

    An operator's server with data is never migrated behind his back.
    """
    revision = current(database)
    if revision == HEAD:
        return
    if database.server is not None:
        upgrade(database)
    elif revision is None:
        strangers = _tables(database)
        if strangers:
            raise SchemaMismatch(
                f"The database holds other tables ({', '.join(strangers[:5])}); `ironclad db upgrade` adds ours."
            )
        upgrade(database)
    else:
        check(database)


def _tables(database: Database) -> list[str]:
    with database.session() as session:
        return list(
            session.scalars(
                sa.text("SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename")
            )
        )


def alembic_config(database: Database, connection: sa.Connection | None = None) -> Config:
    """Alembic's configuration for this database."""
    from alembic.config import Config  # noqa: PLC0415 - only migrations need Alembic

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    config.attributes["url"] = database.url
    return config


def _run(database: Database, action: str, revision: str) -> None:
    from alembic import command  # noqa: PLC0415 - likewise
    from alembic.util import CommandError  # noqa: PLC0415 - likewise

    with database.connection() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        try:
            getattr(command, action)(alembic_config(database, connection), revision)
            connection.commit()
        except CommandError as exc:
            at = current(database) or "nothing"
            raise SchemaMismatch(f"There is no migration of the database from {at} to {revision}: {exc}.") from exc
        finally:
            connection.rollback()
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up, in one transaction, one process at a time. Raises `SchemaMismatch` if no way leads there."""
    _run(database, "upgrade", revision)


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to a revision (`base` is the empty database)."""
    _run(database, "downgrade", revision)
