"""`ironclad plugins`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ironclad.cli import output
from ironclad.engines.registry import installed_engines

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

JSON: Final = {
    "plugins list": {
        "plugins": "Each with name, distribution, version, builtin, status (loaded, broken, disabled) and error.",
    }
}


@app.callback()
def plugins() -> None:
    """List plugins and what became of them."""


@app.command("list")
def list_plugins(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List every plugin that is installed; a broken one says why."""
    states = installed_engines().plugins()
    if as_json:
        output.print_json(
            {
                "plugins": [
                    {
                        "name": state.name, "distribution": state.distribution, "version": state.version,
                        "builtin": state.builtin, "status": state.status.value, "error": state.error or None,
                    }
                    for state in states
                ]
            }
        )  # fmt: skip
        return
    grid = output.Grid(("PLUGIN", "STATUS", "DISTRIBUTION", "VERSION", "ERROR"), states="STATUS", wide="ERROR")
    for state in states:
        grid.add(state.name, state.status.value, state.distribution, state.version, state.error)
    grid.print()
