"""Remove the album folders that taking their files has left empty.

A folder goes only if files were taken from it, it is empty, it is neither the root nor a user's folder, and nothing has
happened in it for an hour: a program that copies an album may pause between two songs and must find its folder again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ironclad import durable, log
from ironclad.errors import IroncladError

if TYPE_CHECKING:
    from pathlib import Path

QUIET_SECONDS: Final = 3600.0


class Tidy:
    """The folders of one root that may be left empty.

    Args:
        root: the root, symbolic links resolved.
        keep_first: its first folders are users, who keep them.
    """

    def __init__(self, root: Path, *, keep_first: bool) -> None:
        self._root = root
        self._depth = 2 if keep_first else 1
        self._folders: set[str] = set()

    def emptied(self, path: str) -> None:
        """A file (path below the root) was taken."""
        parts = path.split("/")[:-1]
        self._folders |= {"/".join(parts[:count]) for count in range(self._depth, len(parts) + 1)}

    def run(self, now: float | None = None) -> list[str]:
        """Remove what may go, deepest first. `now` is the wall clock, in seconds since the epoch."""
        now = time.time() if now is None else now
        removed = []
        for folder in sorted(self._folders, key=len, reverse=True):
            path = self._root / folder
            try:
                if now - path.lstat().st_mtime >= QUIET_SECONDS and durable.remove_empty_folder(path):
                    removed.append(folder)
                    self._folders.discard(folder)
            except FileNotFoundError:
                self._folders.discard(folder)
            except (OSError, IroncladError):
                continue  # the next listing tries again
        if removed:
            log.get(root=str(self._root)).info("empty_folders_removed", folders=removed)
        return removed
