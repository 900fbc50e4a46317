"""`ironclad prune`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ironclad.cli import output, text
from ironclad.cli.installation import opened
from ironclad.ops import prune as pruning

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "prune": {
        "pruned": "Each with class, path, bytes, age_days, reason, job_uuid.", "bytes": "All together.",
        "dry_run": "Whether nothing was deleted.",
    }
}  # fmt: skip


@app.command()
def prune(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Delete what is too old or over its quota.

    The rules are prune.* in the settings. The scheduled flow `maintenance` does the same, every prune.every_hours.
    Originals are only deleted if a rule says so.
    """
    with opened(context) as installation:
        database = installation.database
        gone = [
            victim for victim in pruning.plan(database, installation.settings)
            if dry_run or pruning.remove(database, victim)
        ]  # fmt: skip
    size = sum(victim.bytes for victim in gone)
    if as_json:
        output.print_json({"pruned": [victim.to_dict() for victim in gone], "bytes": size, "dry_run": dry_run})
        return
    for victim in gone:
        what = "would delete" if dry_run else "deleted"
        output.say(f"{what} {victim.path} ({text.size(victim.bytes)}): {victim.reason}")
    output.say(f"{len(gone)} things, {text.size(size)}.")
