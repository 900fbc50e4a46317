"""ID3v2 (MP3, WAV, AIFF, DSF, AAC): frames to canonical keys. Versions 2.2 and 2.3 are upgraded by mutagen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mutagen import id3

from ironclad.metadata.fields import FIELDS, format_lrc
from ironclad.metadata.model import SyncedLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ironclad.metadata.collect import Collector

UFID_OWNER = "http://musicbrainz.org"
_UNRELIABLE = frozenset({0, 1, 2})
MILLISECONDS = 2
LYRICS = 1

# Reversed, so that TRCK means the number: its total, which shares the frame, comes after it in the table.
_FRAME_KEYS = {entry.id3: entry.key for entry in reversed(FIELDS) if re.fullmatch(r"[TWM][A-Z0-9]{3}", entry.id3)} | {
    "GRP1": "GROUPING"
}
_USER_KEYS = {entry.id3.partition(":")[2].upper(): entry.key for entry in FIELDS if entry.id3.startswith("TXXX:")}
_ROLE_KEYS = {entry.id3.partition(":")[2].lower(): entry.key for entry in FIELDS if entry.id3.startswith("TIPL:")}


_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)
_TIMESTAMP = re.compile(r"\d{4}(-\d{2}(-\d{2}([T ]\d{2}(:\d{2}(:\d{2})?)?)?)?)?(?![0-9])", re.ASCII)


def timestamp(value: str) -> str:
    """What of a date fits into ID3 (`2004-01-01T08:00:00Z` without its zone, 2004 of `2004/01`); empty for none."""
    if compact := _COMPACT.fullmatch(value):
        return "-".join(compact.groups())
    match = _TIMESTAMP.match(value)
    return match[0].replace(" ", "T") if match else ""


def read(tags: id3.ID3Tags, into: Collector) -> None:
    """Hand every frame to the collector."""
    exact = {frame.desc.upper(): str(frame.text[0]) for frame in tags.getall("TXXX") if frame.text}
    for frame in sorted(tags.values(), key=_order):
        if _abridged(frame, exact):
            continue  # of a date that is there in full, too
        reader = next((_READERS[kind] for kind in type(frame).__mro__ if kind in _READERS), _read_other)
        reader(frame, into)


def _order(frame: Any) -> tuple[bool, int, str]:
    """Frames with a meaning of their own before user text, which takes what overflowed; our comments "", "2", "3"."""
    description = frame.desc if frame.FrameID in {"COMM", "USLT", "SYLT"} else ""
    return frame.FrameID == "TXXX", len(description), description


def _abridged(frame: Any, exact: dict[str, str]) -> bool:
    """Whether a date is what ID3 can hold of the one in a user text frame, as our writer leaves them."""
    whole = exact.get(_FRAME_KEYS.get(frame.FrameID, ""), "") if isinstance(frame, id3.TimeStampTextFrame) else ""
    return bool(whole) and [stamp.text.replace(" ", "T") for stamp in frame.text] == [timestamp(whole)]


def _add(into: Collector, key: str, values: Iterable[Any], *, legacy: bool) -> None:
    for value in values:
        into.add(key, str(value), legacy=legacy)


def _unreliable(frame: Any) -> bool:
    """Whether text may be in another encoding than it says: naive converters stored wrong letters as UTF-16 too."""
    return getattr(frame, "encoding", None) in _UNRELIABLE


def _read_text(frame: Any, into: Collector) -> None:
    _add(into, _FRAME_KEYS.get(frame.FrameID, frame.FrameID), frame.text, legacy=_unreliable(frame))


def _read_user_text(frame: Any, into: Collector) -> None:
    _add(into, _USER_KEYS.get(frame.desc.upper(), frame.desc), frame.text, legacy=_unreliable(frame))


def _read_genres(frame: Any, into: Collector) -> None:
    _add(into, "GENRE", frame.genres, legacy=_unreliable(frame))


def _read_dates(frame: Any, into: Collector) -> None:
    key = _FRAME_KEYS.get(frame.FrameID, frame.FrameID)
    for stamp in frame.text:
        if stamp.text:
            into.add(key, stamp.text.replace(" ", "T"))
        else:
            into.problem("bad-date", key, "not a date of the form that ID3 allows")


def _read_performers(frame: Any, into: Collector) -> None:
    _add(into, "PERFORMER", (_credit(name, role) for role, name in frame.people), legacy=_unreliable(frame))


def _read_people(frame: Any, into: Collector) -> None:
    for role, name in frame.people:
        if key := _ROLE_KEYS.get(role.lower()):
            into.add(key, name, legacy=_unreliable(frame))
        else:
            into.add("INVOLVEDPEOPLE", _credit(name, role), legacy=_unreliable(frame))


def _credit(name: str, role: str) -> str:
    return f"{name} ({role})" if role else name


def _read_url(frame: Any, into: Collector) -> None:
    into.add(_FRAME_KEYS.get(frame.FrameID, frame.FrameID), frame.url)


def _read_user_url(frame: Any, into: Collector) -> None:
    into.add(f"URL:{frame.desc}" if frame.desc else "URL", frame.url)


def _read_comment(frame: Any, into: Collector) -> None:
    _add(into, _described("COMMENT", frame.desc), frame.text, legacy=_unreliable(frame))


def _read_lyrics(frame: Any, into: Collector) -> None:
    into.add(_described("LYRICS", frame.desc), frame.text, legacy=_unreliable(frame))
    if frame.lang.isalpha() and frame.lang.lower() not in {"xxx", "eng", "und"}:
        into.add("LYRICSLANGUAGE", frame.lang)


def _described(key: str, description: str) -> str:
    """Comments and lyrics: numbered ones are our writer's, other descriptions become part of the key."""
    if not description or description.isdigit():
        return key
    return description if description.upper().startswith(("ITUN", "SONGS-DB")) else f"{key}:{description}"


