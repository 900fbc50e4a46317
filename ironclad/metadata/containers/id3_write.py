"""ID3v2.4 (MP3, WAV): canonical keys to frames."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mutagen import id3

from ironclad.metadata import images
from ironclad.metadata.containers.id3 import LYRICS, MILLISECONDS, UFID_OWNER, timestamp
from ironclad.metadata.fields import BY_KEY, parse_lrc
from ironclad.metadata.report import Loss

if TYPE_CHECKING:
    from ironclad.metadata.fields import Raw
    from ironclad.metadata.model import Picture

_UTF8 = 3
_MAX_RATING = 255
_PAIRS = {
    "TRCK": ("TRACKNUMBER", "TRACKTOTAL"),
    "TPOS": ("DISCNUMBER", "DISCTOTAL"),
    "MVIN": ("MOVEMENT", "MOVEMENTTOTAL"),
}
_DATES = frozenset({"DATE", "ORIGINALDATE", "RELEASEDATE"})
_ISO_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2}([T ]\d{2}(:\d{2}(:\d{2})?)?)?)?)?", re.ASCII)
_CREDIT = re.compile(r"(?P<name>.+?) \((?P<role>[^()]*)\)")
_UNKNOWN_LANGUAGE = "XXX"
_COMMENT_LANGUAGE = "eng"  # what most readers ask for, whatever language the comment is in


def write(raw: Raw, pictures: tuple[Picture, ...], tags: id3.ID3Tags) -> list[Loss]:
    """Put canonical keys and pictures into empty ID3v2.4 tags; returns what the format could not hold."""
    losses: list[Loss] = []
    people: list[list[str]] = []
    pending = dict(raw)
    language = _language(pending)
    for frame, keys in _PAIRS.items():
        _write_pair(frame, [pending.pop(key, []) for key in keys], keys, tags)
    for key, values in pending.items():
        entry = BY_KEY.get(key)
        target = entry.id3 if entry else ""
        if key in _DATES:
            _write_date(key, target, values, tags)
        elif target.startswith("TIPL:"):
            people += [[target.partition(":")[2], value] for value in values]
        elif key == "PERFORMER":
            tags.add(id3.TMCL(encoding=_UTF8, people=[_split_credit(value) for value in values]))
        else:
            losses += _write_frame(key, target, values, language, tags)
    if people:
        tags.add(id3.TIPL(encoding=_UTF8, people=people))
    return losses + _write_pictures(pictures, tags)


def _language(pending: Raw) -> str:
    """The language of the lyrics, which ID3 keeps in the frame; XXX is the format's word for unknown."""
    values = pending.get("LYRICSLANGUAGE", [])
    if len(values) == 1 and re.fullmatch("[A-Za-z]{3}", values[0]) and "LYRICS" in pending:
        del pending["LYRICSLANGUAGE"]
        return values[0].lower()
    return _UNKNOWN_LANGUAGE


def _write_pair(frame: str, values: list[list[str]], keys: tuple[str, str], tags: id3.ID3Tags) -> None:
    """`3/12`; what does not fit the pattern goes to user text frames under its own name."""
    (numbers, totals), (number_key, total_key) = values, keys
    number, total = (found[0] if found else "" for found in (numbers, totals))
    if number and not number.isdigit():
        # Text such as "A1" is common for vinyl: players show TRCK as it is.
        total, totals = "", ["", *totals]
    if number or total:
        text = f"{number}/{total}" if total else number
        tags.add(id3.Frames[frame](encoding=_UTF8, text=[text]))
    for key, rest in ((number_key, numbers[1:]), (total_key, totals[1:])):
        if rest:
            tags.add(id3.TXXX(encoding=_UTF8, desc=key, text=rest))


def _write_date(key: str, frame: str, values: list[str], tags: id3.ID3Tags) -> None:
    good = [value for value in values if _ISO_DATE.fullmatch(value)]
    other = [value for value in values if value not in good]
    if good:
        tags.add(id3.Frames[frame](encoding=_UTF8, text=good))
    elif other and (stamp := timestamp(other[0])):  # players show no year but this frame's
        tags.add(id3.Frames[frame](encoding=_UTF8, text=[stamp]))
    if other:  # ID3 timestamps hold nothing else
        tags.add(id3.TXXX(encoding=_UTF8, desc=key, text=other))


