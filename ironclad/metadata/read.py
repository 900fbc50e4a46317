"""Tags and pictures of an untrusted file, read in a limited child process. Tags never fail a job."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ironclad import sandbox
from ironclad.errors import ErrorKind, IroncladError, SourceMissing
from ironclad.metadata.caps import Caps
from ironclad.metadata.model import Picture, Problem, TrackTags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_MIB = 1 << 20
_MAX_WALL = 60.0
_MAX_CPU = 30
_MEMORY = 1024 * _MIB
_BATCH = 200


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
    request = {"path": str(path.resolve()), "folder": str(folder.resolve()), "caps": asdict(caps)}
    reply = _ask("main", request, caps, check)
    if isinstance(reply, str):
        return _unreadable(reply)
    try:
        return Reading.from_dict(reply, folder)
    except (KeyError, TypeError, ValueError) as exc:
        return _unreadable(f"the reader's answer makes no sense: {exc}")


def read_many(
    paths: Sequence[Path], *, caps: Caps | None = None, check: Callable[[], None] | None = None
) -> Iterator[Reading]:
    """Read the tags, without pictures, of many files: a child process for each 200 instead of one for each.

    Readings come in the order of `paths`. Where a batch fails, its files are read one by one, so that a bad file costs
    nobody else's tags. Raises as `read` does, but a missing file is a problem `unreadable`.
    """
    caps = caps or Caps()
    for start in range(0, len(paths), _BATCH):
        batch = list(paths[start : start + _BATCH])
        found = _read_batch(batch, caps, check)
        if isinstance(found, str) and len(batch) > 1:
            for path in batch:
                single = _read_batch([path], caps, check)
                yield _unreadable(single) if isinstance(single, str) else single[0]
        else:
            yield from [_unreadable(found)] if isinstance(found, str) else found


def _read_batch(paths: list[Path], caps: Caps, check: Callable[[], None] | None) -> list[Reading] | str:
    request = {"paths": [str(path.resolve()) for path in paths], "caps": asdict(caps)}
    reply = _ask("many", request, caps, check)
    if isinstance(reply, str):
        return reply
    try:
        found = [Reading.from_dict(data, Path()) for data in reply["files"]]
    except (KeyError, TypeError, ValueError) as exc:
        return f"the reader's answer makes no sense: {exc}"
    return found if len(found) == len(paths) else "the reader's answer is incomplete"


def _unreadable(detail: str) -> Reading:
    return Reading("", TrackTags(), problems=(Problem("unreadable", "", detail),))


def _ask(target: str, request: dict[str, Any], caps: Caps, check: Callable[[], None] | None) -> dict[str, Any] | str:
    """The child's reply, or why there is none. Raises what is not about the file."""
    limits = sandbox.SandboxLimits(
        cpu_seconds=_MAX_CPU, wall_seconds=_MAX_WALL, memory_bytes=_MEMORY, file_bytes=2 * caps.picture_bytes
    )
    try:
        return sandbox.run(f"ironclad.metadata.read_child:{target}", request, limits, check=check)
    except IroncladError as exc:
        if exc.kind is ErrorKind.CONTROL or exc.code in {"E_DISK_FULL", "E_STORAGE"}:
            raise
        return f"{exc.code}: {exc}"
