"""`ironclad plugins`: what is loaded, and packages to begin new ones with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ironclad.cli import output
from ironclad.cli.named import named
from ironclad.engines.registry import installed_engines
from ironclad.plugins import scaffold

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
new_app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
app.add_typer(new_app, name="new")

_WRITTEN: Final = {
    "name": "Its name.",
    "distribution": "What pip knows it by, and the name of the folder.",
    "folder": "Where it is.",
    "files": "Paths in the folder.",
}
JSON: Final = {
    "plugins list": {
        "plugins": "Each with name, distribution, version, builtin, status (loaded, broken, disabled) and error.",
    },
    "plugins new engine": _WRITTEN,
    "plugins new notifier": _WRITTEN,
}
Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and dashes.")]
Folder = Annotated[
    Path, typer.Argument(parser=named, metavar="DIR", help="Where to put its folder; the current folder by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def plugins() -> None:
    """List plugins and what became of them; begin new ones."""


@app.command("list")
def list_plugins(*, as_json: AsJson = False) -> None:
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


@new_app.callback()
def new() -> None:
    """Write a package to begin a plugin with: it works as it is, tests included."""


@new_app.command("engine")
def new_engine(name: Name, folder: Folder = Path(), *, as_json: AsJson = False) -> None:
    """Write a separation engine: a package with a small engine, a locked environment and the contract as its tests."""
    _say(scaffold.write("engine", name, folder.absolute()), as_json=as_json)


@new_app.command("notifier")
def new_notifier(name: Name, folder: Folder = Path(), *, as_json: AsJson = False) -> None:
    """Write a kind of notifier: a package that posts messages to an HTTP service, and a service for its tests."""
    _say(scaffold.write("notifier", name, folder.absolute()), as_json=as_json)


def _say(written: scaffold.Written, *, as_json: bool) -> None:
    if as_json:
        data: dict[str, Any] = {
            "name": written.name, "distribution": written.distribution, "folder": str(written.folder),
            "files": list(written.files),
        }  # fmt: skip
        output.print_json(data)
        return
    output.say(f"{written.folder} has {len(written.files)} files. Next:")
    output.say(f"  cd {written.folder}")
    output.say("  pip install --editable '.[testing]'")
    output.say("  pytest")
