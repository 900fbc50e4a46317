"""One look at a file that seems complete: can it be read, and has every program that wrote it let go of it?"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import signal
import stat as stat_module
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad.errors import SourceUnreadable, StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.errors import IroncladError


class Sight(enum.StrEnum):
    """What a look found."""

    READY = "ready"
    BUSY = "busy"
    """A program has it open for writing."""
    MISSING = "missing"
    OTHER = "other"
    """It is no regular file (any more)."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found, with the file's status where it could be had."""

    sight: Sight
    status: os.stat_result | None = None
    error: IroncladError | None = None


def open_for_writing(fd: int) -> bool:
    """Whether any program of this machine has the file open for writing. False also where that cannot be known.

    Linux refuses a read lease (fcntl(2), F_SETLEASE) while somebody writes. The lease is given back at once; a program
    that opens the file in between waits that long, and the signal it would send us is one that is ignored by default.
    Not known: files of other users without CAP_LEASE, network and FUSE file systems.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as exc:
        return exc.errno in {errno.EAGAIN, errno.EWOULDBLOCK}
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def look(path: Path) -> Look:
    """Open the file and look. Opening also makes a network file system tell the truth about size and mtime."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as exc:
        return _unopened(path, exc)
    try:
        status = os.fstat(fd)
        if not stat_module.S_ISREG(status.st_mode):
            return Look(Sight.OTHER, status)
        return Look(Sight.BUSY if open_for_writing(fd) else Sight.READY, status)
    except OSError as exc:
        return _unopened(path, exc)
    finally:
        os.close(fd)


def _unopened(path: Path, exc: OSError) -> Look:
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return Look(Sight.MISSING)
    if exc.errno in {errno.ELOOP, errno.ENXIO}:  # a symbolic link, a socket
        return Look(Sight.OTHER)
    if not isinstance(exc, PermissionError):
        return Look(Sight.FAILED, error=StorageError(f"{path}: {exc.strerror}", path=path, errno=exc.errno))
    error = SourceUnreadable(f"{path}: {exc.strerror}", path=path)
    try:
        return Look(Sight.FAILED, path.lstat(), error)
    except FileNotFoundError:
        return Look(Sight.MISSING)
    except OSError:
        return Look(Sight.FAILED, error=error)  # its folder cannot be entered
