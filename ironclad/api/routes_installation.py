"""The installation as a whole."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request

from ironclad.api import context as contexts
from ironclad.api import models
from ironclad.api.auth import Operate, Oversee
from ironclad.jobs import failures
from ironclad.ops import glance, operating

router: Final = APIRouter(tags=["Installation"])
_EVERYTHING: Final = models.Pool()


@router.get("/v1/status", summary="Show the queue, the pools and the services at a glance")
def status(request: Request, _bearer: Oversee) -> models.Status:
    """The installation at a glance."""
    with contexts.of(request).database.session() as session:
        return models.Status.model_validate(glance.snapshot(session))


@router.get("/v1/failures", summary="Show what failed, by cause")
def show_failures(request: Request, _bearer: Oversee) -> models.Failures:
    """Failed and quarantined jobs, grouped so that a thousand with one cause are one entry."""
    with contexts.of(request).database.session() as session:
        return models.Failures(groups=[one.to_dict() for one in failures.groups(session)])


@router.post("/v1/pause", summary="Let nothing new start")
def pause(request: Request, bearer: Operate, what: models.Pool = _EVERYTHING) -> models.Paused:
    """Pause a pool, or without a body the whole pipeline; what runs is finished."""
    return _set(request, bearer.actor, what.pool, paused=True)


@router.post("/v1/resume", summary="Let work start again")
def resume(request: Request, bearer: Operate, what: models.Pool = _EVERYTHING) -> models.Paused:
    """Resume a pool, or without a body the whole pipeline."""
    return _set(request, bearer.actor, what.pool, paused=False)


def _set(request: Request, actor: str, pool: str | None, *, paused: bool) -> models.Paused:
    context = contexts.of(request)
    with context.database.session() as session:
        operating.pause(session, context.settings, pool, paused=paused, actor=actor)
    return models.Paused(pool=pool, paused=paused)
