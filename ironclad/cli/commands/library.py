"""`ironclad library`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from ironclad.cli import exits, options, output, queueing, text
from ironclad.cli.installation import opened
from ironclad.cli.named import named
from ironclad.errors import BadRequest, NotFound
from ironclad.library.lint import Severity
from ironclad.ops.library import preview as previews
from ironclad.ops.library.refiling import Refiler
from ironclad.ops.library.survey import survey

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

JSON: Final = {
    "library preview": {
        "template": "The path template.",
        "tracks": "Each with source, path (below the library), wanted (by the template alone) and collides.",
        "collisions": "How many need another name than the template gives.",
    },
    "library lint": {
        "root": "What was looked at.",
        "files": "How many audio files there are.",
        "errors": "How many findings are errors.",
        "warnings": "How many are warnings.",
        "findings": "Each with rule, severity, server, message and paths (docs/lint.md).",
    },
    "library refile": {
        "template": "The path template.",
        "applied": "Whether the moves were made.",
        "moves": "Each with from and to, below the library.",
    },
}
_STYLES: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow"}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Template = Annotated[
    str | None, typer.Option("--template", metavar="TEMPLATE", help="Try this path template, not the setting's.")
]


@app.callback()
def library() -> None:
    """Preview paths, lint and refile the library."""


@app.command(no_args_is_help=True)
def preview(
    context: typer.Context,
    files: Annotated[
        list[Path] | None, typer.Argument(parser=named, metavar="FILE", help="Music files, or folders to look through.")
    ] = None,
    *,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            "--catalogue",
            parser=named,
            metavar="FILE",
            help="Tracks as JSON lines, each the fields of a template; - reads them.",
        ),
    ] = None,
    template: Template = None,
    as_json: AsJson = False,
) -> None:
    """Show where results would be published, and which names collide; nothing is written."""
    settings = options.of(context).settings()
    if bool(files) == (catalogue is not None):
        raise BadRequest("Name files, or give a --catalogue.")
    chosen = previews.template(settings, template)
    if catalogue is None:
        found = queueing.gather(files or [], settings)
        pairs = [(one.path, one.relative) for one in found]
        wanted = previews.of_files(settings, pairs, settings.output.stems, settings.engine.name)
    elif str(catalogue) == "-":
        wanted = previews.of_catalogue(sys.stdin)
    else:
        if not catalogue.is_file():
            raise NotFound(f"There is no file {catalogue}.")
        with catalogue.open(encoding="utf-8") as lines:
            wanted = previews.of_catalogue(lines)
    placed = previews.preview(wanted, chosen, previews.existing(settings.layout.output))
    collisions = sum(one.collides for one in placed)
    if as_json:
        tracks = [one.to_dict() for one in placed]
        output.print_json({"template": chosen.source, "tracks": tracks, "collisions": collisions})
        return
    for one in placed:
        note = f"  ({one.wanted.name} is taken)" if one.collides else ""
        output.say(f"{one.place}{note}", style="yellow" if one.collides else "")
    output.remark(f"{text.counted(len(placed), 'track')}, {text.counted(collisions, 'collision')}.")


@app.command()
def lint(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(parser=named, metavar="PATH", help="A folder; the library by default.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Say what Navidrome, Jellyfin and Plex would merge, split or mistake.

    Ends with exit code 1 if there is an error; warnings are allowed. Nothing is changed.
    """
    settings = options.of(context).settings()
    root = (path or settings.layout.output).absolute()
    files, findings = survey(root)
    errors = sum(finding.is_error for finding in findings)
    if as_json:
        output.print_json(
            {
                "root": root, "files": files, "errors": errors, "warnings": len(findings) - errors,
                "findings": [finding.to_dict() for finding in findings],
            }
        )  # fmt: skip
    else:
        for finding in findings:
            line = Text(finding.severity.value, style=_STYLES[finding.severity])
            line.append(text.printable(f"  {finding.rule} ({finding.server}): {finding.message}"), "default")
            output.stdout().print(line)
            for one in finding.paths:
                output.say(f"    {one}", style="dim")
        warnings = text.counted(len(findings) - errors, "warning")
        output.say(f"{text.counted(files, 'file')}: {text.counted(errors, 'error')}, {warnings}.")
    if errors:
        raise typer.Exit(exits.FAILED)


@app.command(no_args_is_help=True)
def refile(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be moved.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Move the files.")] = False,
    template: Template = None,
    as_json: AsJson = False,
) -> None:
    """Move the library to the path template in force; receipts, covers and records go along."""
    if dry_run == apply:
        raise BadRequest("Say --dry-run or --apply.")
    if apply and template is not None:
        raise BadRequest("--template is for --dry-run; set output.template to use it, or new files go elsewhere.")
    with opened(context) as installation:
        refiler = Refiler(installation.database, installation.settings, installation.actor)
        chosen = previews.template(installation.settings, template)
        if apply:
            refiler.mend(chosen)
        moves = refiler.plan(chosen)
        done = list(refiler.apply(moves)) if apply else moves
    if as_json:
        pairs = [{"from": str(move.source), "to": str(move.target)} for move in done]
        output.print_json({"template": chosen.source, "applied": apply, "moves": pairs})
        return
    for move in done:
        output.say(f"{move.source}\n  -> {move.target}")
    output.remark(f"{text.counted(len(done), 'file')} {'moved' if apply else 'would be moved'}.")
