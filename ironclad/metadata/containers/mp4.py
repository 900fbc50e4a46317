"""MP4 atoms (M4A with AAC or ALAC): iTunes' own atoms where there is one, else free-form `com.apple.iTunes` atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mutagen.mp4 import AtomDataType, MP4Cover, MP4FreeForm

from ironclad.metadata import images
from ironclad.metadata.fields import BY_KEY, FIELDS
from ironclad.metadata.model import PictureType
from ironclad.metadata.report import Loss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.metadata.collect import Collector
    from ironclad.metadata.fields import Raw
    from ironclad.metadata.model import Picture

_FREE = "----:com.apple.iTunes:"
_PAIRS = {"trkn": ("TRACKNUMBER", "TRACKTOTAL"), "disk": ("DISCNUMBER", "DISCTOTAL")}
_PAIRED = frozenset(key for keys in _PAIRS.values() for key in keys)
_INTEGERS = frozenset({"tmpo", "©mvi", "©mvc"})
_FLAGS = frozenset({"cpil"})
_MAX_INTEGER = 0xFFFF
_OWN_INTEGERS = frozenset({"stik", "hdvd", "rtng", "shwm"})
_OWN_FLAGS = frozenset({"pgap", "pcst"})
"""Atoms that mean something to players of MP4 only: under their names in upper case elsewhere, and atoms again here."""
_MAX_BYTE = 0xFF
_STORE = frozenset({"apID", "akID", "cnID", "atID", "plID", "geID", "sfID", "cmID", "purd", "ownr", "xid ", "©too"})
"""The store's record of who bought which copy, and the encoder: neither is about the music."""

_ATOM_KEYS = {entry.mp4: entry.key for entry in FIELDS if len(entry.mp4) == 4 and entry.mp4 not in _PAIRS}  # noqa: PLR2004 -- an atom's name
_FREE_KEYS = {entry.mp4.upper(): entry.key for entry in FIELDS if len(entry.mp4) > 4}  # noqa: PLR2004 -- likewise
_COVER_MIMES = {images.JPEG: MP4Cover.FORMAT_JPEG, images.PNG: MP4Cover.FORMAT_PNG}


def read(tags: Mapping[str, Any], into: Collector) -> None:
    """Hand every atom to the collector."""
    exact = {_free_key(atom) for atom in tags if atom.startswith(_FREE)}
    for atom, values in tags.items():
        if atom in _INTEGERS and _ATOM_KEYS[atom] in exact:
            continue  # a number rounded for iTunes; the exact one is there too
        if atom.startswith("----"):
            _read_free(atom, values, into)
        elif atom == "covr":
            _read_covers(values, into)
        elif atom in _PAIRS:
            _read_pairs(_PAIRS[atom], values, into)
        elif atom in _STORE:
            into.problem("technical", atom.strip(), "describes the source's own stream or purchase")
        else:
            _read_plain(atom, values, into)


def _read_covers(covers: list[Any], into: Collector) -> None:
    for cover in covers:
        into.add_picture(PictureType.FRONT_COVER, "", "", bytes(cover))


def _read_pairs(keys: tuple[str, str], pairs: list[tuple[int, int]], into: Collector) -> None:
    for pair in pairs:
        for key, number in zip(keys, pair, strict=True):
            if number:  # 0 means absent
                into.add(key, str(number))


def _read_plain(atom: str, values: Any, into: Collector) -> None:
    key = _ATOM_KEYS.get(atom, atom)
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, str):
            into.add(key, value)
        elif isinstance(value, bool | int):
            into.add(key, str(int(value)))
        else:
            into.problem("not-carried", atom, "a binary atom without a place in other formats")


def _free_key(atom: str) -> str:
    _, mean, name = atom.split(":", 2)
    if mean.lower() not in {"com.apple.itunes", "org.musicbrainz"}:
        return f"{mean}:{name}"
    return _FREE_KEYS.get(name.upper(), name)


