"""What is in the library already, as far as a new file could get in its way."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import sqlalchemy as sa

from ironclad.ingest.rules import AUDIO_SUFFIXES
from ironclad.library.lint import Finding, lint_addition
from ironclad.library.names import folded
from ironclad.library.naming import Shelf
from ironclad.library.servers import LibraryTrack
from ironclad.metadata.facts import server_facts
from ironclad.metadata.read import read_many
from ironclad.stages.publish import content

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ironclad.metadata.model import TrackTags
    from ironclad.stages.context import StageContext

_MOST: Final = 1000
"""Files that a new one is compared with at most: publishing must not take longer the larger the library is."""
NEAR: Final = sa.text(
    "SELECT path, receipt->'servers' AS servers FROM artifact WHERE state = 'published' AND job_uuid <> :job "
    "AND receipt ? 'servers' AND (receipt->'servers'->>'album_key' = ANY(:albums) "
    "OR regexp_replace(path, '/[^/]*$', '') = ANY(:folders)) LIMIT :most"
)


def facts(tags: TrackTags) -> dict[str, Any]:
    """What servers go by, as the receipt keeps it."""
    known = server_facts(tags)
    return {**known, "album_key": folded(known["album"])}


def track(path: PurePosixPath, known: Mapping[str, Any]) -> LibraryTrack:
    """A track from what `facts` kept; `path` is below the library."""
    return LibraryTrack(path=path, **{name: value for name, value in known.items() if name != "album_key"})


def owner(context: StageContext, path: Path) -> UUID | None:
    """The job that owns a path of the library."""
    with context.database.session() as session:
        found = session.scalar(
            sa.text("SELECT job_uuid FROM artifact WHERE lower(path) = lower(:path) AND state <> 'superseded'"),
            {"path": str(path)},
        )
    return None if found is None else UUID(str(found))


def untouched(context: StageContext, path: Path) -> bool:
    """Whether nothing is at a path, or something that the job has published there: nobody has put his own there."""
    there = content(path)
    if there is None:
        return True
    with context.database.session() as session:
        return there in set(
            session.scalars(
                sa.text("SELECT blake3 FROM artifact WHERE job_uuid = :job AND lower(path) = lower(:path)"),
                {"job": context.job.job_uuid, "path": str(path)},
            )
        )


def findings(context: StageContext, root: Path, new: Mapping[Path, TrackTags]) -> list[Finding]:
    """What publishing `new` (place → tags) would make wrong among the files of its albums and in its folders."""
    existing = list(_existing(context, root, new))
    shelf = Shelf(one.path for one in existing)  # a name that is taken gets a number, it replaces nothing
    added = [track(shelf.place(_below(root, path)), facts(tags)) for path, tags in new.items()]
    return lint_addition(added, existing)


def _existing(context: StageContext, root: Path, new: Mapping[Path, TrackTags]) -> Iterator[LibraryTrack]:
    folders = {path.parent for path in new}
    albums = {facts(tags)["album_key"] for tags in new.values()}
    with context.database.session() as session:
        rows = session.execute(
            NEAR,
            {
                "job": context.job.job_uuid, "albums": sorted(albums), "folders": sorted(map(str, folders)),
                "most": _MOST,
            },
        ).all()  # fmt: skip
        own = set(
            session.scalars(
                sa.text("SELECT path FROM artifact WHERE job_uuid = :job AND state <> 'superseded'"),
                {"job": context.job.job_uuid},
            )
        )
    known = {Path(row.path): row.servers for row in rows}
    for path, servers in known.items():
        if path.is_relative_to(root):
            yield track(_below(root, path), servers)
    strangers = [
        path
        for folder in sorted(folders)
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower()[1:] in AUDIO_SUFFIXES and path not in known and str(path) not in own
    ][:_MOST]
    if strangers:
        for path, reading in zip(strangers, read_many(strangers, check=context.check), strict=True):
            yield track(_below(root, path), facts(reading.tags))


def _below(root: Path, path: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(root).as_posix())
