"""`ironclad why`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from ironclad.cli import exits, output, text
from ironclad.cli.installation import opened
from ironclad.cli.named import named
from ironclad.ingest.why import Verdict
from ironclad.ingest.why import why as explain

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "why": {
        "path": "The file, absolute.",
        "verdict": f"One of {', '.join(Verdict)}.",
        "sentence": "What happened, for people.",
        "hint": "What to do; empty if nothing.",
        "job_uuid": "The job, or null.",
        "…": "More that fits the verdict: state, stage, code, rule, watch_root, user, size, taken_in_seconds …",
    }
}


@app.command(no_args_is_help=True)
def why(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(parser=named, metavar="FILE", help="A file as it was dropped, or below archive/.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what happened to a file, or what will.

    Ends with exit code 5 if there is no such file and never was.
    """
    with opened(context) as installation:
        answer = explain(installation.database, installation.settings, file)
    if as_json:
        output.print_json(answer.to_dict())
    else:
        output.say(f"{answer.path}: {answer.verdict}", style="bold")
        output.say(answer.sentence)
        if answer.hint:
            output.say(f"What to do: {answer.hint}")
        if answer.job_uuid is not None:
            output.say(f"More: ironclad jobs show {text.short_id(answer.job_uuid)}", style="dim")
    if answer.verdict is Verdict.MISSING:
        raise typer.Exit(exits.NOT_FOUND)
