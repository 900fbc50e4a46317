"""Connections and sessions; the library's errors become the catalogue's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlmodel import Session
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from ironclad.db import jsonb, wire
from ironclad.db.embedded import EmbeddedServer
from ironclad.errors import ConfigError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from ironclad.config import Settings

    T = TypeVar("T")


# A connection to another host notices within a minute that the host is gone, also in the middle of a question
# (milliseconds; keepalives are not sent then); libpq's own choices are two hours and a quarter of one.
KEEPALIVES: Mapping[str, str] = {
    "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3", "tcp_user_timeout": "30000",
}  # fmt: skip


def _sqlalchemy_url(url: str) -> sa.URL:
    """Accept the usual spellings (`postgres://`, `postgresql://`) and put our driver in. Raises `ConfigError`."""
    try:
        parsed = sa.make_url(url.replace("postgres://", "postgresql://", 1))
    except sa_exc.ArgumentError as exc:  # its words may hold the URL and so a password
        raise ConfigError("database_url is not the URL of a PostgreSQL server.") from exc
    if parsed.get_backend_name() != "postgresql":
        raise ConfigError(f"database_url names {parsed.get_backend_name()}; Ironclad needs PostgreSQL.")
    return parsed.set(drivername="postgresql+psycopg", query={**KEEPALIVES, **parsed.query})


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sa_exc.DBAPIError as exc:
        # What the server says as it ends a connection (idle in a transaction for too long) may be of any class.
        if not (isinstance(exc, sa_exc.OperationalError | sa_exc.InterfaceError) or exc.connection_invalidated):
            raise
        lines = str(exc.orig or exc).strip().splitlines() or [type(exc.orig or exc).__name__]
        raise DatabaseUnavailable(lines[0]) from exc
    except sa_exc.TimeoutError as exc:
        raise DatabaseUnavailable("All connections of this process are in use.") from exc


def _connect(_dialect: Any, _record: Any, arguments: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    return wire.connect(*arguments, **settings)


class Database:
    """One PostgreSQL database, with a small connection pool.

    Args:
        url: any PostgreSQL URL.
        server: the embedded server to release on `close`, if this process holds it.
        clock_offset: added to the database's clock (`ironclad_now()`), for tests that step time.
        idle_seconds: the server ends a transaction in which nothing was said for so long. A process that was stopped,
            or a machine that was cut off, in the middle of one would keep its row locks, and its job, for ever.
    """

    def __init__(
        self, url: str, server: EmbeddedServer | None = None, *, clock_offset: str = "", idle_seconds: float = 60.0
    ) -> None:
        self.url = _sqlalchemy_url(url)
        self.server = server
        options = f"-c idle_in_transaction_session_timeout={round(idle_seconds * 1000)}"
        if clock_offset:
            options += f" -c ironclad.clock_offset={clock_offset.replace(' ', chr(92) + ' ')}"
        arguments: dict[str, object] = {"connect_timeout": 10, "application_name": "ironclad", "options": options}
        self.engine = sa.create_engine(
            self.url, pool_size=3, max_overflow=7, pool_pre_ping=True, pool_recycle=1800, connect_args=arguments,
            json_serializer=jsonb.dumps,
        )  # fmt: skip
        sa.event.listen(self.engine, "do_connect", _connect)

    @classmethod
    def open(cls, settings: Settings) -> Database:
        """The database of the settings; starts the embedded server where no URL is set."""
        if settings.database_url is not None:
            return cls(settings.database_url.get_secret_value())
        server = EmbeddedServer(settings.layout.postgres)
        server.start()
        return cls(server.url(), server)

    @property
    def dsn(self) -> str:
        """Connection string, for psycopg itself (LISTEN)."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session that commits at the end and rolls back on any error. Raises `DatabaseUnavailable`."""
        with _translated(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """A bare connection, for migrations. Raises `DatabaseUnavailable`."""
        with _translated(), self.engine.connect() as connection:
            yield connection

    def patiently(self, call: Callable[[], T], *, seconds: float) -> T:
        """Call until the database answers, at most `seconds` long; then `DatabaseUnavailable`."""
        retrying = Retrying(
            retry=retry_if_exception_type(DatabaseUnavailable),
            stop=stop_after_delay(seconds),
            wait=wait_exponential(multiplier=0.1, max=2.0) + wait_random(0, 0.1),
            reraise=True,
        )
        return retrying(call)

    def close(self) -> None:
        """Close all connections and let go of the embedded server."""
        self.engine.dispose()
        if self.server is not None:
            self.server.release()
