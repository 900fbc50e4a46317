"""File-system events of one watch root, through watchdog, and whether they arrive at all."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.inotify import InotifyObserver

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_PREFIX: Final = ".ironclad-probe-"
_PROBE_SECONDS = 2.0
_JOIN_SECONDS = 5.0
# Writing, opening and reading are not listened to: one large copy makes thousands of such events a second.
_HEARD: Final = (
    FileCreatedEvent, FileClosedEvent, FileMovedEvent, FileDeletedEvent, DirCreatedEvent, DirMovedEvent,
    DirDeletedEvent,
)  # fmt: skip
# Changes made by another machine never become events here, though our own do: a probe cannot tell.
_REMOTE: Final = frozenset(
    (
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
        "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Happened:
    """One event, with paths below the root. `kind` is changed, renamed, gone, folder or folder_gone."""

    kind: str
    path: str
    old: str | None = None
    """Renamed: the name before; None if it was outside the root."""


class _Handler(FileSystemEventHandler):
    def __init__(self, root: str, tell: Callable[[Happened], None]) -> None:
        self._prefix = root.rstrip("/") + "/"
        self._tell = tell

    def _below(self, path: bytes | str) -> str | None:
        text = os.fsdecode(path)
        return text[len(self._prefix) :] if text.startswith(self._prefix) else None

    def dispatch(self, event: FileSystemEvent) -> None:
        source = self._below(event.src_path)
        if isinstance(event, FileMovedEvent | DirMovedEvent):
            target = self._below(event.dest_path) if event.dest_path else None
            folder = isinstance(event, DirMovedEvent)
            if target is not None:
                self._tell(Happened("folder" if folder else "renamed", target, source))
            if source is not None and (folder or target is None):
                self._tell(Happened("folder_gone" if folder else "gone", source))
        elif source is None:
            return
        elif isinstance(event, FileDeletedEvent | DirDeletedEvent):
            self._tell(Happened("folder_gone" if isinstance(event, DirDeletedEvent) else "gone", source))
        elif isinstance(event, DirCreatedEvent):
            self._tell(Happened("folder", source))
        else:
            self._tell(Happened("changed", source))


class _Complaints(logging.Handler):
    """watchdog says only in its log that events were lost (queue overflow) or a folder could not be watched."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        self._lost(record.getMessage())


def _meaningful(record: logging.LogRecord) -> bool:
    """Drop what the library calls an error and is the ordinary end of a feed."""
    return "called when the thread is inactive" not in record.getMessage()


class EventFeed:
    """The events of one folder and everything below it.

    Args:
        root: the folder, symbolic links resolved.
        tell: called for each event, in a thread of watchdog's.
        lost: called with watchdog's words when events may have been lost.
    """

    _opening = threading.Lock()

    def __init__(self, root: Path, tell: Callable[[Happened], None], lost: Callable[[str], None]) -> None:
        self._root = root
        self._tell = tell
        self._complaints = _Complaints(lost)
        self._observer: InotifyObserver | None = None
        self._fds: set[int] = set()
        self._awaited = ""
        self._heard = threading.Event()

    def start(self) -> None:
        """Begin. Raises OSError when the kernel's limits or the file system do not allow it."""
        with self._opening:  # so that the descriptor that is new is ours
            before = _inotify_fds()
            observer = InotifyObserver(generate_full_events=True)
            self._fds = _inotify_fds() - before
        try:
            observer.schedule(
                _Handler(str(self._root), self._hear), str(self._root), recursive=True, event_filter=list(_HEARD)
            )
            observer.start()
        except BaseException:
            observer.on_thread_stop()
            raise
        # It comes when a folder was found twice, by its event and by listing its parent; nothing is wrong then.
        warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning, module=r"watchdog\.")
        logging.getLogger("watchdog.observers.inotify").addFilter(_meaningful)
        logging.getLogger("watchdog").addHandler(self._complaints)
        self._observer = observer

    def stop(self) -> None:
        """End; may be called at any time and twice."""
        logging.getLogger("watchdog").removeHandler(self._complaints)
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(_JOIN_SECONDS)

    def probe(self, seconds: float = _PROBE_SECONDS) -> str | None:
        """Write a probe file and wait for its event. None if it came, else why not."""
        name = f"{PROBE_PREFIX}{secrets.token_hex(6)}"
        probe = self._root / name
        self._awaited, self._heard = name, threading.Event()
        try:
            probe.touch(exist_ok=False)
            return None if self._heard.wait(seconds) else "a probe file gave no event"
        except OSError as exc:
            return f"no probe file could be written ({exc.strerror})"
        finally:
            self._awaited = ""
            with contextlib.suppress(OSError):
                probe.unlink()

    def _hear(self, event: Happened) -> None:
        if not event.path.startswith(PROBE_PREFIX):
            self._tell(event)
        elif event.path == self._awaited:
            self._heard.set()

    def watched_folders(self) -> int | None:
        """How many folders the kernel watches for us; None if it does not say."""
        try:
            return sum(
                line.startswith("inotify ")
                for fd in self._fds
                for line in Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
            )
        except OSError:
            return None


def _inotify_fds() -> set[int]:
    found = set()
    with contextlib.suppress(OSError):
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if "inotify" in str(link.readlink()):
                    found.add(int(link.name))
    return found


def remote_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The type of the file system if other machines may change it (or FUSE hides where it is); else None.

    Args:
        path: any existing path.
        mounts: the text of /proc/self/mountinfo; read when None.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    real = os.path.realpath(path)
    best, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) > 4 and right:  # noqa: PLR2004 - proc(5): the fifth field is the mount point
            point = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
            if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= best:
                best, kind = len(point), right.split(" ")[0]
    return kind if kind in _REMOTE or kind.startswith("fuse") else None


def explain(exc: OSError) -> str:
    """Why watching is not possible, in words that name the limit to raise."""
    if exc.errno == errno.ENOSPC:
        return "the kernel's limit fs.inotify.max_user_watches is reached"
    if exc.errno == errno.EMFILE:
        return "the kernel's limit fs.inotify.max_user_instances is reached"
    return f"events are not possible here ({exc.strerror or exc})"
