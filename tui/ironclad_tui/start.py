"""What `ironclad tui` does: opens the installation or a recording, and runs the cockpit on it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from ironclad.cli import options as cli_options
from ironclad.db import schema
from ironclad.db.session import Database
from ironclad.errors import NoInstallation
from ironclad_tui.prefs import Prefs, default_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ironclad.cli.options import GlobalOptions
    from ironclad_tui.source import Source


def run(
    given: GlobalOptions, *, read_only: bool = False, theme: str = "", replay: Path | None = None,
    at: str | None = None, record: Path | None = None, serve: str | None = None, token: str | None = None,
) -> None:  # fmt: skip
    """Run the cockpit until it is left.

    Args:
        given: the options before the command.
        read_only: refuse every action.
        theme: a look for this time; empty is the one chosen last.
        replay: look at this recording.
        at: look at how things were at a time.
        record: write a recording, and return.
        serve: `HOST:PORT` to serve the cockpit on, in a browser.
        token: what a browser must know.
    """
    if serve is not None:
        from ironclad_tui.serve import serve as serve_on  # noqa: PLC0415 - a web server: only when asked for

        serve_on(serve, token, given, read_only=read_only)
        return
    if replay is not None:
        from ironclad_tui.replay import recorded  # noqa: PLC0415 - only for recordings

        _show(recorded(replay), theme)
        return
    with _opened(given) as (loaded, database):
        if record is not None:
            from ironclad_tui.replay import write  # noqa: PLC0415 - only for recordings

            write(database, record)
        elif at is not None:
            from ironclad_tui.replay import at_time  # noqa: PLC0415 - only for recordings

            _show(at_time(database, at), theme)
        else:
            from ironclad_tui.live import LiveSource  # noqa: PLC0415 - not for recordings

            _show(LiveSource(loaded, database, f"tui:{cli_options.actor()[4:]}", read_only=read_only), theme)


def _show(source: Source, theme: str) -> None:
    from ironclad_tui.app import IroncladApp  # noqa: PLC0415 - Textual: last, when there is something to show

    prefs = Prefs.load(default_path())
    if theme:
        prefs.theme = theme
    IroncladApp(source, prefs).run()


@contextlib.contextmanager
def _opened(given: GlobalOptions) -> Iterator[tuple[Any, Database]]:
    """Settings and database. A server of the operator's that is away or old is shown in a banner, not refused here."""
    os.environ.update(given.environ())
    given.settings(quiet=True)
    loaded = given.loaded()
    settings = loaded.settings
    embedded = settings.database_url is None
    if embedded and not (settings.layout.postgres / "PG_VERSION").exists():
        raise NoInstallation(f"{settings.layout.root} holds no database.")
    database = Database.open(settings)
    try:
        if embedded:
            schema.ensure(database)
        yield loaded, database
    finally:
        database.close()
