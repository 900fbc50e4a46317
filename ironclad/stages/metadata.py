"""metadata: the tags the file has, completed by MusicBrainz (if asked to) and by its name; never guessed over a tag.

Pictures that not every player reads become JPEG here, once for all files that are made of the recording.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ironclad import durable
from ironclad.audio.fingerprint import fingerprint
from ironclad.library.naming import PathTemplate
from ironclad.metadata.candidate import Candidate
from ironclad.metadata.convert import portable
from ironclad.metadata.read import Reading
from ironclad.stages import online
from ironclad.stages.context import Stage, StageContext, StageResult
from ironclad.stages.validate import limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import Settings
    from ironclad.db.tables import Job
    from ironclad.metadata.model import Picture

PICTURES = "pictures"


def run(context: StageContext) -> StageResult:
    """Complete the tags; keep the pictures. Raises `ConfigError` for a path template that cannot work.

    Its marker holds the finished tags (`reading`), the tags as they were read (`read`), the origin of each, what became
    of a lookup, and the pictures that had to be changed.
    """
    if context.settings.output.template:
        PathTemplate(context.settings.output.template)  # one that cannot work is told now, not after the separation
    before = context.outputs["categorize"]
    reading = Reading.from_dict(before.data["reading"], before.folder / PICTURES)
    pictures = context.folder / PICTURES
    durable.make_dirs(pictures)
    path = PurePath(context.job.relative_path)
    chosen = context.job.options.get(online.CHOSEN)
    if chosen is not None:
        found = online.Found(candidate=Candidate.from_dict(chosen))
    else:
        found = online.look(
            context.database, context.settings, reading.tags, path, online.duration(context),
            sound=lambda: fingerprint(context.source, limits(context.settings.limits), check=context.check),
            check=context.check,
        )  # fmt: skip
    tags, origins = online.completed(reading.tags, path, found.candidate)
    kept, changes = portable(reading.pictures, pictures, check=context.check)
    kept = tuple(_own(picture, context) for picture in kept)
    cover = "not-asked"
    if not kept:
        front, cover = online.cover(context.database, context.settings, tags, check=context.check)
        if front is not None:
            kept = (front.stored(pictures / online.cover_file(front)),)
    finished = Reading(reading.container, tags, kept, reading.problems)
    return StageResult(
        data={
            "reading": finished.to_dict(), "read": reading.tags.to_dict(),
            "origins": {name: str(origin) for name, origin in origins.items()},
            "lookup": found.to_dict(), "fingerprint": found.fingerprint, "cover": cover,
            "picture_changes": [change.to_dict() for change in changes],
        },
        facts={"title": tags.title, "album": tags.album, "artist": tags.display_artist or None},
    )  # fmt: skip


def _own(picture: Picture, context: StageContext) -> Picture:
    """The picture in this stage's folder; one that was not converted is linked from the stage before."""
    folder = context.folder / PICTURES
    if picture.path is not None and picture.path.parent != folder:
        durable.link_or_copy(picture.path, folder / picture.path.name)
    return picture


def finished(context: StageContext) -> Reading:
    """What this stage found, for later stages."""
    output = context.outputs["metadata"]
    return Reading.from_dict(output.data["reading"], output.folder / PICTURES)


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """The names that missing tags are taken from, the operator's choice, and whom to ask."""
    return {
        "relative_path": job.relative_path, "chosen": job.options.get(online.CHOSEN), **online.parameters(settings),
    }  # fmt: skip


STAGE = Stage(name="metadata", version=2, run=run, parameters=parameters, depends=("validate", "categorize"))
