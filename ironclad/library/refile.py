"""Moves a library to another path template: first a plan that anybody can read, then the moves, each safe by itself."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad import durable
from ironclad.errors import IroncladError, StorageError
from ironclad.library.names import folded
from ironclad.library.naming import PathTemplate, Shelf, TrackName
from ironclad.library.receipt import sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path, PurePosixPath

    Around = Callable[[PurePosixPath, PurePosixPath], AbstractContextManager[None]]


@contextlib.contextmanager
def _alone(_source: PurePosixPath, _target: PurePosixPath) -> Iterator[None]:
    yield


@dataclass(frozen=True, slots=True)
class Move:
    """One track's way, both ends relative to the library."""

    source: PurePosixPath
    target: PurePosixPath


def plan_refile(
    tracks: Iterable[tuple[PurePosixPath, TrackName]], template: PathTemplate, others: Iterable[PurePosixPath] = ()
) -> list[Move]:
    """Where each track goes under `template`, in order of their paths; those that stay are not listed.

    `others` are files that do not move (other people's): no track gets one of their names. A track keeps its place
    where that is a numbered double of its name, so that a second run plans nothing.
    """
    shelf = Shelf(others)
    ordered = sorted(tracks, key=lambda pair: pair[0])
    wanted = [(path, template.render(name, path.suffix)) for path, name in ordered]
    # Those who are right already come first: nobody takes their place.
    moves = []
    for path, place in sorted(wanted, key=lambda pair: (folded(str(pair[0])) != folded(str(pair[1])), pair[0])):
        target = shelf.place(place)
        if target != path:
            moves.append(Move(path, target))
    return sorted(moves, key=lambda move: move.source)


def refile(
    root: Path, moves: Sequence[Move], *, check: Callable[[], None] | None = None,
    around: Around = _alone,
) -> Iterator[Move]:  # fmt: skip
    """Carry out a plan below `root`, track and receipt together; yields each move when it is done.

    Nothing is overwritten. Tracks that want each other's places go through names of their own (`.refile-…`), so a plan
    that was cut short leaves every file whole under its old, new or such a name, the latter only if it was killed.
    Each single rename happens inside `around(from, to)`, which may refuse it by raising.
    Raises `StorageError` when a place is taken by a stranger, and catalogue errors.
    """
    sources = {folded(str(move.source)) for move in moves}
    waiting: list[tuple[PurePosixPath, Move]] = []
    try:
        for move in moves:
            if check is not None:
                check()
            if folded(str(move.target)) in sources:
                aside = move.source.with_name(f".refile-{secrets.token_hex(8)}{move.source.suffix}")
                with around(move.source, aside):
                    _carry(root, move.source, aside)
                waiting.append((aside, move))
            else:
                with around(move.source, move.target):
                    _carry(root, move.source, move.target)
                yield move
        while waiting:
            aside, move = waiting[0]
            with around(aside, move.target):
                _carry(root, aside, move.target)
            del waiting[0]
            yield move
    except IroncladError:
        _show(root, waiting, around)
        raise
    _remove_empty(root, {move.source.parent for move in moves})


def _show(root: Path, waiting: Iterable[tuple[PurePosixPath, Move]], around: Around) -> None:
    """A plan ends early: what went aside gets a name that people see, its new one or, if that is taken, its old one."""
    for aside, move in waiting:
        for place in (move.target, move.source):
            with contextlib.suppress(IroncladError), around(aside, place):
                _carry(root, aside, place)
                break


def _carry(root: Path, source: PurePosixPath, target: PurePosixPath) -> None:
    old, new = root / source, root / target
    durable.make_dirs(new.parent)
    receipt = sidecar(old).exists()
    if receipt and os.path.lexists(sidecar(new)):  # said before anything has moved: the two stay together
        raise StorageError(f"the receipt of {target} exists already and is not one of ours", path=new)
    try:
        durable.move(old, new)
        if receipt:
            durable.move(sidecar(old), sidecar(new))
    except FileExistsError as exc:
        raise StorageError(f"{target} exists already and is not one of ours", path=new) from exc


def _remove_empty(root: Path, folders: Iterable[PurePosixPath]) -> None:
    """Remove the folders that the moves have emptied, and their parents below `root`. Others' files keep theirs."""
    for folder in sorted(folders, key=lambda path: -len(path.parts)):
        current = root / folder
        # Only if it is empty at that very moment: workers go on publishing while a library is refiled.
        while current != root and root in current.parents and durable.remove_empty_folder(current):
            current = current.parent
