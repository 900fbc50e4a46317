"""The schema's version: what the database has, what this code needs, and going from one to the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

import ironclad
from ironclad.errors import SchemaMismatch

if TYPE_CHECKING:
    from alembic.config import Config

    from ironclad.db.session import Database

HEAD = "0006"
"""The newest migration; a test holds it to the migration scripts, so that a check needs no Alembic."""

MIN_CODE = "0.1"
"""The oldest version (`major.minor`) whose code works on tables of `HEAD`; goes up with a migration that takes
something away or demands something new. It is written into the database with each migration, so that code of then knows
whether it may go on: hosts can be upgraded one after another, and back."""

_LOCK = 0x1C0_0001  # advisory lock: one migration at a time
_RULE = re.compile(r"ironclad min_code=(\d+\.\d+)")


def current(database: Database) -> str | None:
    """The revision of the database; None if it is empty."""
    with database.session() as session:
        if session.scalar(sa.text("SELECT to_regclass('alembic_version')")) is None:
            return None
        revision = session.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return None if revision is None else str(revision)


def serves(database: Database, revision: str | None, version: str = ironclad.__version__) -> bool:
    """Whether code of a version may use a database at a revision: its own, or a later one that still allows it.

    Args:
        database: what it says of the oldest code that it allows.
        revision: its revision.
        version: the code's.
    """
    if revision == HEAD:
        return True
    if revision is None or revision < HEAD:
        return False
    with database.session() as session:
        said = session.scalar(sa.text("SELECT obj_description('alembic_version'::regclass, 'pg_class')")) or ""
    found = _RULE.fullmatch(str(said))
    return found is not None and _minor(version) >= _minor(found[1])


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def check(database: Database) -> None:
    """Raise `SchemaMismatch` unless the database is at `HEAD`, or at a later revision that allows this code."""
    revision = current(database)
    if not serves(database, revision):
        raise SchemaMismatch(f"The database is at {revision or 'nothing'}, this version needs {HEAD}.")


def ensure(database: Database) -> None:
    """Bring an empty or embedded database to `HEAD`; raise `SchemaMismatch` for a server of the operator's.

    An operator's server with data is never migrated behind his back.
    """
    revision = current(database)
    if serves(database, revision):
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
    with database.connection() as connection, connection.begin():
        connection.execute(sa.text(f"COMMENT ON TABLE alembic_version IS 'ironclad min_code={MIN_CODE}'"))


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to a revision (`base` is the empty database)."""
    _run(database, "downgrade", revision)
    with (
        database.connection() as connection,
        connection.begin(),
    ):  # what newer tables allowed says nothing of older ones
        connection.execute(sa.text("COMMENT ON TABLE alembic_version IS NULL"))
