"""`ironclad process`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ironclad.cli import asked, display, exits, output, queueing, results
from ironclad.cli.inline import InlineRunner
from ironclad.cli.installation import opened
from ironclad.cli.named import named

if TYPE_CHECKING:
    from ironclad.cli.queueing import Wishes

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {"process": results.JSON}
_MOST_AT_A_TIME = 8


@app.command(no_args_is_help=True)
def process(
    context: typer.Context,
    files: asked.Files,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", parser=named, metavar="DIR", help="Put results here, not into the library."),
    ] = None,
    engine: asked.Engine = None,
    model: asked.Model = None,
    output_format: asked.OutputFormat = None,
    stems: asked.Stems = None,
    instrumental: asked.HowInstrumental = None,
    karaoke_db: asked.KaraokeDb = None,
    force: asked.Force = False,
    at_a_time: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, max=_MOST_AT_A_TIME, help="Files at a time.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end.")] = False,
) -> None:
    """Process files now, with nothing else running.

    The files stay where they are. Results go into the library of the data folder, or, with -o, directly into a folder.
    """
    with opened(context, create=True, quiet=True) as installation:
        settings = installation.settings
        found = queueing.gather(files, settings)

        def wishes(pool: str) -> Wishes:
            return queueing.wishes(
                settings, engine=engine, model=model, output_format=output_format, stems=stems, force=force,
                mixing=queueing.mix(instrumental, karaoke_db),
                output=out, pool=pool,
            )  # fmt: skip

        slots = at_a_time or min(len(found), _MOST_AT_A_TIME, max(pool.slots for pool in settings.pools.values()))
        with display.watching(len(found), as_json=as_json) as shown:
            done = InlineRunner(installation.database, settings, wishes, slots, shown).run(found)
    summary = results.summary(done)
    if as_json:
        output.print_json(summary)
    elif len(done) > 1:
        output.say(display.tally(summary))
    if summary["failed"]:
        raise typer.Exit(exits.FAILED)
