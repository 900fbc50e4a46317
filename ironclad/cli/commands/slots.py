"""`ironclad slots`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ironclad.cli import output
from ironclad.cli.installation import opened
from ironclad.errors import BadRequest
from ironclad.jobs import control
from ironclad.jobs import slots as changing

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "slots": {
        "pool": "The pool.",
        "slots": "Jobs that it runs at a time.",
        "changed": "Whether an operator said so; else the settings do.",
    }
}


@app.command(no_args_is_help=True)
def slots(
    context: typer.Context,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="The pool: cpu or gpu.")],
    number: Annotated[
        int | None, typer.Argument(metavar="[NUMBER]", min=1, help="Jobs at a time; without it, nothing is changed.")
    ] = None,
    *,
    reset: Annotated[bool, typer.Option("--reset", help="As many as the settings say.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show or change how many jobs a pool runs at a time.

    On all its workers together, while everything runs. It stays so, over restarts too, until --reset. Running jobs
    finish. More jobs at a time need more memory.
    """
    if reset and number is not None:
        raise BadRequest("Give a number or --reset, not both.")
    with opened(context) as installation, installation.database.session() as session:
        pools = installation.settings.pools
        if pool in pools:  # before its dispatcher ran for the first time
            control.declare_pools(session, {pool: pools[pool].slots})
        if reset or number is not None:
            found = changing.change(session, pool, number, actor=installation.actor)
        else:
            found = changing.shown(session, pool)
    if as_json:
        output.print_json({"pool": pool, "slots": found.number, "changed": found.changed})
    else:
        how = "changed by an operator" if found.changed else "by the settings"
        output.say(f"Pool {pool} runs {found.number} at a time, {how}.")