def _split_credit(value: str) -> list[str]:
    match = _CREDIT.fullmatch(value)
    return [match["role"], match["name"]] if match else ["", value]


def _write_frame(key: str, target: str, values: list[str], language: str, tags: id3.ID3Tags) -> list[Loss]:
    base, _, description = key.partition(":")
    match base:
        case "COMMENT":
            _write_described(id3.COMM, description, values, _COMMENT_LANGUAGE, tags)
        case "LYRICS":
            _write_described(id3.USLT, description, values, language, tags)
        case "SYNCEDLYRICS":
            return _write_synced(values, language, tags)
        case "RATING" if len(values) == 1 and values[0].isdigit() and int(values[0]) <= _MAX_RATING:
            tags.add(id3.POPM(email=description.lower(), rating=int(values[0]), count=0))
        case "UFID" | "MUSICBRAINZ_TRACKID":
            owner = description.lower() if base == "UFID" else UFID_OWNER
            tags.add(id3.UFID(owner=owner, data=values[0].encode()))
            return [Loss(key, "ID3 holds one identifier an owner", value) for value in values[1:]]
        case _:
            _write_text(key, target, values, tags)
    return []


def _write_text(key: str, target: str, values: list[str], tags: id3.ID3Tags) -> None:
    if target.startswith("W"):
        tags.add(id3.Frames[target](url=values[0]))
        if values[1:]:
            tags.add(id3.TXXX(encoding=_UTF8, desc=key, text=values[1:]))
    elif re.fullmatch(r"[TM][A-Z0-9]{3}", target):
        tags.add(id3.Frames[target](encoding=_UTF8, text=values))
    elif _is_text_frame(key):
        tags.add(id3.Frames[key](encoding=_UTF8, text=values))
    else:
        tags.add(id3.TXXX(encoding=_UTF8, desc=target.partition(":")[2] or key, text=values))


def _is_text_frame(key: str) -> bool:
    """Whether an extra key is a text frame without a field of ours, read from ID3 as it is."""
    frame = id3.Frames.get(key)
    special = (id3.TXXX, id3.TimeStampTextFrame, id3.NumericTextFrame, id3.NumericPartTextFrame, id3.PairedTextFrame)
    return frame is not None and issubclass(frame, id3.TextFrame) and not issubclass(frame, special)


def _write_described(frame: Any, description: str, values: list[str], language: str, tags: id3.ID3Tags) -> None:
    """One frame a value, described "", "2", "3": readers do not agree on several values in one COMM or USLT."""
    for number, value in enumerate(values, start=1):
        own = description if number == 1 else f"{description}{number}"
        text: Any = [value] if frame is id3.COMM else value
        tags.add(frame(encoding=_UTF8, lang=language, desc=own, text=text))


def _write_synced(values: list[str], language: str, tags: id3.ID3Tags) -> list[Loss]:
    losses = []
    for number, value in enumerate(values):
        lines = parse_lrc(value)
        if lines:
            description = str(number + 1) if number else ""
            text = [(line.text, line.time_ms) for line in lines]
            tags.add(
                id3.SYLT(encoding=_UTF8, lang=language, format=MILLISECONDS, type=LYRICS, desc=description, text=text)
            )
        else:
            losses.append(Loss("SYNCEDLYRICS", "ID3 holds timed lines only", value))
    return losses


def _write_pictures(pictures: tuple[Picture, ...], tags: id3.ID3Tags) -> list[Loss]:
    losses = []
    for picture in pictures:
        if picture.mime not in {images.JPEG, images.PNG}:
            losses.append(Loss("PICTURE", f"players read JPEG and PNG in ID3, not {picture.mime}", picture.type.name))
            continue
        # The format allows one frame a description, and one of each icon type.
        description = picture.description
        while f"APIC:{description}" in tags:
            description += " "
        tags.add(
            id3.APIC(
                encoding=_UTF8, mime=picture.mime, type=int(picture.type), desc=description, data=picture.content()
            )
        )
    return losses
