"""`ironclad submit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from ironclad.cli import asked, display, exits, output, queueing, results, text
from ironclad.cli.follow import follow
from ironclad.cli.installation import Installation, opened
from ironclad.errors import DatabaseUnavailable, IroncladError, SourceMissing
from ironclad.ingest.places import DEFAULT_USER
from ironclad.ops import directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ironclad.cli.queueing import Found, Wishes
    from ironclad.cli.results import Result

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "submit": {
        "jobs": "One entry for each file, as `process` has it; without --wait as it is now.",
        "queued": "How many wait for a worker or run; with --wait none.",
        **{name: meaning for name, meaning in results.JSON.items() if name != "jobs"},
    }
}


@app.command(no_args_is_help=True)
def submit(
    context: typer.Context,
    files: asked.Files,
    *,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Whose they are.")] = DEFAULT_USER,
    priority: Annotated[int, typer.Option("--priority", metavar="N", help="Higher goes first.")] = 0,
    engine: asked.Engine = None,
    model: asked.Model = None,
    output_format: asked.OutputFormat = None,
    stems: asked.Stems = None,
    instrumental: asked.HowInstrumental = None,
    karaoke_db: asked.KaraokeDb = None,
    force: asked.Force = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all are settled.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Queue files for a running installation.

    The files are copied into the archive and stay where they are. Ctrl-C while it waits leaves the jobs in the queue.
    """
    with opened(context, create=True, quiet=True) as installation:
        settings = installation.settings
        found = queueing.gather(files, settings)
        wish = queueing.wishes(
            settings, engine=engine, model=model, output_format=output_format, stems=stems, force=force, user=user,
            mixing=queueing.mix(instrumental, karaoke_db),
            priority=priority,
        )  # fmt: skip
        if not any(entry.alive for entry in directory.announced(settings.layout.run)):
            output.remark("Nothing runs here; the jobs wait until `ironclad up` does.", style="yellow")
        queued = _queue_all(installation, wish, found, as_json=as_json, announce=not wait)
        done = _wait(installation, queued, as_json=as_json) if wait else queued
    _end(done, as_json=as_json, waited=wait)


def _queue_all(
    installation: Installation, wish: Wishes, found: Sequence[Found], *, as_json: bool, announce: bool
) -> list[Result]:
    queued: list[Result] = []
    with display.counting("Copying", [one.path for one in found]) as paths:
        for one, _path in zip(found, paths, strict=True):
            result = _queue(installation, wish, one)
            queued.append(result)
            if not as_json and (announce or not result.good) and (result.settled or announce):
                for line in display.lines_of(result):
                    output.stdout().print(line.append(f"  job {text.short_id(result.job_uuid)}", style="dim"))
    return queued


def _queue(installation: Installation, wish: Wishes, found: Found) -> Result:
    try:
        outcome = queueing.queue(installation.database, installation.settings, wish, found)
    except DatabaseUnavailable:
        raise
    except IroncladError as exc:
        return results.refused(found.path, exc)
    except OSError as exc:
        return results.refused(found.path, SourceMissing(str(exc.strerror)))
    return _result(installation, outcome.job_uuid)


def _result(installation: Installation, job_uuid: UUID) -> Result:
    with installation.database.session() as session:
        return results.of(session, job_uuid)


def _wait(installation: Installation, queued: list[Result], *, as_json: bool) -> list[Result]:
    jobs = [result.job_uuid for result in queued if result.job_uuid is not None and not result.settled]
    with display.watching(len(jobs), as_json=as_json) as shown:
        done = follow(installation.database, lambda _session: jobs, len(jobs), shown)
    return [result if result.job_uuid is None else done.get(result.job_uuid, result) for result in queued]


def _end(done: list[Result], *, as_json: bool, waited: bool) -> None:
    summary = results.summary(done)
    pending = sum(not result.settled for result in done)
    summary = {"queued": pending, **summary, "failed": summary["failed"] - pending}
    if as_json:
        output.print_json(summary)
    elif len(done) > 1 and waited:
        output.say(display.tally(summary))
    if summary["failed"]:
        raise typer.Exit(exits.FAILED)
