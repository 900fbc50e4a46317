"""`ironclad db`."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from ironclad.cli import output
from ironclad.cli.installation import opened
from ironclad.db import schema
from ironclad.errors import BadRequest

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_CURRENT: Final = {
    "current": "The revision of the database, or null if it is empty.",
    "head": "The revision that this version of Ironclad needs.",
}
JSON: Final = {
    "db upgrade": _CURRENT, "db downgrade": _CURRENT, "db current": _CURRENT, "db check": _CURRENT,
}  # fmt: skip

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def db() -> None:
    """Migrate and check the database."""


def _print(revision: str | None, *, as_json: bool, sentence: str) -> None:
    if as_json:
        output.print_json({"current": revision, "head": schema.HEAD})
    else:
        output.say(sentence)


@app.command()
def upgrade(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Bring the database to what this version of Ironclad needs (makes it where there is none)."""
    with opened(context, create=True, migrate=False) as installation:
        before = schema.current(installation.database)
        schema.upgrade(installation.database)
        after = schema.current(installation.database)
    was = "is at" if before == after else f"went from {before or 'nothing'} to"
    _print(after, as_json=as_json, sentence=f"The database {was} {after}.")


@app.command()
def downgrade(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="Where to go back to; `base` is empty.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: what newer revisions hold is lost.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take the database back to an older revision. What only newer ones can hold is lost."""
    if not yes:
        if not sys.stdin.isatty():
            raise BadRequest("A downgrade loses data; say --yes.")
        typer.confirm(f"Go back to {revision} and lose what newer revisions hold?", abort=True, err=True)
    with opened(context, migrate=False) as installation:
        schema.downgrade(installation.database, revision)
        after = schema.current(installation.database)
    _print(after, as_json=as_json, sentence=f"The database is at {after or 'nothing'}.")


@app.command()
def current(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the revision of the database and the one that this version needs."""
    with opened(context, migrate=False) as installation:
        revision = schema.current(installation.database)
    _print(
        revision, as_json=as_json,
        sentence=f"The database is at {revision or 'nothing'}; this version needs {schema.HEAD}.",
    )  # fmt: skip


@app.command()
def check(context: typer.Context, *, as_json: AsJson = False) -> None:
    """End with exit code 3 unless the database is what this version needs."""
    with opened(context, migrate=False) as installation:
        schema.check(installation.database)
    _print(schema.HEAD, as_json=as_json, sentence=f"The database is at {schema.HEAD}, as it must be.")
