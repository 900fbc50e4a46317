"""List a watch root: what is there now, by the rules."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.ingest.rules import Rule, Rules


@dataclass(slots=True)
class Listing:
    """What a scan of a root, or of a folder in it, found. Paths are below the root."""

    files: dict[str, os.stat_result] = field(default_factory=dict)
    """What the rules take, with its `lstat`."""
    refused: dict[str, tuple[os.stat_result, Rule]] = field(default_factory=dict)
    """What the rules refuse visibly."""
    folders: int = 0
    """How many folders there are that could be listed, the ones that are not entered included, links not."""
    empty: bool = False
    """There is nothing at all in the folder that was listed."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that could not be listed: nothing is known of what is in them."""

    def hides(self, path: str) -> bool:
        """Whether a path is in a folder that could not be listed."""
        return any(not folder or path.startswith(f"{folder}/") for folder in self.unreadable)


def scan(root: Path, rules: Rules, foreign: frozenset[str], below: str = "") -> Listing:
    """List a folder and everything in it.

    Args:
        root: the watch root, symbolic links resolved.
        rules: what is taken.
        foreign: folders (paths below the root) that are not entered.
        below: the folder to list, as a path below the root; the root itself by default.
    """
    listing = Listing()
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                found = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            if not folder:
                listing.unreadable.append(folder)  # the root itself went away: nothing is known
            continue
        except OSError:
            listing.unreadable.append(folder)
            continue
        listing.folders += 1
        listing.empty = listing.empty or (folder == below and not found)
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if not entry.is_dir(follow_symlinks=False):
                _file(listing, root, rules, entry, path)
            elif path in foreign or rules.folder(path) is not None:
                listing.folders += _all_below(entry.path)
            else:
                waiting.append(path)
    return listing


def _file(listing: Listing, root: Path, rules: Rules, entry: os.DirEntry[str], path: str) -> None:
    if rules.file(path) is not None:
        return
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return  # gone again
    rule = rules.entry(root, root / path, status)
    if rule is None:
        listing.files[path] = status
    elif rule.refuses is not None:
        listing.refused[path] = (status, rule)


def _all_below(folder: str) -> int:
    """How many folders there are, the given one included: event sources watch these too."""
    return 1 + sum(len(folders) for _base, folders, _files in os.walk(folder))
