"""metadata: the tags the file has, completed from its name and folders; nothing is guessed over a tag."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ironclad import durable
from ironclad.metadata.filename import complete
from ironclad.metadata.read import Reading
from ironclad.stages.context import Stage, StageContext, StageResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import Settings
    from ironclad.db.tables import Job

PICTURES = "pictures"


def run(context: StageContext) -> StageResult:
    """Complete the tags; keep the pictures. Its marker holds the tags, the origin of each completed one, problems."""
    before = context.outputs["categorize"]
    reading = Reading.from_dict(before.data["reading"], before.folder / PICTURES)
    guess = complete(reading.tags, PurePath(context.job.relative_path))
    pictures = context.folder / PICTURES
    durable.make_dirs(pictures)
    for picture in reading.pictures:
        if picture.path is not None:
            durable.link_or_copy(picture.path, pictures / picture.path.name)
    finished = Reading(reading.container, guess.tags, reading.pictures, reading.problems)
    return StageResult(
        data={"reading": finished.to_dict(), "origins": {name: str(origin) for name, origin in guess.origins.items()}},
        facts={
            "title": guess.tags.title, "album": guess.tags.album, "artist": guess.tags.display_artist or None,
        },
    )  # fmt: skip


def finished(context: StageContext) -> Reading:
    """What this stage found, for later stages."""
    output = context.outputs["metadata"]
    return Reading.from_dict(output.data["reading"], output.folder / PICTURES)


def parameters(job: Job, _settings: Settings) -> Mapping[str, Any]:
    """The names that missing tags are taken from."""
    return {"relative_path": job.relative_path}


STAGE = Stage(name="metadata", version=1, run=run, parameters=parameters, depends=("categorize",))
