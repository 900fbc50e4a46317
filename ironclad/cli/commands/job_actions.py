"""`ironclad jobs retry | replay | cancel | hold | release`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from ironclad.cli import exits, failure, output, replaying, results, text
from ironclad.cli.installation import Installation, opened
from ironclad.engines import choice
from ironclad.errors import BadRequest, IroncladError
from ironclad.jobs import control, pipeline, query
from ironclad.jobs.states import JobState
from ironclad.ops import operating

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.db.tables import Job

    Action = Callable[[Session, UUID], Job]

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_CHANGED: Final = {
    "jobs": "Those that it was done for, each with job_uuid, title, state, held, cancel_requested.",
    "errors": "Those for which it could not be done, each with job (as it was given) and error.",
}
JSON: Final = {
    f"jobs {name}": _CHANGED for name in ("retry", "replay", "cancel", "hold", "release")
}  # fmt: skip
JSON["jobs replay"] = {
    **_CHANGED, "plan": "With --dry-run, instead: each with job_uuid, title, reused and run (names of stages).",
}  # fmt: skip

_PAGE: Final = 500
Jobs = Annotated[list[str], typer.Argument(metavar="JOB", help="Ids, or the beginning or end of them.")]
MaybeJobs = Annotated[list[str] | None, typer.Argument(metavar="JOB", help="Ids, or the beginning or end of them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class _Failed:
    reference: str
    error: IroncladError


@app.command(no_args_is_help=True)
def retry(
    context: typer.Context,
    jobs: MaybeJobs = None,
    *,
    all_failed: Annotated[
        bool, typer.Option("--all-failed", help="Every job that has failed or is quarantined.")
    ] = False,
    error: Annotated[
        str | None, typer.Option("--error", metavar="E_CODE", help="With --all-failed: those with this error.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try jobs again; stages that are done are not repeated."""
    if all_failed == bool(jobs) or (error is not None and not all_failed):
        raise BadRequest("Name jobs, or say --all-failed (and with it, maybe, --error).")
    with opened(context) as installation:
        references = _all_failed(installation, error) if all_failed else jobs or []

        def action(session: Session, job_uuid: UUID) -> Job:
            return control.retry(session, job_uuid, actor=installation.actor, pools=installation.pools)

        _apply(installation, references, action, as_json=as_json)


@app.command(no_args_is_help=True)
def replay(
    context: typer.Context,
    jobs: MaybeJobs = None,
    *,
    stage: Annotated[
        str,
        typer.Option("--from", metavar="STAGE", help=f"Run again from here on: {', '.join(pipeline.STAGES)}."),
    ],
    engine: Annotated[str | None, typer.Option("--engine", "-e", metavar="ENGINE", help="With another engine.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="With another model of the engine.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the files published before beside the new ones.")] = False,
    state: Annotated[
        list[JobState] | None,
        typer.Option("--state", "-s", metavar="STATE", help="Instead of naming jobs: all in this state."),
    ] = None,
    error: Annotated[str | None, typer.Option("--error", metavar="E_CODE", help="And with this error.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="And of this user.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="And received since: 15m, 2h, 3d, or a date.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run and what would be used again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run settled jobs again from a stage on; results of earlier stages are used where they are still there."""
    selection = replaying.Selection(tuple(one.value for one in state or ()), error, user, since)
    if bool(jobs) == bool(selection):
        raise BadRequest("Name jobs, or select them with --state, --error, --user or --since.")
    with opened(context) as installation:
        settings = installation.settings
        if engine is not None:
            choice.choose(settings, engine=engine, model=model)  # what cannot be is refused before any job is touched

        def action(session: Session, job_uuid: UUID) -> Job:
            return operating.replay(
                session,
                settings,
                job_uuid,
                stage=stage,
                actor=installation.actor,
                engine=engine,
                model=model,
                keep=keep,
            )

        references = jobs or replaying.selected(installation, selection)
        if dry_run:
            replaying.show(installation, references, stage, as_json=as_json)
            return
        _apply(installation, references, action, as_json=as_json)


@app.command(no_args_is_help=True)
def cancel(context: typer.Context, jobs: Jobs, *, as_json: AsJson = False) -> None:
    """Cancel jobs: at once those that wait, within seconds those that run."""
    with opened(context) as installation:
        _apply(
            installation, jobs, lambda session, job: control.cancel(session, job, actor=installation.actor),
            as_json=as_json,
        )  # fmt: skip


@app.command(no_args_is_help=True)
def hold(context: typer.Context, jobs: Jobs, *, as_json: AsJson = False) -> None:
    """Keep jobs from starting; one that runs finishes its attempt."""
    _hold(context, jobs, held=True, as_json=as_json)


@app.command(no_args_is_help=True)
def release(context: typer.Context, jobs: Jobs, *, as_json: AsJson = False) -> None:
    """Let held jobs start."""
    _hold(context, jobs, held=False, as_json=as_json)


def _hold(context: typer.Context, jobs: list[str], *, held: bool, as_json: bool) -> None:
    with opened(context) as installation:
        _apply(
            installation, jobs, lambda session, job: control.hold(session, job, held=held, actor=installation.actor),
            as_json=as_json,
        )  # fmt: skip


def _all_failed(installation: Installation, error: str | None) -> list[str]:
    """Their ids, oldest first, so that they keep their order in the queue."""
    found: list[UUID] = []
    states = (JobState.FAILED.value, JobState.QUARANTINED.value)
    code = None if error is None else error.upper()
    with installation.database.session() as session:
        while True:
            before = found[-1] if found else None
            page = query.jobs(session, query.JobFilter(states=states, error_code=code, before=before, limit=_PAGE))
            found += [job.job_uuid for job in page]
            if len(page) < _PAGE:
                return [str(job) for job in reversed(found)]


def _apply(installation: Installation, references: Sequence[str], action: Action, *, as_json: bool) -> None:
    """Do it for each job, each in its own transaction; one that fails does not stop the others."""
    done: list[Job] = []
    failed: list[_Failed] = []
    for reference in dict.fromkeys(references):
        try:
            with installation.database.session() as session:
                done.append(action(session, query.find(session, reference)))
        except IroncladError as exc:
            if len(references) == 1:
                raise
            failed.append(_Failed(reference, exc))
    if as_json:
        output.print_json(
            {
                "jobs": [_data(job) for job in done],
                "errors": [{"job": one.reference, "error": one.error.to_dict()} for one in failed],
            }
        )
    else:
        for job in done:
            output.stdout().print(_line(job))
        for one in failed:
            output.remark(f"{one.reference}: {failure.describe(one.error)}", style="")
        if not done and not failed:
            output.say("There is no such job.")
    if failed:
        raise typer.Exit(exits.FAILED)


def _data(job: Job) -> dict[str, Any]:
    return {
        "job_uuid": str(job.job_uuid), "title": results.name_of(job), "state": job.state, "held": job.held,
        "cancel_requested": job.cancel_requested,
    }  # fmt: skip


def _line(job: Job) -> Text:
    state = "cancelling" if job.cancel_requested else job.state
    line = Text(state, style=output.STATE_STYLES.get(job.state, ""))
    held = ", held" if job.held else ""
    return line.append(f"{held}  {text.printable(results.name_of(job))}  job {text.short_id(job.job_uuid)}", "default")
