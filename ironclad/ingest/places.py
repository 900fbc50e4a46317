"""Where a path belongs: its watch root, its user, and its path below the user's folder."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ironclad.errors import ConfigError
from ironclad.jobs.submit import display

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ironclad.config import Settings, WatchRoot

DEFAULT_USER = "default"


@dataclass(frozen=True, slots=True)
class Place:
    """A file's place in a watch root."""

    root: WatchRoot
    below_root: str
    """The path below the root, as the file system has it."""
    user_id: str
    relative_path: str
    """The path below the user's folder."""


def absolute(path: Path) -> Path:
    """The path as it is keyed everywhere: absolute, `..` removed, symbolic links left alone."""
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - Path.absolute keeps `..`, resolve follows links


def split(root: WatchRoot, below_root: str) -> Place:
    """The place of a path below a root: its first folder is the user, unless the root has one of its own."""
    user, slash, rest = below_root.partition("/")
    if root.user is not None:
        return Place(root, below_root, root.user, below_root)
    if not slash:
        return Place(root, below_root, DEFAULT_USER, below_root)
    return Place(root, below_root, display(user), rest)


def place_of(roots: Iterable[WatchRoot], path: Path) -> Place | None:
    """Where a path belongs; None if it is below no root. Of nested roots, the innermost counts."""
    candidates = [absolute(path), absolute(path.parent).resolve() / path.name]
    best: tuple[int, Place] | None = None
    for root in roots:
        folder = absolute(root.path)
        for candidate in candidates:
            for base in (folder, folder.resolve()):
                if candidate != base and candidate.is_relative_to(base):
                    found = split(root, str(candidate.relative_to(base)))
                    if best is None or len(base.parts) > best[0]:
                        best = (len(base.parts), found)
    return None if best is None else best[1]


def foreign_folders(settings: Settings, root: WatchRoot) -> frozenset[str]:
    """Folders below a root (paths below it) that are not its own: other roots, and Ironclad's own folders."""
    own = absolute(root.path).resolve()
    others = [absolute(other.path).resolve() for other in settings.watch_roots] + _ironclads(settings)
    return frozenset(str(other.relative_to(own)) for other in others if other != own and other.is_relative_to(own))


def _ironclads(settings: Settings) -> list[Path]:
    layout = settings.layout
    return [
        folder.resolve()
        for folder in (
            layout.archive, layout.work, layout.output, layout.error, layout.logs, layout.orphaned, layout.backups,
            layout.models, layout.postgres, layout.prefect, layout.run, layout.cover_art_cache,
            layout.uploads,
        )
    ]  # fmt: skip


def require_a_place_of_its_own(settings: Settings, root: WatchRoot) -> None:
    """Raises `ConfigError` for a root in a folder of Ironclad's own: results would be taken away as new songs."""
    folder = absolute(root.path).resolve()
    own = next((own for own in _ironclads(settings) if folder.is_relative_to(own)), None)
    if own is not None:
        raise ConfigError(f"The watch root {root.path} is in {own}, a folder of Ironclad's own.")


class Reach(enum.StrEnum):
    """Whether what a root shows can be believed."""

    OK = "ok"
    MISSING = "missing"
    EMPTIED = "emptied"
    """Empty, and another device than before: the mount is gone, and with it the view of its files."""


@dataclass(frozen=True, slots=True)
class RootHealth:
    """A root at one moment."""

    reach: Reach
    device: int | None = None
    inode: int | None = None

    @property
    def known(self) -> bool:
        """False: nothing may be concluded from a file's absence."""
        return self.reach is Reach.OK

    @property
    def sentence(self) -> str:
        """What is the matter, for people."""
        return {
            Reach.OK: "The folder is there.",
            Reach.MISSING: "The folder cannot be reached.",
            Reach.EMPTIED: "The folder is empty and on another device than before: its mount is probably gone.",
        }[self.reach]


def health(folder: Path, device: int | None) -> RootHealth:
    """Look at a root. `device` is the device it was on when it was last seen with something in it, if ever."""
    try:
        status = folder.stat()
        if device is not None and status.st_dev != device:
            with os.scandir(folder) as entries:
                if next(entries, None) is None:
                    return RootHealth(Reach.EMPTIED, status.st_dev, status.st_ino)
    except OSError:
        return RootHealth(Reach.MISSING)
    return RootHealth(Reach.OK, status.st_dev, status.st_ino)
