"""What operators do that needs the settings, too: the command line and the API call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ironclad.engines import choice
from ironclad.jobs import control
from ironclad.jobs.transition import load

if TYPE_CHECKING:
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.tables import Job


def pause(session: Session, settings: Settings, pool: str | None, *, paused: bool, actor: str) -> None:
    """Pause or resume a pool, or (None) the whole pipeline. Raises `BadRequest` for a pool that is not there."""
    if pool in settings.pools:  # before its dispatcher ran for the first time
        control.declare_pools(session, {pool: settings.pools[pool].slots})
    control.pause(session, pool, paused=paused, actor=actor)


def replay(
    session: Session, settings: Settings, job_uuid: UUID, *, stage: str, actor: str,
    engine: str | None = None, model: str | None = None, keep: bool = False,
) -> Job:  # fmt: skip
    """Run a settled job again from a stage on, perhaps with another engine or model.

    Raises what `control.replay` does, and `EngineMissing` or `NotFound` for an engine or model that is not there.
    """
    other: dict[str, Any] = {}
    if engine is not None or model is not None:
        chosen = choice.choose(settings, engine=engine or load(session, job_uuid).engine, model=model)
        other = {"engine": chosen.engine, "engine_pool": chosen.pool, "parameters": chosen.parameters}
    pools = frozenset(settings.pools)
    return control.replay(session, job_uuid, stage=stage, actor=actor, pools=pools, keep=keep, **other)
