"""`ironclad jobs`: list and show; what changes jobs is in `job_actions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ironclad.cli import output, results, text
from ironclad.cli.commands import job_actions, job_tags, job_why
from ironclad.cli.installation import opened
from ironclad.errors import CATALOGUE
from ironclad.jobs import query
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ironclad.db.tables import Artifact, Job, JobEvent, StageRun

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
app.add_typer(job_actions.app)
app.add_typer(job_tags.app)
app.add_typer(job_why.app)

JSON: Final = {
    "jobs list": {
        "jobs": "Newest first, each with the columns of table `job` (job_uuid, user_id, state, stage, error …).",
        "next": "Give it to --before for the next page; null at the end.",
    },
    "jobs show": {
        "job": "The columns of table `job`.",
        "attempts": "Each with attempt, worker, pool, first_stage, started_at, ended_at, outcome, error_code.",
        "stages": "Each with attempt, stage, state, progress, started_at, ended_at, error_code, data.",
        "events": "The last ones, oldest first: at, kind, from_state, to_state, attempt, stage, actor, data.",
        "artifacts": "Each with kind, path, size, blake3, state, receipt, published_at.",
    },
    **job_actions.JSON,
    **job_tags.JSON,
    **job_why.JSON,
}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def jobs() -> None:
    """List, show, retry, replay, cancel, hold and release jobs.

    A job is named by its id or by the beginning or the end of it, at least 4 characters; lists show the end.
    """


@app.command("list")
def list_jobs(
    context: typer.Context,
    *,
    state: Annotated[
        list[JobState] | None,
        typer.Option(
            "--state", "-s", metavar="STATE", help=f"In this state, or one of several: {', '.join(JobState)}."
        ),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="Of this user.")] = None,
    error: Annotated[str | None, typer.Option("--error", metavar="E_CODE", help="With this error.")] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="With this in title, artist, album or path.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Received since: 15m, 2h, 3d, or a date.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    before: Annotated[
        str | None, typer.Option("--before", metavar="JOB", help="Only older ones than this (for the next page).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with opened(context) as installation, installation.database.session() as session:
        found = query.jobs(
            session,
            query.JobFilter(
                states=tuple(one.value for one in state or ()), user=user, text=search, limit=limit,
                error_code=None if error is None else error.upper(),
                since=None if since is None else text.parse_since(since),
                before=None if before is None else query.find(session, before),
            ),
        )  # fmt: skip
        if as_json:
            more = str(found[-1].job_uuid) if len(found) == limit else None
            output.print_json({"jobs": [query.as_dict(job) for job in found], "next": more})
            return
    _print_list(found)
    if len(found) == limit:
        output.remark(f"There may be more: --before {text.short_id(found[-1].job_uuid)} shows older ones.")


def _print_list(found: Sequence[Job]) -> None:
    grid = output.Grid(
        ("JOB", "STATE", "STAGE", "DONE", "USER", "RECEIVED", "TITLE", "ERROR"), states="STATE", wide="TITLE",
        right=frozenset({"DONE"}),
    )  # fmt: skip
    for job in found:
        running = job.state == JobState.RUNNING
        grid.add(
            text.short_id(job.job_uuid), _state(job), job.stage if running or job.error_code else None,
            f"{job.progress:.0%}" if running else None, job.user_id, text.ago(job.created_at), results.name_of(job),
            job.error_code,
        )  # fmt: skip
    grid.print()


def _state(job: Job) -> str:
    if job.cancel_requested:
        return "cancelling"
    return "held" if job.held and job.state == JobState.QUEUED else job.state


@app.command(no_args_is_help=True)
def show(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Its id, or the beginning or end of it.")],
    *,
    events: Annotated[int, typer.Option("--events", metavar="N", min=0, help="So many of the last events.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show everything about one job."""
    with opened(context) as installation, installation.database.session() as session:
        detail = query.detail(session, query.find(session, job), events=events)
        layout = installation.settings.layout
    if as_json:
        output.print_json(detail.to_dict())
        return
    one = detail.job
    output.fields(
        [
            ("job", one.job_uuid), ("title", results.name_of(one)), ("album", one.album), ("state", _state(one)),
            ("stage", one.stage), ("user", one.user_id), ("priority", one.priority), ("pool", one.pool),
            ("source", one.source_path), ("engine", one.engine), ("stems", ", ".join(one.stems)),
            ("format", one.output_format), ("attempt", f"{one.attempt} ({text.counted(one.failures, 'failure')})"),
            ("worker", one.worker), ("received", _time(one.created_at)), ("started", _time(one.started_at)),
            ("finished", _time(one.finished_at)), ("next try", _time(one.not_before)), ("trace", one.trace_id),
            ("log", layout.job_log(one.job_uuid)),
        ]
    )  # fmt: skip
    _print_error(one)
    for grid in (_stages(detail.stages), _artifacts(detail.artifacts), _events(detail.events)):
        if grid.rows:
            output.say("")
            grid.print()


def _time(at: Any) -> str | None:
    return None if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S} ({text.ago(at)})"


def _print_error(job: Job) -> None:
    if job.error_code is None:
        return
    error = job.error or {}
    entry = CATALOGUE.get(job.error_code)
    what = error.get("what") or (entry.what() if entry else "")
    output.say("")
    output.say(f"{job.error_code} {what} {error.get('detail') or ''}".rstrip(), style="red")
    hint = error.get("hint") or (entry.hint if entry else "")
    if hint:
        output.say(f"What to do: {hint}")


def _stages(rows: Sequence[StageRun]) -> output.Grid:
    grid = output.Grid(
        ("ATTEMPT", "STAGE", "RESULT", "SECONDS", "ERROR"), states="RESULT", right=frozenset({"ATTEMPT", "SECONDS"})
    )
    for row in rows:
        seconds = (row.ended_at - row.started_at).total_seconds() if row.ended_at and row.started_at else None
        state = f"{row.progress:.0%}" if row.state == "running" else row.state
        grid.add(row.attempt, row.stage, state, None if seconds is None else f"{seconds:.1f}", row.error_code)
    return grid


def _artifacts(rows: Sequence[Artifact]) -> output.Grid:
    grid = output.Grid(("OUTPUT", "STATE", "SIZE", "PATH"), right=frozenset({"SIZE"}), wide="PATH")
    for row in rows:
        grid.add(row.kind, row.state, text.size(row.size), row.path)
    return grid


def _events(rows: Sequence[JobEvent]) -> output.Grid:
    grid = output.Grid(("TIME", "EVENT", "STAGE", "ATTEMPT", "WHO"), right=frozenset({"ATTEMPT"}), wide="WHO")
    for row in rows:
        grid.add(f"{row.at.astimezone():%H:%M:%S}" if row.at else None, row.kind, row.stage, row.attempt, row.actor)
    return grid
