"""Jobs: look at them, act on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request

from ironclad import moments
from ironclad.api import context as contexts
from ironclad.api import models
from ironclad.api.auth import Change, See, visible
from ironclad.jobs import control, query
from ironclad.jobs.explain import explain
from ironclad.jobs.states import JobState
from ironclad.ops import operating

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlmodel import Session

    from ironclad.access.tokens import Bearer
    from ironclad.db import tables

router: Final = APIRouter(tags=["Jobs"])
Id = Annotated[UUID, Path(description="The job.")]


@router.get("/v1/jobs", summary="List jobs, newest first")
def list_jobs(
    request: Request,
    bearer: See,
    *,
    state: Annotated[list[JobState] | None, Query(description="In this state, or one of several.")] = None,
    user: Annotated[str | None, Query(description="Of this user; a token for own songs sees its user's only.")] = None,
    error: Annotated[str | None, Query(description="With this error code.")] = None,
    search: Annotated[str | None, Query(description="With this in title, artist, album or path.")] = None,
    since: Annotated[str | None, Query(description="Received since: `15m`, `2h`, `3d`, or an ISO time.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 50,
    cursor: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
) -> models.Jobs:
    """One page of the jobs that the token may see."""
    if user is not None and not bearer.sees(user):
        return models.Jobs(jobs=[], next=None)
    wanted = query.JobFilter(
        states=tuple(one.value for one in state or ()), user=user if bearer.everybody else bearer.user_id, text=search,
        error_code=None if error is None else error.upper(), before=cursor, limit=limit,
        since=None if since is None else moments.parse_since(since),
    )  # fmt: skip
    context = contexts.of(request)
    with context.database.session() as session:
        found = [models.Job.of(job, context.settings.layout.root) for job in query.jobs(session, wanted)]
    return models.Jobs(jobs=found, next=found[-1].job_uuid if len(found) == limit else None)


@router.get("/v1/jobs/{job_uuid}", summary="Show a job")
def show_job(request: Request, bearer: See, job_uuid: Id) -> models.Job:
    """One job as it is now."""
    context = contexts.of(request)
    with context.database.session() as session:
        return models.Job.of(visible(session, bearer, job_uuid), context.settings.layout.root)


@router.get("/v1/jobs/{job_uuid}/events", summary="Tell a job's history")
def list_job_events(
    request: Request, bearer: See, job_uuid: Id, *,
    after: Annotated[int, Query(ge=0, description="`next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
) -> models.Events:  # fmt: skip
    """What happened to a job, oldest first."""
    context = contexts.of(request)
    root = context.settings.layout.root
    with context.database.session() as session:
        visible(session, bearer, job_uuid)
        found = [models.Event.of(row, root) for row in query.events(session, job_uuid, after=after, limit=limit)]
    return models.Events(events=found, next=found[-1].id if len(found) == limit else None)


@router.get("/v1/jobs/{job_uuid}/why", summary="Explain a job")
def why_job(request: Request, bearer: See, job_uuid: Id) -> models.Why:
    """Why a job is where it is and what can be done, in plain words."""
    context = contexts.of(request)
    with context.database.session() as session:
        visible(session, bearer, job_uuid)
        found = explain(session, context.settings.layout, job_uuid)
    return models.Why.model_validate(models.below(found.to_dict(), context.settings.layout.root))


def _changed(request: Request, bearer: Bearer, job_uuid: UUID, change: Callable[[Session], tables.Job]) -> models.Job:
    context = contexts.of(request)
    with context.database.session() as session:
        visible(session, bearer, job_uuid)
        return models.Job.of(change(session), context.settings.layout.root)


@router.post("/v1/jobs/{job_uuid}/hold", summary="Hold a job")
def hold_job(request: Request, bearer: Change, job_uuid: Id) -> models.Job:
    """Keep a job from starting; one that runs finishes its attempt."""
    return _changed(
        request, bearer, job_uuid, lambda session: control.hold(session, job_uuid, held=True, actor=bearer.actor)
    )


@router.post("/v1/jobs/{job_uuid}/release", summary="Release a job")
def release_job(request: Request, bearer: Change, job_uuid: Id) -> models.Job:
    """Let a held job start."""
    return _changed(
        request, bearer, job_uuid, lambda session: control.hold(session, job_uuid, held=False, actor=bearer.actor)
    )


@router.post("/v1/jobs/{job_uuid}/cancel", summary="Cancel a job")
def cancel_job(request: Request, bearer: Change, job_uuid: Id) -> models.Job:
    """Cancel a job: at once if it waits, within seconds if it runs (`cancel_requested` until then)."""
    return _changed(request, bearer, job_uuid, lambda session: control.cancel(session, job_uuid, actor=bearer.actor))


@router.post("/v1/jobs/{job_uuid}/retry", summary="Retry a job")
def retry_job(request: Request, bearer: Change, job_uuid: Id) -> models.Job:
    """Try a job again; stages that are done are not repeated."""
    pools = frozenset(contexts.of(request).settings.pools)
    return _changed(
        request, bearer, job_uuid, lambda session: control.retry(session, job_uuid, actor=bearer.actor, pools=pools)
    )


@router.post("/v1/jobs/{job_uuid}/replay", summary="Replay a job")
def replay_job(request: Request, bearer: Change, job_uuid: Id, wanted: models.Replay) -> models.Job:
    """Run a settled job again from a stage on; results of earlier stages are used where they are still there."""
    settings = contexts.of(request).settings
    return _changed(
        request, bearer, job_uuid,
        lambda session: operating.replay(
            session, settings, job_uuid, stage=wanted.stage, actor=bearer.actor, engine=wanted.engine,
            model=wanted.model, keep=wanted.keep,
        ),
    )  # fmt: skip
