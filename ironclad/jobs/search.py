"""The filter language of job lists: `state:failed user:ana engine:demucs "kind of blue" since:2d -error:E_DUPLICATE`.

A term is `field:value`, or words to find in title, artist, album or path. `-` before a term excludes what it matches,
quotes keep spaces together, a comma separates alternatives (`state:failed,quarantined`). All terms must hold.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ironclad.errors import BadRequest, ErrorKind
from ironclad.jobs.pipeline import STAGES
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIELDS: Final = {
    "state": "received, queued, running, waiting_retry, succeeded, failed, cancelled, skipped, quarantined",
    "user": "whose file it is",
    "engine": "the separation engine",
    "error": "an error code (E_NOT_AUDIO), or a kind of error (input, engine, resource …)",
    "stage": "the stage it is in, or stopped in",
    "pool": "the pool that it waits for or runs on",
    "title": "part of the title",
    "artist": "part of the artist",
    "album": "part of the album",
    "held": "yes or no",
    "since": "received since then: 15m, 2h, 3d, or a date",
    "until": "received before then",
    "id": "the end or the beginning of the job's id",
}
"""Every field with what it means, for help and completion."""

TEXT: Final = "text"
"""The field of a term without one."""
_LIMIT: Final = 500  # characters of a filter
_AGE: Final = re.compile(r"(\d{1,6})\s*([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_ID: Final = re.compile(r"[0-9a-f-]{4,36}")
_YES: Final[Mapping[str, bool]] = {"yes": True, "no": False}
_WORDS: Final[Mapping[str, Sequence[str]]] = {
    "state": [state.value for state in JobState], "stage": STAGES, "held": tuple(_YES),
}  # fmt: skip


class FilterError(BadRequest):
    """The filter cannot be understood."""

    def __init__(self, detail: str, position: int) -> None:
        super().__init__(detail, position=position)
        self.position = position
        """Where in the text, counted from 0."""

    def pointer(self) -> str:
        """A line that points at the position, to be shown under the filter."""
        return " " * self.position + "^"


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: any of `values` in `field`; `negated` excludes those that match."""

    field: str
    values: tuple[str | bool | datetime, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was understood; empty lists everything."""

    terms: tuple[Term, ...] = ()
    text: str = ""
    """As it was written."""


@dataclass(frozen=True, slots=True)
class _Word:
    position: int
    negated: bool
    field: str | None
    value: str
    value_position: int


def moment(text: str, now: datetime | None = None) -> datetime:
    """`90s`, `15m`, `2h`, `3d`, `1w` before now, or an ISO date or time (UTC if bare). Raises ValueError."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is not None:
        return (now or datetime.now(UTC)) - timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    at = datetime.fromisoformat(text.strip())
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def parse(text: str, now: datetime | None = None) -> Filter:
    """Understand a filter. Raises `FilterError` with the position of what is wrong."""
    if len(text) > _LIMIT:
        raise FilterError(f"The filter is longer than {_LIMIT} characters.", _LIMIT)
    return Filter(tuple(_term(word, now) for word in _words(text)), text.strip())


def _words(text: str) -> list[_Word]:
    """Split at spaces outside of quotes; a field is letters before the first colon outside of quotes."""
    words: list[_Word] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        begin = position
        negated = text[position] == "-"
        position += negated
        field = re.match(r"([A-Za-z_]+):(?!//)", text[position:])
        if field is not None:
            position += field.end()
        value_position = position
        value, position = _value(text, position)
        if not value:
            what = f"{field[1]}: needs a value" if field else "an empty term"
            raise FilterError(f"{what} at position {begin + 1}.", begin)
        words.append(_Word(begin, negated, field[1].lower() if field else None, value, value_position))
    return words


def _value(text: str, position: int) -> tuple[str, int]:
    """A value up to the next space outside of quotes, without the quotes, and where it ends."""
    parts: list[str] = []
    while position < len(text) and not text[position].isspace():
        if text[position] == '"':
            end = text.find('"', position + 1)
            if end < 0:
                raise FilterError(f"The quote at position {position + 1} is not closed.", position)
            parts.append(text[position + 1 : end])
            position = end + 1
        else:
            parts.append(text[position])
            position += 1
    return "".join(parts), position


def _term(word: _Word, now: datetime | None) -> Term:
    if word.field is None:
        return Term(TEXT, (word.value,), word.negated)
    if word.field not in FIELDS:
        close = difflib.get_close_matches(word.field, FIELDS, n=1)
        hint = f" Did you mean {close[0]}?" if close else f" There is {', '.join(FIELDS)}."
        raise FilterError(f"There is no field {word.field} (position {word.position + 1}).{hint}", word.position)
    values = tuple(part for part in word.value.split(",") if part)
    if word.field in {"title", "artist", "album"}:
        values = (word.value,)  # commas belong to names
    if not values:
        raise FilterError(f"{word.field}: needs a value at position {word.value_position + 1}.", word.value_position)
    return Term(word.field, tuple(_checked(word, value, now) for value in values), word.negated)


def _checked(word: _Word, value: str, now: datetime | None) -> str | bool | datetime:
    at = word.value_position
    if word.field is not None and word.field in _WORDS:
        known = _one_of(value.lower(), list(_WORDS[word.field]), word.field, at)
        return _YES.get(known, known)
    if word.field in {"since", "until"}:
        try:
            return moment(value, now)
        except (ValueError, OverflowError):
            raise FilterError(
                f"{value!r} at position {at + 1} is no time; write 15m, 2h, 3d, or a date like 2026-01-31.", at
            ) from None
    if word.field == "id" and not _ID.fullmatch(value.lower()):
        raise FilterError(f"{value!r} at position {at + 1} is no part of a job id (4 digits at least).", at)
    if word.field == "error":
        kinds = {kind.value for kind in ErrorKind}
        return value.lower() if value.lower() in kinds else value.upper()
    return value.lower() if word.field == "id" else value


def _one_of(value: str, known: list[str], what: str, position: int) -> str:
    if value in known:
        return value
    close = difflib.get_close_matches(value, known, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"There is {', '.join(known)}."
    raise FilterError(f"There is no {what} {value!r} (position {position + 1}). {hint}", position)
