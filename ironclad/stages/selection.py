"""Which engine a job gets, once its tags are known: the job's own choice, else the first rule that matches."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from ironclad.engines import choice
from ironclad.jobs import pipeline
from ironclad.metadata.read import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import Settings
    from ironclad.db.tables import Job
    from ironclad.engines.choice import Choice
    from ironclad.metadata.model import TrackTags
    from ironclad.stages.context import StageOutput
    from ironclad.worksections import EngineRule

BEFORE: Final = "stage"
"""The first stage that depends on the engine."""


def select(job: Job, settings: Settings, outputs: Mapping[str, StageOutput]) -> Choice | None:
    """The engine that the job shall have; None: the one that it has.

    Evaluated in each attempt, so that a changed rule separates again what is replayed, and decodes nothing anew.
    Raises as `choice.choose`.
    """
    rules = () if job.options.get(pipeline.ENGINE_ASKED) else settings.engine.rules
    if not (rules or job.engine == choice.AUTO):
        return None
    output = outputs["metadata"]
    tags = Reading.from_dict(output.data["reading"], output.folder).tags
    rule = next((one for one in rules if matches(one, job, tags)), None)
    if rule is not None:
        return choice.by_rule(settings, rule, job.stems)
    if job.engine == choice.AUTO:
        return choice.choose(settings, engine=choice.AUTO, stems=job.stems)
    return choice.choose(settings, stems=job.stems)


def changes(job: Job, settings: Settings, outputs: Mapping[str, StageOutput]) -> dict[str, Any]:
    """The columns of the job that `select` changes, with their new values; none if it stays as it is."""
    chosen = select(job, settings, outputs)
    if chosen is None:
        return {}
    values = {"engine": chosen.engine, "engine_pool": chosen.pool, "parameters": chosen.parameters}
    return {} if all(getattr(job, key) == value for key, value in values.items()) else dict(values)


def matches(rule: EngineRule, job: Job, tags: TrackTags) -> bool:
    """Whether every pattern of a rule fits; what a song does not have fits no pattern."""
    have: tuple[tuple[str, tuple[str | None, ...]], ...] = (
        (rule.genre, tags.genres), (rule.artist, (*tags.artists, *tags.album_artists)), (rule.album, (tags.album,)),
        (rule.path, (job.relative_path,)), (rule.user, (job.user_id,)), (rule.root, (job.watch_root,)),
    )  # fmt: skip
    return all(
        any(value is not None and fnmatchcase(value.casefold(), pattern.casefold()) for value in values)
        for pattern, values in have
        if pattern
    )
