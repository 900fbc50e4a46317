"""The last look at a file whose wait is over, before it becomes a job."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from ironclad.errors import IroncladError
from ironclad.ingest import claim
from ironclad.ingest.intake import Candidate
from ironclad.ingest.look import Look, Sight, look
from ironclad.ingest.places import split
from ironclad.ingest.rules import TEMPORARY_SUFFIXES
from ironclad.ingest.stability import Print, quiet_before

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings, WatchRoot
    from ironclad.ingest.register import Register

BUSY: Final = "A program has it open for writing."
PLACEHOLDER: Final = "It is empty, and beside it lies what a program is still writing."
AWAY: Final = "Its watch root cannot be reached."
STORAGE_SECONDS: Final = 15.0
"""How long a file waits when storage is the problem."""


def examine(
    path: str, now: float, *, settings: Settings, root: WatchRoot, folder: Path, register: Register, away: bool
) -> Candidate | None:
    """Look whether a file is complete; if not, the register knows why and when it is looked at again.

    Args:
        path: the file, below the root.
        now: the time.
        settings: the installation.
        root: the file's root.
        folder: the root's path, symbolic links resolved.
        register: what is known of the root's files.
        away: the root cannot be reached: a missing file is not gone.
    """
    stability = settings.ingest.stability_seconds
    file = folder / path
    seen = look(file)
    if seen.sight is Sight.OTHER:
        register.tracker.forget(path)  # a link or folder now, for the rules to judge
    elif seen.status is None:
        if seen.error is not None:
            register.hold(path, now + STORAGE_SECONDS, str(seen.error))
        elif away:
            register.hold(path, now + settings.ingest.poll_seconds, AWAY)
        else:
            register.gone(path)
    elif not _same(register, path, seen.status):
        quiet = quiet_before(seen.status.st_mtime_ns, time.time_ns(), stability, stability)
        register.observe(path, seen.status, now, quiet=quiet)
    else:
        obstacle = _obstacle(settings, root, file, seen)
        if obstacle is None:
            return Candidate(split(root, path), seen.status, seen.error)
        waiting = stability if obstacle in {BUSY, PLACEHOLDER} else STORAGE_SECONDS
        register.hold(path, now + waiting, obstacle)
    return None


def _same(register: Register, path: str, status: os.stat_result) -> bool:
    growing = register.tracker.get(path)
    return growing is not None and growing.print == Print.of(status)


def _obstacle(settings: Settings, root: WatchRoot, file: Path, seen: Look) -> str | None:
    """Why an unchanged file cannot be taken now; None if it can, or is to be refused visibly."""
    if seen.sight is Sight.BUSY:
        return BUSY
    if seen.error is not None or seen.status is None:
        return None
    if seen.status.st_size == 0 and is_placeholder(file):
        return PLACEHOLDER
    try:
        claim.ensure_room(settings, file, seen.status.st_size, root.mode)
    except IroncladError as exc:
        return str(exc)
    return None


def is_placeholder(file: Path) -> bool:
    """Whether beside an empty file lies what will replace it: browsers reserve the final name that way."""
    return any(os.path.lexists(f"{file}{suffix}") for suffix in TEMPORARY_SUFFIXES)
