"""`ironclad failures`: what failed, grouped by cause, with the one thing to do about each."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ironclad.cli import output, text
from ironclad.cli.installation import opened
from ironclad.jobs import failures as grouped

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "failures": {
        "groups": "Largest first, each with code, stage, fingerprint, jobs, first_at, last_at, detail, example, what, "
        "hint, links, kind."
    }
}


@app.command()
def failures(
    context: typer.Context, *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show what failed, grouped by cause, and what to do about it."""
    with opened(context) as installation, installation.database.session() as session:
        groups = grouped.groups(session)
    if as_json:
        output.print_json({"groups": [one.to_dict() for one in groups]})
        return
    if not groups:
        output.say("Nothing has failed.")
    for one in groups:
        count = "1 job" if one.jobs == 1 else f"{one.jobs} jobs"
        mark = f" [{one.fingerprint}]" if one.fingerprint else ""
        output.say(f"{one.code}{mark}  {count} at stage {one.stage}: {one.what}", style="bold")
        if one.detail:
            output.say(f"  The last one said: {one.detail}")
        output.say(f"  First {text.ago(one.first_at)}, last {text.ago(one.last_at)}.")
        output.say(f"  What to do: {one.hint}")
        again = f"ironclad retry --class {one.code}" + (f" --fingerprint {one.fingerprint}" if one.fingerprint else "")
        output.say(f"  Then: {again}   (why: ironclad jobs why {text.short_id(one.example)})", style="dim")
