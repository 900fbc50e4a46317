"""Which jobs to replay, and what a replay would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ironclad.cli import output, results, text
from ironclad.errors import BadRequest
from ironclad.jobs import pipeline, query
from ironclad.jobs.states import SETTLED
from ironclad.jobs.transition import load
from ironclad.stages import markers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ironclad.cli.installation import Installation
    from ironclad.db.tables import Job
    from ironclad.layout import Layout

_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Selection:
    """Settled jobs by what they have in common."""

    states: tuple[str, ...] = ()
    error: str | None = None
    user: str | None = None
    since: str | None = None

    def __bool__(self) -> bool:
        return bool(self.states or self.error or self.user or self.since)


def selected(installation: Installation, wanted: Selection) -> list[str]:
    """Their ids, oldest first, so that they keep their order in the queue. Raises `BadRequest`."""
    since = None if wanted.since is None else text.parse_since(wanted.since)
    found: list[UUID] = []
    states = wanted.states or tuple(sorted(state.value for state in SETTLED))
    with installation.database.session() as session:
        while True:
            page = query.jobs(
                session,
                query.JobFilter(
                    states=states, user=wanted.user, since=since, limit=_PAGE,
                    error_code=None if wanted.error is None else wanted.error.upper(),
                    before=found[-1] if found else None,
                ),
            )  # fmt: skip
            found += [job.job_uuid for job in page]
            if len(page) < _PAGE:
                return [str(job) for job in reversed(found)]


def plan(layout: Layout, job: Job, stage: str) -> dict[str, Any]:
    """What a replay from `stage` would use again and what it would run. Raises `BadRequest` for no such stage.

    A stage that ran under other settings than today's runs again, too: that is found out when it is its turn.
    """
    if stage not in pipeline.STAGES:
        raise BadRequest(f"There is no stage {stage}; the stages are {', '.join(pipeline.STAGES)}.")
    before = pipeline.STAGES[: pipeline.STAGES.index(stage)]
    reused = []
    for name in before:
        if markers.read(layout.work_of(job.job_uuid) / name) is None:
            break  # what follows depends on it
        reused.append(name)
    return {
        "job_uuid": str(job.job_uuid), "title": results.name_of(job), "reused": reused,
        "run": list(pipeline.STAGES[len(reused) :]),
    }  # fmt: skip


def show(installation: Installation, references: Sequence[str], stage: str, *, as_json: bool) -> None:
    """Print the plan for each job."""
    with installation.database.session() as session:
        plans = [
            plan(installation.settings.layout, load(session, query.find(session, one)), stage) for one in references
        ]
    if as_json:
        output.print_json({"plan": plans})
        return
    for one in plans:
        output.say(f"{one['title']}  job {text.short_id(one['job_uuid'])}", style="bold")
        output.say(f"  used again: {', '.join(one['reused']) or 'nothing'}")
        output.say(f"  would run: {', '.join(one['run'])}")
    if not plans:
        output.say("No job is like that.")
