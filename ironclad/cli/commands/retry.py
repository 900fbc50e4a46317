"""`ironclad retry`: failed jobs again, by cause rather than by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import output, results, text
from ironclad.cli.installation import opened
from ironclad.errors import CATALOGUE, BadRequest, IllegalTransition
from ironclad.jobs import control
from ironclad.jobs import failures as grouped
from ironclad.jobs.transition import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.cli.installation import Installation
    from ironclad.db.tables import Job
    from ironclad.jobs.failures import FailureGroup

app = typer.Typer(rich_markup_mode=None, add_completion=False)

JSON: Final = {
    "retry": {
        "jobs": "Those that were (with --dry-run: would be) queued, each with job_uuid, title, code, stage.",
        "dry_run": "Whether nothing was changed.",
    }
}
_COLUMNS: Final = {"format": "output_format", "stems": "stems", "priority": "priority"}
_PAGE: Final = 500


@app.command(no_args_is_help=True)
def retry(
    context: typer.Context,
    *,
    code: Annotated[str | None, typer.Option("--class", metavar="E_CODE", help="Jobs that failed with this.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="MARK", help="Of those, the ones with this mark.")
    ] = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="Every job that failed or is quarantined.")] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE",
            help="Change the jobs first: format, stems (a,b), priority, or a parameter of the engine.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which jobs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # fmt: skip
    """Try failed jobs again, by what they failed of.

    `ironclad failures` lists the causes.
    """
    if (code is None) != all_failed or (fingerprint is not None and code is None):
        raise BadRequest("Say --class E_CODE (and with it, maybe, --fingerprint), or --all-failed.")
    if code is not None and code.upper() not in CATALOGUE:
        raise BadRequest(f"There is no error {code}; `ironclad failures` lists what failed.")
    wanted = dict(_change(one) for one in changes or [])
    with opened(context) as installation:
        with installation.database.session() as session:
            groups = [
                one for one in grouped.groups(session)
                if all_failed or (one.code == (code or "").upper() and fingerprint in {None, one.fingerprint})
            ]  # fmt: skip
        done = [_row(job) for job in _each(installation, groups, wanted, dry_run=dry_run)]
    if as_json:
        output.print_json({"jobs": done, "dry_run": dry_run})
        return
    for row in done:
        output.say(f"{'would retry' if dry_run else 'queued'}  {row['title']}  job {text.short_id(row['job_uuid'])}")
    if not done:
        output.say("No failed job is like that.")


def _each(
    installation: Installation, groups: Sequence[FailureGroup], changes: dict[str, Any], *, dry_run: bool
) -> list[Job]:
    """Each job in its own transaction, a page at a time; one that somebody else moved meanwhile is passed over."""
    done: list[Job] = []
    for group in groups:
        after: UUID | None = None
        while True:
            with installation.database.session() as session:
                page = grouped.members(session, group.key, after=after, limit=_PAGE)
            for job_uuid in page:
                try:
                    with installation.database.session() as session:
                        before = load(session, job_uuid)
                        session.expunge(before)
                        if not dry_run:
                            _again(session, before, changes, installation)
                        done.append(before)
                except IllegalTransition:
                    continue
            if len(page) < _PAGE:
                break
            after = page[-1]
    return done


def _again(session: Session, job: Job, changes: dict[str, Any], installation: Installation) -> None:
    sets = {_COLUMNS[key]: value for key, value in changes.items() if key in _COLUMNS}
    parameters = {key: value for key, value in changes.items() if key not in _COLUMNS}
    if parameters:
        sets["parameters"] = {**job.parameters, **parameters}
    control.requeue(
        session, job.job_uuid, actor=installation.actor, kind="retried", pools=installation.pools, sets=sets,
        options={"force": True},
    )  # fmt: skip


def _change(text_: str) -> tuple[str, Any]:
    key, equals, value = text_.partition("=")
    if not equals or not key or not value:
        raise BadRequest(f"{text_!r} is not KEY=VALUE.")
    if key == "stems":
        return key, [part for part in value.split(",") if part]
    if key == "format":
        return key, value
    if value.lower() in {"true", "false"}:
        return key, value.lower() == "true"
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    if key == "priority":
        raise BadRequest(f"The priority is a whole number, not {value!r}.")
    return key, value


def _row(job: Job) -> dict[str, Any]:
    return {
        "job_uuid": str(job.job_uuid), "title": results.name_of(job), "code": job.error_code, "stage": job.stage,
    }  # fmt: skip
