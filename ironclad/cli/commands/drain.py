"""`ironclad drain`."""

from __future__ import annotations

import time
from typing import Annotated, Final

import sqlalchemy as sa
import typer

from ironclad.cli import exits, output
from ironclad.cli.installation import opened
from ironclad.jobs import control

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {"drain": {"running": "Jobs that still run.", "drained": "Whether none does."}}
_LOOK_SECONDS: Final = 0.5


@app.command()
def drain(
    context: typer.Context,
    *,
    seconds: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="Wait so long at most; 0 does not wait.")
    ] = 3600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Finish what runs and start nothing, for maintenance.

    Everything stays so until `ironclad resume`. Ends with exit code 1 if something still runs.
    """
    deadline = time.monotonic() + seconds
    with opened(context) as installation:
        with installation.database.session() as session:
            control.pause(session, None, paused=True, actor=installation.actor)
        while True:
            with installation.database.session() as session:
                running = int(session.scalar(sa.text("SELECT count(*) FROM job WHERE state = 'running'")) or 0)
            if not running or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_SECONDS)
    if as_json:
        output.print_json({"running": running, "drained": not running})
    elif running:
        output.say(f"{running} still running; nothing new starts.")
    else:
        output.say("Nothing runs and nothing starts. `ironclad resume` opens the pipeline again.")
    if running:
        raise typer.Exit(exits.FAILED)
