"""`ironclad up`."""

from __future__ import annotations

from typing import Annotated

import typer

from ironclad.cli import options
from ironclad.cli.upscreen import LinesScreen, LiveScreen, screen_for
from ironclad.ops.supervisor import Supervisor

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def up(
    context: typer.Context,
    *,
    plain: Annotated[bool, typer.Option("--plain", help="A line for each event, also on a terminal.")] = False,
) -> None:
    """Start everything on this machine and keep it running.

    Ctrl-C stops everything in order; a second one at once. Logs are in logs/ of the data folder.
    """
    chosen = options.of(context)
    settings = chosen.settings(quiet=True)
    chosen.export()
    settings.layout.create()
    screen: LinesScreen | LiveScreen = screen_for(settings, plain=plain)
    with screen:
        Supervisor(settings, screen.heard).run()
