"""`ironclad orphans`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ironclad.cli import exits, failure, output
from ironclad.cli.installation import opened
from ironclad.errors import IroncladError
from ironclad.ops import orphans as found_by

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "orphans": {
        "orphans": "Each with kind (no-job, no-file, unfinished, damaged, misplaced), path, reason, todo, job_uuid, "
        "moved (where --fix put it, or null).",
        "errors": "What could not be fixed, each with path and error.",
    }
}


@app.command()
def orphans(
    context: typer.Context,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Move what is in the way to orphaned/, with the reason.")] = False,
    hashes: Annotated[
        bool, typer.Option("--hash", help="Read every published file and compare it with its record; slow.")
    ] = False,
    minutes: Annotated[
        float, typer.Option("--quiet", metavar="MINUTES", min=0.0, help="Leave alone what is younger.")
    ] = found_by.QUIET_SECONDS / 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find files without jobs, jobs without files, leftovers, damage.

    Nothing is ever deleted by it. Ends with exit code 1 if something was found.
    """
    errors: list[dict[str, object]] = []
    with opened(context) as installation:
        listed = list(
            found_by.find(installation.database, installation.settings, hashes=hashes, quiet_seconds=minutes * 60)
        )
        for index, one in enumerate(listed if fix else ()):
            try:
                listed[index] = found_by.fix(installation.database, installation.settings, one)
            except IroncladError as exc:
                errors.append({"path": str(one.path), "error": exc.to_dict()})
                output.remark(f"{one.path}: {failure.describe(exc)}", style="")
    if as_json:
        output.print_json({"orphans": [one.to_dict() for one in listed], "errors": errors})
    else:
        for one in listed:
            output.say(f"{one.kind}  {one.path}", style="bold")
            output.say(f"  {one.reason}")
            output.say(f"  Moved to {one.moved}." if one.moved else f"  What to do: {one.todo}")
        if not listed:
            output.say("Every file has its job, and every job its files.")
            if minutes:
                output.say(f"What is younger than {minutes:g} minutes was not looked at (--quiet).", style="dim")
    if listed and (errors or not fix):
        raise typer.Exit(exits.FAILED)
