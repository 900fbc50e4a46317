"""From file names on a command line to jobs in the queue: what `process` and `submit` have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ironclad.errors import NotFound
from ironclad.ingest.places import absolute
from ironclad.ingest.rules import Rules
from ironclad.jobs import submit
from ironclad.ops.submission import Format, Found, Instrumental, Wishes, mix, queue, wishes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ironclad.config import Settings

__all__ = [
    "FORMAT_HELP",
    "INSTRUMENTAL_HELP",
    "KARAOKE_HELP",
    "STEMS_HELP",
    "Format",
    "Found",
    "Instrumental",
    "Wishes",
    "gather",
    "mix",
    "names",
    "queue",
    "wishes",
]

_SHOWN: Final = 5


FORMAT_HELP: Final = f"The format of the results: {', '.join(Format)}."


def gather(names: Iterable[Path], settings: Settings) -> list[Found]:
    """The files named, and the music in the folders named (recursively, links to folders not followed).

    A file that is named is taken whatever it is called; it is for the pipeline to refuse it. Raises `NotFound` with
    all names that are not there, or if there is no music at all.
    """
    found: dict[Path, Found] = {}
    missing: list[str] = []
    rules = Rules(settings.ingest)
    for name in names:
        path = absolute(name)
        if path.is_dir():
            for one in _music(path, rules):
                found.setdefault(one.path, one)
        elif path.exists():
            real = path.resolve()
            found.setdefault(real, Found(real, path.name))
        else:
            missing.append(submit.display(name))
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise NotFound(f"No such file or folder: {', '.join(missing[:_SHOWN])}{more}.")
    if not found:
        raise NotFound("There is no music in what was named.")
    return list(found.values())


def _music(folder: Path, rules: Rules) -> Iterator[Found]:
    for base, folders, files in os.walk(folder):
        below = os.path.relpath(base, folder)
        prefix = "" if below == "." else f"{below}/"
        folders[:] = sorted(name for name in folders if rules.folder(f"{prefix}{name}") is None)
        for name in sorted(files):
            path = Path(base, name)
            if rules.file(f"{prefix}{name}") is None and path.is_file():
                yield Found(path.resolve(), f"{folder.name}/{prefix}{name}")


STEMS_HELP: Final = "What to make: instrumental, karaoke, stems of the engine, a sum as bass+drums, or no_drums."
INSTRUMENTAL_HELP: Final = "How to make the instrumental: mixture-minus-vocals or sum-of-stems."
KARAOKE_HELP: Final = "Level of the vocals in the karaoke mix, instead of the settings' one."


def names(found: Sequence[Found]) -> str:
    """`song.flac` or `12 files`."""
    return found[0].path.name if len(found) == 1 else f"{len(found)} files"