def _read_free(atom: str, values: list[Any], into: Collector) -> None:
    key = _free_key(atom)
    for value in values:
        encoding = "utf-16-be" if getattr(value, "dataformat", 1) == AtomDataType.UTF16 else "utf-8"
        try:
            into.add(key, bytes(value).decode(encoding))
        except UnicodeDecodeError:
            into.problem("not-carried", key, "a binary atom without a place in other formats")


def write(raw: Raw, pictures: tuple[Picture, ...], tags: Any) -> list[Loss]:
    """Put canonical keys and pictures into empty MP4 tags; returns what the format could not hold."""
    free: dict[str, list[str]] = {}
    for atom, keys in _PAIRS.items():
        _write_pair(atom, keys, raw, tags, free)
    for key, values in raw.items():
        entry = BY_KEY.get(key)
        atom = entry.mp4 if entry else ""
        if key in _PAIRED:
            continue
        if atom in _INTEGERS:
            _write_integer(atom, key, values, tags, free)
        elif atom in _FLAGS and values == ["1"]:
            tags[atom] = True
        elif atom in _ATOM_KEYS and atom not in _FLAGS:
            tags[atom] = values
        elif key.lower() in _OWN_FLAGS and values == ["1"]:
            tags[key.lower()] = True
        elif key.lower() in _OWN_INTEGERS and all(_is_byte(value) for value in values):
            tags[key.lower()] = [int(value) for value in values]
        else:
            free[atom if len(atom) > 4 else key] = values  # noqa: PLR2004 -- longer than an atom's name
    for name, values in sorted(free.items()):
        tags[_FREE + name] = [MP4FreeForm(value.encode(), AtomDataType.UTF8) for value in values]
    return _write_covers(pictures, tags)


def _write_pair(atom: str, keys: tuple[str, str], raw: Raw, tags: Any, free: Raw) -> None:
    """Two 16-bit numbers, 0 meaning absent; anything else goes to a free-form atom of the same name."""
    numbers = []
    for key in keys:
        values = raw.get(key, [])
        fits = bool(values) and values[0].isdigit() and 0 < int(values[0]) <= _MAX_INTEGER
        numbers.append(int(values[0]) if fits else 0)
        if rest := values[1:] if fits else values:
            free[key] = rest
    if any(numbers):
        tags[atom] = [tuple(numbers)]


def _write_integer(atom: str, key: str, values: list[str], tags: Any, free: Raw) -> None:
    number = _rounded(values[0])
    if number is not None:
        tags[atom] = [number]
    if values != [str(number)]:
        free[key] = values


def _is_byte(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text and int(text) <= _MAX_BYTE


def _rounded(text: str) -> int | None:
    """The 16-bit whole number nearest to a text, for readers that know no other; None if it is no number."""
    try:
        number = round(float(text))
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= _MAX_INTEGER else None


def _write_covers(pictures: tuple[Picture, ...], tags: Any) -> list[Loss]:
    """Front covers; if there is none, the first picture, because players show any `covr` as the cover."""
    losses = []
    covers = [picture for picture in pictures if picture.type == PictureType.FRONT_COVER]
    for picture in pictures:
        if picture not in covers and (covers or picture is not pictures[0]):
            losses.append(Loss("PICTURE", "MP4 holds front covers only", picture.type.name))
        elif picture.mime not in _COVER_MIMES:
            losses.append(Loss("PICTURE", f"MP4 covers are JPEG or PNG, not {picture.mime}", picture.type.name))
        else:
            if picture not in covers:
                losses.append(Loss("PICTURE", "kept as the cover: MP4 has no other type", picture.type.name))
            if picture.description:
                losses.append(Loss("PICTURE", "MP4 pictures have no description", picture.description))
            tags.setdefault("covr", []).append(MP4Cover(picture.content(), _COVER_MIMES[picture.mime]))
    return losses
