"""Text for people: what comes from files is made harmless, numbers and times are made short."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from ironclad.moments import parse_since, parse_until

__all__ = ["ago", "counted", "duration", "parse_since", "parse_until", "printable", "short_id", "size"]

# Controls (C0, C1), marks that turn the direction of writing, other line ends, lone surrogates: all of them can make a
# terminal show something else than what is there.
_HARMFUL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HARMFUL_BUT_LINES: Final = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_KILO: Final = 1000.0
_SHORT: Final = 8


def printable(text: object, *, lines: bool = False) -> str:
    """Text that a terminal shows as it is: harmful characters are escaped. `lines` keeps line ends."""
    pattern = _HARMFUL_BUT_LINES if lines else _HARMFUL
    return pattern.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def short_id(job_uuid: object) -> str:
    """The end of a job's id, by which every command finds it (the beginning is a time, alike in jobs of one minute)."""
    return str(job_uuid)[-_SHORT:]


def counted(number: int, noun: str) -> str:
    """A number of things, by a regular noun in the singular: `1 file`, `1,200 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """A length of time: `0.4 s`, `42 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 10:  # noqa: PLR2004 - below, tenths of a second matter
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """How long ago: `now`, `12 s ago`, `3 h ago`; `in 5 s` for what is to come; `-` for never."""
    if at is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    distance = abs(seconds)
    if distance < 1:
        return "now"
    for limit, unit, name in ((_MINUTE, 1, "s"), (_HOUR, _MINUTE, "min"), (_DAY, _HOUR, "h")):
        if distance < limit:
            text = f"{int(distance // unit)} {name}"
            break
    else:
        text = f"{int(distance // _DAY)} d"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def size(count: float) -> str:
    """Bytes with decimal units: `512 B`, `3.4 MB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < _KILO:
            break
        value, unit = value / _KILO, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
