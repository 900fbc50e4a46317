"""Where files would go: the path template tried on music files, or on a catalogue of thousands of tracks."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import BadRequest
from ironclad.library.naming import DEFAULT_TEMPLATE, PathTemplate, TrackName, plan, track_name
from ironclad.library.receipt import SUFFIX
from ironclad.metadata.derive import AlbumPolicy, Derivation, path_fields
from ironclad.metadata.filename import complete
from ironclad.metadata.read import read_many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ironclad.config import Settings

_TYPES: Final = {field.name: str(field.type) for field in fields(TrackName)}
_ALLOWED: Final = {"str": (str,), "int | None": (int, type(None)), "bool": (bool,)}
_FORMAT: Final = "flac"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one track would go."""

    source: str
    """The file, or the line of the catalogue."""
    wanted: PurePosixPath
    """As the template says."""
    place: PurePosixPath
    """Where it would really go: another one if somebody has that name."""

    @property
    def collides(self) -> bool:
        """Whether it needs another name than the template gives."""
        return self.wanted.name != self.place.name

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {"source": self.source, "path": str(self.place), "wanted": str(self.wanted), "collides": self.collides}


def template(settings: Settings, source: str | None) -> PathTemplate:
    """The template to try: the one given, else the setting's. Raises `ConfigError` with the place of a mistake."""
    return PathTemplate(source or settings.output.template or DEFAULT_TEMPLATE)


def existing(root: Path) -> Iterator[PurePosixPath]:
    """The files of a library, receipts and hidden ones aside."""
    for base, folders, names in os.walk(root):
        folders.sort()
        below = PurePosixPath(Path(base).relative_to(root).as_posix())
        yield from (below / name for name in sorted(names) if not name.endswith(SUFFIX) and not name.startswith("."))


def of_files(
    settings: Settings, paths: Sequence[tuple[Path, str]], stems: Sequence[str], engine: str, *,
    check: Callable[[], None] | None = None,
) -> list[tuple[str, TrackName, str]]:  # fmt: skip
    """Name, fields and suffix of each (file, path below its watch folder), once for each stem, by its own tags."""
    policy = AlbumPolicy(settings.output.album_policy)
    suffix = settings.output.format
    found = []
    for (path, relative), reading in zip(paths, read_many([path for path, _ in paths], check=check), strict=True):
        tags = complete(reading.tags, PurePath(relative)).tags
        kind = path.suffix.lower() if suffix == "auto" else f".{suffix}"
        for stem in stems:
            made = Derivation(stem=stem, job_uuid="", trace_id="", engine=engine, policy=policy)
            values = path_fields(tags, made) | {"format": kind[1:]}
            found.append((str(path), track_name(values), kind))
    return found


def of_catalogue(lines: Iterable[str]) -> list[tuple[str, TrackName, str]]:
    """As `of_files`, from JSON lines: an object a track, with the fields of a path template.

    Raises `BadRequest` that names the line and what is wrong with it.
    """
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError as exc:
            raise BadRequest(f"line {number} of the catalogue is no JSON: {exc}") from exc
        if not isinstance(data, dict):
            raise BadRequest(f"line {number} of the catalogue is no JSON object")
        for name, value in data.items():
            kinds = _ALLOWED.get(_TYPES.get(name, ""))
            if kinds is None:
                raise BadRequest(f"line {number} of the catalogue: there is no field {name!r}")
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise BadRequest(f"line {number} of the catalogue: {name} cannot be {value!r:.80}")
        found.append((f"line {number}", TrackName(**data), f".{data.get('format') or _FORMAT}"))
    return found


def preview(
    wanted: Sequence[tuple[str, TrackName, str]], path_template: PathTemplate, taken: Iterable[PurePosixPath] = ()
) -> list[Placed]:
    """The place of each track, none equal to another's or to one that is taken, case aside."""
    tracks = [(name, suffix) for _, name, suffix in wanted]
    places = plan(path_template, tracks, taken)
    return [
        Placed(source, path_template.render(name, suffix), place)
        for (source, name, suffix), place in zip(wanted, places, strict=True)
    ]
