"""`ironclad jobs tag`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from ironclad.cli import output
from ironclad.cli.commands import retag
from ironclad.cli.installation import opened
from ironclad.jobs import query
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from ironclad.metadata.lookup import Lookup

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "jobs tag": {
        "job_uuid": "The job.",
        "lookup": "What MusicBrainz offered: status, detail and candidates (score, title, artists, album …), or null.",
        "picked": "The number that was picked, or null.",
        "retagged": f"With a pick, if the job has succeeded: {retag.RETAGGED}",
    }
}


@app.command(no_args_is_help=True)
def tag(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Its id, or the beginning or end of it.")],
    *,
    pick: Annotated[
        int | None, typer.Option("--pick", metavar="N", min=1, help="Take this candidate, and retag the files by it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what MusicBrainz offers for a job, or pick one of it.

    Only what is missing in the tags is taken from a candidate. A job that has not succeeded yet uses it when it runs.
    """
    from ironclad.ops.library.retag import Retagger  # noqa: PLC0415 - the stages, which no other command of jobs needs

    with opened(context) as installation:
        retagger = Retagger(installation.database, installation.settings, installation.actor)
        with installation.database.session() as session:
            job_uuid = query.find(session, job)
        lookup = retagger.candidates(job_uuid)
        done = None
        if pick is not None:
            retagger.pick(job_uuid, pick)
            with installation.database.session() as session:
                state = query.detail(session, job_uuid, events=0).job.state
            done = retagger.retag(job_uuid) if state == JobState.SUCCEEDED else None
    if as_json:
        output.print_json(
            {
                "job_uuid": str(job_uuid), "lookup": None if lookup is None else lookup.to_dict(), "picked": pick,
                "retagged": None if done is None else done.to_dict(),
            }
        )  # fmt: skip
        return
    if pick is None:
        _print(lookup)
    elif done is None:
        output.say("Picked; it is used when the job runs.")
    else:
        retag.show(done)


def _print(lookup: Lookup | None) -> None:
    if lookup is None:
        output.say("MusicBrainz was not asked (metadata.musicbrainz.enabled).")
        return
    output.say(f"{lookup.status.value} {lookup.detail}".strip())
    headings = ("N", "SCORE", "ARTIST", "TITLE", "ALBUM", "DATE", "LENGTH")
    grid = output.Grid(headings, right=frozenset({"N", "SCORE", "LENGTH"}), wide="TITLE")
    for number, (score, one) in enumerate(lookup.candidates, start=1):
        length = None if one.length_ms is None else f"{one.length_ms // 60_000}:{one.length_ms // 1000 % 60:02}"
        grid.add(number, f"{score:g}", one.artist_credit, one.title, one.album, one.date, length)
    grid.print()
