"""Which files of a watch root are taken: every rule has a name and a sentence, for `ironclad why`.

The rules look at names and at what kind of thing an entry is, never at its size: a file may be small only because it
has just begun to arrive. Symbolic links are never followed: one to a file inside the root is left alone, for that file
is taken under its own name; one that leads out of the root is refused, visibly; one to a folder is not entered.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat as stat_module
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ironclad.errors import UnsafePath

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import IngestSettings
    from ironclad.errors import IroncladError

AUDIO_SUFFIXES: Final = frozenset(
    (
        "aac", "ac3", "aif", "aifc", "aiff", "alac", "amr", "ape", "au", "caf", "dff", "dsf", "dts", "flac",
        "m4a", "m4b", "mka", "mp2", "mp3", "mpc", "oga", "ogg", "opus", "ra", "rf64", "snd", "spx", "tak",
        "tta", "w64", "wav", "wave", "wma", "wv",
    )
)  # fmt: skip
"""Suffixes of names that are taken, without the dot, in lower case. What is inside is for the validate stage."""

TEMPORARY_SUFFIXES: Final = (
    "~", ".part", ".partial", ".crdownload", ".download", ".opdownload", ".tmp", ".temp", ".filepart", ".!qb", ".!ut",
    ".!bt", ".bc!", ".fb!", ".aria2", ".ytdl", ".swp", ".incomplete", ".unfinished", ".upload", ".uploading",
    ".writing",
)  # fmt: skip
"""Ends of names under which programs write what is not complete yet."""

SIDECAR_SUFFIXES: Final = frozenset(
    (
        "accurip", "bmp", "cue", "db", "dir", "diz", "doc", "docx", "ffp", "gif", "htm", "html", "ini", "jpe",
        "jpeg", "jpg", "json", "log", "lrc", "m3u", "m3u8", "md5", "nfo", "nzb", "par2", "pdf", "pls", "png",
        "rtf", "sfv", "sha1", "sha256", "srr", "st5", "tif", "tiff", "torrent", "txt", "url", "webp", "xml",
        "xspf",
    )
)  # fmt: skip
"""Suffixes of what lies beside music and is none."""

_FOLDERS: Final = frozenset({
    "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
    "__macosx",
})  # fmt: skip
_SYSTEM_FILES: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_SYNC: Final = re.compile(r"^(\.syncthing\..*\.tmp|~syncthing~.*\.tmp|\.~tmp~|\.owncloudsync.*|\..+\.[A-Za-z0-9]{6})$")


@dataclass(frozen=True, slots=True)
class Rule:
    """Why a file is not taken."""

    name: str
    sentence: str
    """What `ironclad why` says; a whole sentence about the file or folder."""
    refuses: type[IroncladError] | None = None
    """The error with which a job becomes visible as failed; None is silence."""


TEMPORARY = Rule("temporary-name", "Its name says that a program is still writing it; it is taken once it is renamed.")
SYNC_TEMPORARY = Rule("sync-temporary", "A synchronising program is still writing it under a name of its own.")
APPLE_DOUBLE = Rule("apple-double", "It holds macOS's metadata of another file, not music.")
HIDDEN = Rule("hidden", "Its name begins with a dot.")
SYSTEM_FOLDER = Rule(
    "system-folder", "The folder belongs to a file server or an operating system (index, bin, snapshot)."
)
SYSTEM_FILE = Rule("system-file", "An operating system keeps it there for itself.")
SIDECAR = Rule("sidecar", "It lies beside music (cover, booklet, playlist, log), but is none.")
NOT_AUDIO = Rule("no-audio-suffix", "Its name does not end like that of a music file.")
LINK_INSIDE = Rule(
    "link-inside", "It is a symbolic link to a file inside the watch root, which is taken by its own name."
)
LINK_OUTSIDE = Rule("link-outside", "It is a symbolic link that leads out of the watch root.", refuses=UnsafePath)
LINK_FOLDER = Rule("link-folder", "It is a symbolic link to a folder; those are not followed.")
LINK_BROKEN = Rule("link-broken", "It is a symbolic link to nothing.")
NOT_REGULAR = Rule("not-a-file", "It is no regular file (but a folder, pipe, socket or device).")
PATH_TOO_LONG = Rule("path-too-long", "Its path is longer than ingest.max_path_bytes.")
OTHER_PLACE = Rule("other-place", "The folder is another watch root, or belongs to Ironclad itself.")


def user_glob(pattern: str) -> Rule:
    """The rule of one of the operator's own patterns."""
    return Rule("ignore-setting", f"It matches the pattern {pattern!r} of the setting ingest.ignore.")


_NAME_RULES: Final[tuple[tuple[Callable[[str], object], Rule], ...]] = (
    (_SYNC.match, SYNC_TEMPORARY),
    (lambda name: name.startswith("._"), APPLE_DOUBLE),
    (lambda name: name.lower().endswith(TEMPORARY_SUFFIXES), TEMPORARY),
    (lambda name: name.startswith("."), HIDDEN),
    (lambda name: name.lower() in _SYSTEM_FILES, SYSTEM_FILE),
)
"""What a file's name tells, the most telling first."""


class Rules:
    """The rules in force.

    Args:
        settings: the operator's patterns and the longest path.
    """

    def __init__(self, settings: IngestSettings) -> None:
        self._globs = settings.ignore
        self._max_path_bytes = settings.max_path_bytes

    def folder(self, relative: str) -> Rule | None:
        """Why a folder (path below the root) is not entered; None if it is. Looks at its last name only."""
        name = relative.rpartition("/")[2]
        if name.startswith("."):
            return HIDDEN
        if name.lower() in _FOLDERS:
            return SYSTEM_FOLDER
        return self._user(relative, name)

    def file(self, relative: str) -> Rule | None:
        """Why a file (path below the root) is not taken, as far as its name tells; None if it is."""
        name = relative.rpartition("/")[2]
        for matches, rule in _NAME_RULES:
            if matches(name):
                return rule
        return self._user(relative, name) or _suffix_rule(name)

    def path(self, relative: str) -> Rule | None:
        """Why a file (path below the root) is not taken, its folders included; by names only."""
        folder = relative.rpartition("/")[0]
        while folder:
            rule = self.folder(folder)
            if rule is not None:
                return rule
            folder = folder.rpartition("/")[0]
        return self.file(relative)

    def entry(self, root: Path, path: Path, status: os.stat_result) -> Rule | None:
        """Why something that exists is not taken, as far as its kind tells.

        Args:
            root: the watch root, symbolic links resolved.
            path: the entry, below `root`.
            status: its `lstat`.
        """
        if len(os.fsencode(path)) > self._max_path_bytes:
            return PATH_TOO_LONG
        if stat_module.S_ISLNK(status.st_mode):
            return _link(root, path)
        return None if stat_module.S_ISREG(status.st_mode) else NOT_REGULAR

    def _user(self, relative: str, name: str) -> Rule | None:
        for pattern in self._globs:
            if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(relative, pattern):
                return user_glob(pattern)
        return None


def _suffix_rule(name: str) -> Rule | None:
    suffix = name.lower().rpartition(".")[2] if "." in name else ""
    if suffix in AUDIO_SUFFIXES:
        return None
    return SIDECAR if suffix in SIDECAR_SUFFIXES else NOT_AUDIO


def _link(root: Path, path: Path) -> Rule:
    target = Path(os.path.realpath(path))
    if not target.exists():
        return LINK_BROKEN
    if target.is_dir():
        return LINK_FOLDER
    return LINK_INSIDE if target.is_relative_to(root) else LINK_OUTSIDE
