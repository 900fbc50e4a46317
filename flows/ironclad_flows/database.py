"""Where Prefect keeps its data: a database of its own on the PostgreSQL server that Ironclad uses, or SQLite.

Prefect's migrations create the extension `pg_trgm` for trigram indexes, which only speed up searching names in its UI.
The embedded server has no such extension. There the statements are rewritten as they are sent: no extension, and
ordinary indexes of the same names, so that later migrations which drop or rename those find them.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ironclad import log
from ironclad.errors import ConfigError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg
    from sqlalchemy import URL

    from ironclad.config import Settings

_EXTENSION = re.compile(r"(create|drop)\s+extension\b[^;]*\bpg_trgm\b[^;]*;?", re.IGNORECASE)
_INDEX = re.compile(r"using\s+gin\s*\(\s*(\w+)\s+gin_trgm_ops\s*\)", re.IGNORECASE)
_CONNECT_SECONDS = 10
_BOTH_KNOW = frozenset({"host", "port", "user", "password"})
_DRIVER = re.compile(r"^postgres(?:ql)?(?:\+\w+)?:")


@dataclass(frozen=True, slots=True)
class PrefectDatabase:
    """A database for the Prefect server: a SQLAlchemy URL (None: SQLite in Prefect's home) and what lets go of it."""

    url: str | None
    close: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the server's process needs besides: how the connection is made safe."""


def open_database(settings: Settings) -> PrefectDatabase:
    """The database that the settings ask for, made if need be; holds the embedded server where that is the one.

    Beside a server given by URL the database is named like ours with `_prefect` after it. If it cannot be made there,
    `auto` falls back to SQLite and says so. Raises `ConfigError` (it must be PostgreSQL) or `DatabaseUnavailable`.
    """
    if settings.prefect.database == "sqlite":
        return PrefectDatabase(None)
    if settings.database_url is None:
        from ironclad.db.embedded import EmbeddedServer  # noqa: PLC0415 - only where it is used

        server = EmbeddedServer(settings.layout.postgres)
        server.start()
        return PrefectDatabase(server.url("prefect", driver="asyncpg"), server.release)
    try:
        url, environment = _for_asyncpg(_beside(settings.database_url.get_secret_value()))
        return PrefectDatabase(url.render_as_string(hide_password=False), environment=environment)
    except ConfigError as exc:
        if settings.prefect.database == "postgresql":
            raise
        log.get().warning("prefect uses sqlite", reason=str(exc))
        return PrefectDatabase(None)


def _beside(ours: str) -> URL:
    import psycopg  # noqa: PLC0415 - only with PostgreSQL
    from psycopg import sql  # noqa: PLC0415
    from sqlalchemy import make_url  # noqa: PLC0415 - heavy

    parsed = make_url(_DRIVER.sub("postgresql:", ours))
    name = f"{parsed.database or 'ironclad'}_prefect"
    try:
        with _connect(ours) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
            if known is None:
                # The second is what two servers that make it at the same moment are told.
                with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege as exc:
        raise ConfigError(f"The database {name} for Prefect does not exist and may not be created: {exc}") from exc
    return parsed.set(drivername="postgresql+asyncpg", database=name)


def _for_asyncpg(url: URL) -> tuple[URL, dict[str, str]]:
    """A URL with libpq's parameters (`sslmode` …) as one without, and libpq's variables that say the same.

    SQLAlchemy hands each parameter to asyncpg as an argument by its name, and asyncpg refuses what it has none for; but
    it reads the variables for the certificates and the mode as libpq does.
    """
    from psycopg.pq import Conninfo  # noqa: PLC0415 - only with PostgreSQL

    variables = {one.keyword.decode(): one.envvar.decode() for one in Conninfo.get_defaults() if one.envvar}
    kept = {name: value for name, value in url.query.items() if name in _BOTH_KNOW}
    moved = {
        variables[name]: value if isinstance(value, str) else value[-1]
        for name, value in url.query.items()
        if name not in kept and name in variables
    }
    return url.set(query=kept), moved


def _connect(url: str) -> psycopg.Connection[Any]:
    import psycopg  # noqa: PLC0415 - only with PostgreSQL

    from ironclad.db import wire  # noqa: PLC0415

    try:
        return wire.connect(_DRIVER.sub("postgresql:", url), connect_timeout=_CONNECT_SECONDS, autocommit=True)
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailable(str(exc).strip()) from exc


def without_trigrams(statement: str) -> str:
    """A statement as it must be where `pg_trgm` does not exist; unchanged if it does not need it."""
    return _INDEX.sub(r"USING btree (\1)", _EXTENSION.sub("SELECT 1", statement))


_TRIGRAMS = """
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') OR EXISTS (
        SELECT FROM pg_available_extension_versions e, pg_roles r
        WHERE e.name = 'pg_trgm' AND r.rolname = current_user
        AND (r.rolsuper OR e.trusted AND has_database_privilege(current_database(), 'CREATE'))
    )
"""


def has_trigrams(url: str) -> bool:
    """Whether `pg_trgm` is in the database of a SQLAlchemy URL, or its role may put it there.

    Raises `DatabaseUnavailable` if it does not answer.
    """
    with _connect(url) as connection:
        (found,) = connection.execute(_TRIGRAMS).fetchone() or (False,)
    return bool(found)


def rewrite_where_needed(url: str | None) -> Callable[[], None]:
    """Rewrite this process's statements if the server of `url` needs it; returns what ends that."""
    if url is None or has_trigrams(url):
        return lambda: None
    from sqlalchemy import Engine, event  # noqa: PLC0415 - heavy

    def rewrite(
        _connection: object, _cursor: object, statement: str, parameters: Any, _context: object, _many: object
    ) -> tuple[str, Any]:
        return without_trigrams(statement), parameters

    event.listen(Engine, "before_cursor_execute", rewrite, retval=True)
    return lambda: event.remove(Engine, "before_cursor_execute", rewrite)


def let_scheduler_insert() -> None:
    """Let Prefect's scheduler insert its runs under SQLAlchemy 2.1 and later.

    Those refuse a bulk insert that has values for properties that are computed from columns, unless the property says
    what to do with them; earlier ones passed over such values. This says: pass over them.
    """
    from prefect.server.database.orm_models import FlowRun  # noqa: PLC0415 - heavy
    from sqlalchemy import inspect  # noqa: PLC0415 - heavy
    from sqlalchemy.ext.hybrid import hybrid_property  # noqa: PLC0415 - heavy

    def pass_over(_class: object, _mapping: object, _value: object) -> None:
        return

    for computed in inspect(FlowRun).all_orm_descriptors:
        if isinstance(computed, hybrid_property) and getattr(computed, "bulk_dml_setter", pass_over) is None:
            computed.bulk_dml_setter = pass_over  # type: ignore[assignment]  # its type is SQLAlchemy's own secret
