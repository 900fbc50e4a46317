"""`ironclad upgrade`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

import ironclad
from ironclad.cli import exits, output
from ironclad.cli.installation import opened
from ironclad.db import schema
from ironclad.ops import upgrade as upgrading

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

JSON: Final = {
    "upgrade check": {
        "ok": "Whether nothing stands in the way.",
        "version": "The version that is installed now.",
        "current": "The revision of the database, or null if it is empty.",
        "head": "The revision that this version needs.",
        "findings": "What was looked at, each with name, ok, detail and remedy.",
        "sql": "What the pending migrations would execute.",
    },
    "upgrade apply": {
        "before": "The revision before, or null.",
        "current": "The revision now.",
        "dump": "The dump that was written first, or null.",
    },
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def upgrade() -> None:
    """Look before an upgrade, and migrate with a dump first."""


@app.command()
def check(
    context: typer.Context,
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Show what the pending migrations would execute.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what an upgrade to this version would do and what stands in its way.

    Ends with exit code 1 if something does. Nothing is changed.
    """
    with opened(context, migrate=False) as installation:
        found = upgrading.check(installation.settings, installation.database)
    if as_json:
        rows = [
            {"name": one.name, "ok": one.ok, "detail": one.detail, "remedy": "" if one.ok else one.remedy}
            for one in found.findings
        ]
        output.print_json(
            {
                "ok": found.ok, "version": ironclad.__version__, "current": found.current, "head": found.head,
                "findings": rows, "sql": found.sql,
            }
        )  # fmt: skip
    else:
        for one in found.findings:
            output.say(f"{'ok  ' if one.ok else 'FAIL'}  {one.name}: {one.detail}")
            if not one.ok:
                output.say(f"      What to do: {one.remedy}")
        if sql and found.sql:
            output.say(found.sql)
    if not found.ok:
        raise typer.Exit(exits.FAILED)


@app.command()
def apply(
    context: typer.Context,
    *,
    dump: Annotated[bool, typer.Option("--dump/--no-dump", help="Write the database into backups/ first.")] = True,
    as_json: AsJson = False,
) -> None:
    """Dump the database into backups/, read the dump back, then migrate.

    If the dump fails, nothing is migrated. `ironclad backup restore` puts a dump back (docs/upgrading.md).
    """
    with opened(context, migrate=False) as installation:
        before = schema.current(installation.database)
        written = upgrading.apply(installation.settings, installation.database, keep=dump)
        after = schema.current(installation.database)
    if as_json:
        output.print_json({"before": before, "current": after, "dump": written})
        return
    if written is not None:
        output.say(f"The database was written to {written}.")
    was = "is at" if before == after else f"went from {before or 'nothing'} to"
    output.say(f"The database {was} {after}.")
