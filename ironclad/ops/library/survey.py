"""The linter over a folder of real files."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ironclad.errors import NotFound
from ironclad.ingest.rules import AUDIO_SUFFIXES
from ironclad.library.lint import lint
from ironclad.metadata.read import read_many
from ironclad.stages import neighbours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.library.lint import Finding


def audio_files(root: Path) -> Iterator[Path]:
    """The audio files below a folder (or the one file), in order of their paths; hidden ones and links aside."""
    if root.is_file():
        yield root
        return
    for base, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(base, name)
            if not name.startswith(".") and path.suffix.lower()[1:] in AUDIO_SUFFIXES and not path.is_symlink():
                yield path


def survey(root: Path, *, check: Callable[[], None] | None = None) -> tuple[int, list[Finding]]:
    """How many files there are below `root`, and everything that media servers would get wrong. Raises `NotFound`."""
    if not root.exists():
        raise NotFound(f"There is no {root}.")
    base = root.parent if root.is_file() else root
    paths = list(audio_files(root))
    tracks = [
        neighbours.track(PurePosixPath(path.relative_to(base).as_posix()), neighbours.facts(reading.tags))
        for path, reading in zip(paths, read_many(paths, check=check), strict=True)
    ]
    return len(tracks), lint(tracks)
