"""`ironclad retag`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from ironclad.cli import exits, failure, output, text
from ironclad.cli.installation import Installation, opened
from ironclad.errors import BadRequest, IroncladError
from ironclad.jobs import query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ironclad.ops.library.retag import Retagged, Retagger

app = typer.Typer(rich_markup_mode=None, add_completion=False)

RETAGGED: Final = (
    "job_uuid, lookup (status, detail, candidates; null if nobody was asked), cover, pending, and files "
    "(kind, path, blake3, changed, losses)."
)
JSON: Final = {
    "retag": {
        "jobs": f"Each with {RETAGGED}",
        "errors": "Those that could not be retagged, each with job and error.",
        "pending": "How many still wait for a service that does not answer.",
    }
}


@app.command(no_args_is_help=True)
def retag(
    context: typer.Context,
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="JOB", help="Ids, or the beginning or end of them.")
    ] = None,
    *,
    pending: Annotated[
        bool, typer.Option("--pending", help="Every job whose tags or cover wait for a service that was away.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the tags of published files anew.

    What is known and set now counts; the samples stay as they are. With --pending it stops at the first job for which
    the service still does not answer.
    """
    from ironclad.ops.library.retag import Retagger  # noqa: PLC0415 - it brings the stages; `jobs` has texts of ours

    if pending == bool(jobs):
        raise BadRequest("Name jobs, or say --pending.")
    with opened(context) as installation:
        retagger = Retagger(installation.database, installation.settings, installation.actor)
        if pending and not _asking(installation):
            raise BadRequest("Neither metadata.musicbrainz.enabled nor metadata.cover_art.enabled is set.")
        references = _pending(installation) if pending else list(jobs or [])
        done, errors = _each(installation, retagger, references, stop=pending)
    waiting = len(references) - len(done) - len(errors) + sum(one.pending for one in done)
    if as_json:
        output.print_json(
            {
                "jobs": [one.to_dict() for one in done],
                "errors": [{"job": job, "error": error.to_dict()} for job, error in errors],
                "pending": waiting,
            }
        )
    else:
        for one in done:
            show(one)
        for job, error in errors:
            output.remark(f"{job}: {failure.describe(error)}", style="")
        retagged = len(done) - sum(one.pending for one in done)
        output.say(f"{text.counted(retagged, 'job')} retagged, {waiting} to be done yet.")
    if errors or waiting:
        raise typer.Exit(exits.FAILED)


def show(one: Retagged) -> None:
    """One job's result, for people."""
    status = "nobody was asked" if one.lookup is None else f"{one.lookup.status.value} {one.lookup.detail}".strip()
    output.say(f"job {text.short_id(one.job_uuid)}: {status}; cover: {one.cover}")
    for file in one.files:
        output.say(f"  {'rewritten' if file.changed else 'unchanged'}  {file.path}")
        for loss in file.losses:
            output.say(f"    {loss.key}: {loss.reason}", style="dim")


def _asking(installation: Installation) -> bool:
    metadata = installation.settings.metadata
    return metadata.musicbrainz.enabled or metadata.cover_art.enabled


def _pending(installation: Installation) -> list[str]:
    from ironclad.ops.library import known  # noqa: PLC0415 - as above

    with installation.database.session() as session:
        return [str(job) for job in known.pending(session)]


def _each(
    installation: Installation, retagger: Retagger, references: Sequence[str], *, stop: bool
) -> tuple[list[Retagged], list[tuple[str, IroncladError]]]:
    """Retag each job; one that fails does not stop the others, a service that is away does."""
    done: list[Retagged] = []
    errors: list[tuple[str, IroncladError]] = []
    for reference in dict.fromkeys(references):
        try:
            with installation.database.session() as session:
                job: UUID = query.find(session, reference)
            done.append(retagger.retag(job))
        except IroncladError as exc:
            if len(references) == 1 and not stop:
                raise
            errors.append((reference, exc))
        if stop and done and done[-1].pending:
            break
    return done, errors
