"""Names of files and folders that Linux, Windows, SMB, Jellyfin, Plex and Navidrome all accept."""

from __future__ import annotations

import re
import unicodedata

MAX_COMPONENT = 255
"""Bytes of a name on every common file system (ext4, XFS, Btrfs, ZFS, NTFS over SMB)."""
MAX_FILE = 236
"""Bytes of a published file's name: leaves room for `.receipt.json` and for a number that tells doubles apart."""

# Readable stand-ins for what Windows and SMB forbid and Jellyfin warns of: < > : " / \ | ? *
_REPLACED = str.maketrans(
    {"/": "-", "\\": "-", "|": "-", ":": " -", '"': "'", "<": "(", ">": ")", "?": "", "*": "_", "\0": ""}
)
# Windows also reserves the superscript digits one to three.
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3]|conin\$|conout\$)(?:\..*)?",
    re.IGNORECASE,
)
_BREAKS = re.compile(r"[\s\u2028\u2029\x85]+")
# Cc control, Cs lone surrogates, Cn not assigned (and non-characters); of Cf all but the joiners that scripts need.
_DROPPED_CATEGORIES = frozenset({"Cc", "Cs", "Cn"})
_JOINERS = frozenset("\u200c\u200d")
_VERSION = re.compile(r" \([^()]{1,60}\)$")
_PLAIN = re.compile(r"[A-Za-z0-9 ,()'_&+!-]+")


def component(text: str, *, fallback: str = "_", limit: int = MAX_COMPONENT) -> str:
    """One path component of any text: no separators, no `..`, no control or direction characters, limited in bytes.

    At most `limit` bytes; NFC; a leading dot goes (it hides the file), trailing dots and spaces go (Windows drops
    them), reserved Windows names get an underscore; nothing left gives `fallback`.
    """
    if not _PLAIN.fullmatch(text):
        text = _without_controls(unicodedata.normalize("NFC", text)).translate(_REPLACED)
    text = _trimmed(_BREAKS.sub(" ", text))
    if len(text.encode()) > limit:
        text = _trimmed(shortened(text, limit))
    if not text:
        return fallback
    return f"_{text}"[:limit] if _RESERVED.fullmatch(text) else text


def file_name(stem: str, suffix: str, *, fallback: str, limit: int = MAX_FILE) -> str:
    """A file name: the stem made a component, the suffix (".flac") kept whatever is cut."""
    return component(stem, fallback=fallback, limit=limit - len(suffix.encode())) + suffix


def shortened(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, cut between characters; a version at the end, "(Instrumental)", is kept.

    Without the version, two stems of one long title would get one name.
    """
    tail = ""
    if (match := _VERSION.search(text)) and len(match[0].encode()) < limit // 2:
        text, tail = text[: match.start()], match[0]
    cut = text.encode()[: limit - len(tail.encode())].decode("utf-8", "ignore")
    # Not between a letter and its accents, nor inside a joined emoji.
    while cut and len(cut) < len(text) and (unicodedata.combining(text[len(cut)]) or cut[-1] in _JOINERS):
        cut = cut[:-1]
    return cut.rstrip() + tail


def numbered(name: str, number: int, limit: int = MAX_COMPONENT) -> str:
    """`Title.flac` → `Title (2).flac`, within `limit` bytes."""
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    mark = f" ({number})"
    room = limit - len((mark + dot + suffix).encode())
    return shortened(stem, room) + mark + dot + suffix if len(stem.encode()) > room else stem + mark + dot + suffix


def folded(name: str) -> str:
    """What a case-insensitive file system takes for the same name (NTFS, APFS, SMB)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _trimmed(text: str) -> str:
    return text.strip(" ").lstrip(".").lstrip(" ").rstrip(". ")


def _without_controls(text: str) -> str:
    return "".join(
        " " if character in "\t\n\r\x85\u2028\u2029" else character
        for character in text
        if character in "\t\n\r\x85\u2028\u2029" or not _is_dropped(character)
    )


def _is_dropped(character: str) -> bool:
    category = unicodedata.category(character)
    return category in _DROPPED_CATEGORIES or (category == "Cf" and character not in _JOINERS)
