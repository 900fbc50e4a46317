"""Tags and cover art of a finished file: the source's, as a derived recording carries them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ironclad.metadata.derive import AlbumPolicy, Derivation, derive, with_replay_gain
from ironclad.metadata.write import write_tags
from ironclad.stages.metadata import finished

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ironclad.audio.loudness import Loudness
    from ironclad.config import Settings
    from ironclad.db.tables import Job
    from ironclad.stages.context import StageContext


RESULT: Final = "result"
"""The option of a job, and the receipt's entry: what its files are called beside those of an earlier result."""


def derivation_of(
    job: Job, settings: Settings, separated: Mapping[str, Any], kind: str, *, result: str = ""
) -> Derivation:
    """How a job's file of a kind was made; `separated` is what the stage separate left."""
    digest = separated["model_digest"]
    return Derivation(
        stem=kind, job_uuid=str(job.job_uuid), trace_id=job.trace_id, engine=separated["engine"],
        engine_version=separated["version"], model_sha256=(digest,) if digest else (),
        policy=AlbumPolicy(settings.output.album_policy), result=result,
    )  # fmt: skip


def derivation(context: StageContext, kind: str) -> Derivation:
    """How the file of a kind was made."""
    return derivation_of(
        context.job, context.settings, context.outputs["separate"].data, kind,
        result=context.job.options.get(RESULT, ""),
    )  # fmt: skip


def apply(context: StageContext, file: Path, kind: str, loudness: Loudness) -> list[dict[str, Any]]:
    """Write tags and pictures into a finished file; returns what its format could not hold, and what was converted."""
    reading = finished(context)
    tags = derive(reading.tags, derivation(context, kind))
    tags = with_replay_gain(tags, integrated_lufs=loudness.integrated_lufs, peak=loudness.true_peak)
    losses = write_tags(file, tags, reading.pictures)
    changes: list[dict[str, Any]] = context.outputs["metadata"].data["picture_changes"]
    return [*changes, *(loss.to_dict() for loss in losses)]


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """What the tags depend on beside the stages before."""
    result = job.options.get(RESULT)
    return {"album_policy": settings.output.album_policy, "receipt": 2, **({RESULT: result} if result else {})}