def _read_synced(frame: Any, into: Collector) -> None:
    if frame.format != MILLISECONDS:
        into.problem("not-carried", "SYNCEDLYRICS", "timed in MPEG frames")
    elif frame.type != LYRICS:
        into.problem("not-carried", "SYNCEDLYRICS", f"content type {int(frame.type)} is not lyrics")
    else:
        lines = (SyncedLine(time_ms, " ".join(text.split())) for text, time_ms in frame.text)
        text = format_lrc(tuple(sorted(lines, key=lambda line: line.time_ms)))
        into.add("SYNCEDLYRICS", text, legacy=_unreliable(frame))


def _read_identifier(frame: Any, into: Collector) -> None:
    key = "MUSICBRAINZ_TRACKID" if frame.owner == UFID_OWNER else f"UFID:{frame.owner}"
    into.add(key, frame.data.decode("latin-1"))


def _read_picture(frame: Any, into: Collector) -> None:
    into.add_picture(int(frame.type), frame.mime, frame.desc, frame.data)


def _read_rating(frame: Any, into: Collector) -> None:
    into.add(f"RATING:{frame.email}" if frame.email else "RATING", str(frame.rating))


def _read_gain(frame: Any, into: Collector) -> None:
    scope = frame.desc.upper()
    if scope not in {"TRACK", "ALBUM"}:
        into.problem("not-carried", "RVA2", f"volume adjustment {frame.desc[:80]!r}")
    elif not into.has(f"REPLAYGAIN_{scope}_GAIN"):
        into.add(f"REPLAYGAIN_{scope}_GAIN", f"{frame.gain:.2f} dB")
        into.add(f"REPLAYGAIN_{scope}_PEAK", f"{frame.peak:.6f}")


def _read_other(frame: Any, into: Collector) -> None:
    into.problem("not-carried", frame.FrameID, "a binary frame without a place in other formats")


_READERS: dict[type, Callable[[Any, Collector], None]] = {
    id3.TextFrame: _read_text,
    id3.TXXX: _read_user_text,
    id3.TCON: _read_genres,
    id3.TimeStampTextFrame: _read_dates,
    id3.TMCL: _read_performers,
    id3.TIPL: _read_people,
    id3.IPLS: _read_people,
    id3.UrlFrame: _read_url,
    id3.WXXX: _read_user_url,
    id3.COMM: _read_comment,
    id3.USLT: _read_lyrics,
    id3.SYLT: _read_synced,
    id3.UFID: _read_identifier,
    id3.APIC: _read_picture,
    id3.POPM: _read_rating,
    id3.RVA2: _read_gain,
}
