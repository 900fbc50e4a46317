"""`ironclad run`: what `ironclad up`, systemd and compose call for one service."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ironclad.cli import failure, options
from ironclad.errors import BadRequest, IroncladError
from ironclad.ops import directory, service
from ironclad.ops.services import registry

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_WORKER = "worker"


@app.command(no_args_is_help=True)
def run(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="SERVICE", help="watch, dispatch, notify, api, prefect, worker or postgres.")
    ],
    *,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Of a worker.")] = None,
) -> None:
    """Run one service in the foreground (systemd, containers).

    SIGTERM stops it gracefully, a second one at once. Exit code 75: start it again; 78: that would be useless.
    """
    chosen = options.of(context)
    try:
        settings = chosen.settings()
    except IroncladError as exc:  # whoever restarts services goes by these codes
        sys.stderr.write(f"{failure.describe(exc)}\n")
        raise typer.Exit(service.exit_code(exc)) from None
    chosen.export()  # what the service starts reads its settings itself
    if (name == _WORKER) != (pool is not None):
        raise BadRequest("A worker needs --pool, and nothing else takes it.")
    raise typer.Exit(registry.run(name if pool is None else directory.worker(pool), settings))
