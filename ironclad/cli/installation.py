"""Opening what a command works on: settings and database, and closing them whatever happens."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad.cli import options, output
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.errors import NoInstallation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer

    from ironclad.config import Settings


@dataclass(frozen=True, slots=True)
class Installation:
    """What a command works on."""

    settings: Settings
    database: Database
    actor: str

    @property
    def pools(self) -> frozenset[str]:
        """The names of the pools of this machine."""
        return frozenset(self.settings.pools)


@contextlib.contextmanager
def opened(
    context: typer.Context, *, create: bool = False, quiet: bool = False, migrate: bool = True
) -> Iterator[Installation]:
    """The installation of the settings; an embedded server that nobody runs is started for the duration.

    Args:
        context: of the command.
        create: make the data folder and the database if they are not there; else `NoInstallation`.
        quiet: log errors only.
        migrate: bring an embedded or empty database to this version's schema (others are checked).
    """
    settings = options.of(context).settings(quiet=quiet)
    embedded = settings.database_url is None
    if embedded and not create and not (settings.layout.postgres / "PG_VERSION").exists():
        raise NoInstallation(f"{settings.layout.root} holds no database.")
    if create:
        settings.layout.create()
    with _patience(show=embedded and EmbeddedServer(settings.layout.postgres).pid() is None):
        database = Database.open(settings)
    try:
        if migrate:
            schema.ensure(database)
        yield Installation(settings, database, options.actor())
    finally:
        database.close()


@contextlib.contextmanager
def _patience(*, show: bool) -> Iterator[None]:
    """Say that the database is starting, on a terminal only."""
    if show and sys.stderr.isatty():
        with output.stderr().status("Starting the database …"):
            yield
    else:
        yield
