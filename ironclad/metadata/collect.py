"""Gathers what the readers find, within limits: every value cleaned, every refusal recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ironclad.metadata import images, text
from ironclad.metadata.caps import Caps
from ironclad.metadata.fields import MULTILINE, canonical
from ironclad.metadata.model import Picture, PictureType, Problem

if TYPE_CHECKING:
    from ironclad.metadata.fields import Raw

TECHNICAL = frozenset({
    # They describe the source's stream (delay, loudness, encoder, length) or its owner's purchase, not the music; on a
    # file with other samples they would be lies, and the gapless ones would make players cut it.
    "ITUNSMPB", "ITUNNORM", "ITUNPGAP", "ITUNES_CDDB_1", "ITUNES_CDDB_IDS", "ITUNES_CDDB_TRACKNUMBER",
    "ENCODING PARAMS", "CDDB", "ENCODER", "ENCODERSETTINGS", "ENCODER SETTINGS", "ENCODER_OPTIONS",
    "ENCODED_APPLICATION", "WAVEFORMATEXTENSIBLE_CHANNEL_MASK", "LENGTH", "MP3GAIN_MINMAX", "MP3GAIN_UNDO",
    "MP3GAIN_ALBUM_MINMAX", "MAJOR_BRAND", "MINOR_VERSION", "COMPATIBLE_BRANDS", "LAME_PRESET", "TOOL NAME",
    "TOOL VERSION", "ISVBR", "WMFSDKVERSION", "WMFSDKNEEDED", "WM/ENCODINGTIME", "WM/ENCODINGSETTINGS",
    "DEVICECONFORMANCETEMPLATE", "WM/WMADRCPEAKREFERENCE", "WM/WMADRCPEAKTARGET", "WM/WMADRCAVERAGEREFERENCE",
    "WM/WMADRCAVERAGETARGET", "WM/MEDIAPRIMARYCLASSID", "WM/MEDIACLASSPRIMARYID", "WM/MEDIACLASSSECONDARYID",
    "TLEN", "TSIZ", "TSSE", "TDLY", "TDEN", "TDTG", "TFLT",
})  # fmt: skip
"""Tags of the source's own stream: recorded, not carried."""
_MEASURED = ("ACCURATERIP", "CTDB", "DYNAMIC RANGE", "DYNAMIC_RANGE", "ALBUM DYNAMIC RANGE", "ALBUM_DYNAMIC_RANGE")
"""How names begin of what ripping and mastering tools found out about the source's samples: likewise."""

_MAX_KEY = 200
_MAX_PROBLEMS = 200
_MAX_DETAIL = 500


@dataclass(frozen=True, slots=True)
class _Found:
    text: str
    legacy: bool


@dataclass(slots=True)
class Collector:
    """Values, pictures and problems of one file, as its readers hand them in."""

    caps: Caps = field(default_factory=Caps)
    pictures: list[Picture] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _found: dict[str, list[_Found]] = field(default_factory=dict)
    _text_bytes: int = 0
    _values: int = 0
    _picture_bytes: int = 0

    def problem(self, code: str, key: str, detail: str) -> None:
        """Record something that could not be taken."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(Problem(code, key, detail[:_MAX_DETAIL]))

    def add(self, key: str, value: str, *, legacy: bool = False) -> None:
        """Take a value of a canonical key; NUL separates several values. `legacy`: its encoding may be a lie."""
        key = _safe_key(key)
        if not key:
            self.problem("bad-key", "", "a tag without a usable name")
        elif key in TECHNICAL or key.startswith(_MEASURED):
            self.problem("technical", key, "describes the source's own stream or purchase")
        else:
            for part in value.split("\0"):
                if part.strip():
                    self._add_one(key, _Found(part, legacy))

    def _add_one(self, key: str, found: _Found) -> None:
        # A surrogate takes three bytes here, as many as its replacement will.
        size = len(found.text.encode("utf-8", "surrogatepass"))
        if size > self.caps.value_bytes:
            self.problem("value-too-long", key, f"{size} bytes")
        elif self._text_bytes + size > self.caps.text_bytes or self._values >= self.caps.values:
            self.problem("too-many-values", key, "the limit of all values together is reached")
        else:
            self._text_bytes += size
            self._values += 1
            self._found.setdefault(key, []).append(found)

    def has(self, key: str) -> bool:
        """Whether a value of this key was taken already."""
        return key in self._found

    def raw(self) -> Raw:
        """All values, repaired and cleaned. Call once, at the end: it records what it removed."""
        page = text.code_page([found.text for values in self._found.values() for found in values if found.legacy])
        result: Raw = {}
        for key, values in self._found.items():
            for found in values:
                value = text.repair(found.text, page) if page and found.legacy else found.text
                if value != found.text:
                    self.problem("repaired-code-page", key, f"{page}: {value}")
                value, codes = text.clean(value, multiline=key.split(":")[0] in MULTILINE)
                for code in codes:
                    self.problem(code, key, "removed")
                if value:
                    result.setdefault(key, []).append(value)
        return result

    def add_picture(self, kind: int, mime: str, description: str, data: bytes) -> None:
        """Take a picture, told by its own bytes and not by what the tag says about it."""
        info = images.identify(data)
        if info is None:
            self.problem("not-an-image", "PICTURE", f"{len(data)} bytes said to be {mime or 'a picture'}")
        elif max(info.width, info.height) > self.caps.picture_pixels:
            self.problem("picture-too-large", "PICTURE", f"{info.width} x {info.height} pixels")
        elif self._picture_bytes + len(data) > self.caps.picture_bytes:
            self.problem("picture-too-large", "PICTURE", f"{len(data)} bytes")
        elif len(self.pictures) >= self.caps.pictures:
            self.problem("too-many-pictures", "PICTURE", f"more than {self.caps.pictures}")
        else:
            label, codes = text.clean(description)
            for code in codes:
                self.problem(code, "PICTURE", "removed from the description")
            if mime.lower().replace("jpg", "jpeg") not in {info.mime, "", "image/"}:
                self.problem("wrong-mime", "PICTURE", f"said to be {mime[:80]}, is {info.mime}")
            picture = Picture(PictureType.of(kind), info.mime, label[:1000], info.width, info.height, data=data)
            if picture not in self.pictures:
                self._picture_bytes += len(data)
                self.pictures.append(picture)

    def absorb(self, other: Collector) -> None:
        """Take from a second tag of the same file what this one lacks: keys, and pictures if there are none yet."""
        for key, values in other._found.items():
            self._found.setdefault(key, values)
        if not self.pictures:
            self.pictures = other.pictures
        for problem in other.problems:
            self.problem(problem.code, problem.key, problem.detail)


def _safe_key(key: str) -> str:
    """A key that every container can hold: printable ASCII without "=", at most 200 characters; else empty."""
    key = canonical(key)
    if not key.isascii():
        # MP4's atoms begin with a copyright sign; what else is not ASCII has no place in a Vorbis comment's name.
        key = key.replace("©", "(C)").encode("ascii", "replace").decode("ascii")
    return key.replace("=", "-")[:_MAX_KEY] if key.isprintable() else ""
