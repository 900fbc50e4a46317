"""Tags and pictures of an untrusted file, read in a limited child process. Tags never fail a job."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from ironclad import sandbox
from ironclad.errors import ErrorKind, IroncladError, SourceMissing
from ironclad.metadata.caps import Caps
from ironclad.metadata.model import Picture, Problem, TrackTags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_MIB = 1 << 20
_MAX_WALL = 60.0
_MAX_CPU = 30
_MEMORY = 1024 * _MIB


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file says about itself."""

    container: str
    """mutagen's name of the file type (`FLAC`, `MP3`, `OggOpus`, …); empty where it knows none."""
    tags: TrackTags
    pictures: tuple[Picture, ...] = ()
    problems: tuple[Problem, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data; pictures by the names of their files."""
        return {
            "container": self.container,
            "tags": self.tags.to_dict(),
            "pictures": [picture.to_dict() for picture in self.pictures],
            "problems": [problem.to_dict() for problem in self.problems],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: Path) -> Self:
        """What `to_dict` described, its pictures being in `folder`. Raises ValueError for other data."""
        return cls(
            container=str(data["container"]),
            tags=TrackTags.from_dict(data["tags"]),
            pictures=tuple(Picture.from_dict(picture, folder) for picture in data["pictures"]),
            problems=tuple(Problem.from_dict(problem) for problem in data["problems"]),
        )


def read(path: Path, folder: Path, *, caps: Caps | None = None, check: Callable[[], None] | None = None) -> Reading:
    """Read tags and pictures of `path`; the pictures' bytes are written to `folder`, which must exist.

    A file whose tags cannot be read (no tags, damaged, or its parser ran into the sandbox's limits) gives empty tags
    and a problem `unreadable`. Raises only `SourceMissing` (the file is gone), failures of the machine (disk full, …)
    and what `check` raises.
    """
    if not path.exists():
        raise SourceMissing(f"{path}", path=path)
    caps = caps or Caps()
    limits = sandbox.SandboxLimits(
        cpu_seconds=_MAX_CPU, wall_seconds=_MAX_WALL, memory_bytes=_MEMORY, file_bytes=2 * caps.picture_bytes
    )
    request = {"path": str(path.resolve()), "folder": str(folder.resolve()), "caps": asdict(caps)}
    try:
        reply = sandbox.run("ironclad.metadata.read_child:main", request, limits, check=check)
        return Reading.from_dict(reply, folder)
    except IroncladError as exc:
        if exc.kind is ErrorKind.CONTROL or exc.code in {"E_DISK_FULL", "E_STORAGE"}:
            raise
        detail = f"{exc.code}: {exc}"
    except (KeyError, TypeError, ValueError) as exc:
        detail = f"the reader's answer makes no sense: {exc}"
    return Reading("", TrackTags(), problems=(Problem("unreadable", "", detail),))
