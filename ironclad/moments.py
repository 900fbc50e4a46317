"""Moments as people and programs write them: `2h`, `90d`, an ISO date or time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ironclad.errors import BadRequest

_LENGTH: Final = re.compile(r"(\d+)\s*([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_until(text: str, now: datetime | None = None) -> datetime:
    """A moment to come: a length of time from now (`12h`, `90d`), or an ISO date or time (UTC if bare).

    Raises `BadRequest`, also for what is past.
    """
    now = now or datetime.now(UTC)
    match = _LENGTH.fullmatch(text.strip().lower())
    try:
        at = (
            now + timedelta(seconds=int(match[1]) * _UNITS[match[2]])
            if match is not None
            else datetime.fromisoformat(text.strip())
        )
    except (ValueError, OverflowError) as exc:
        raise BadRequest(f"{text!r} is no time; write 12h, 90d, or a date like 2030-01-31.") from exc
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if at <= now:
        raise BadRequest(f"{text!r} is past.")
    return at


def parse_since(text: str, now: datetime | None = None) -> datetime:
    """A moment: a length of time before now (`90s`, `15m`, `2h`, `3d`, `1w`), or an ISO date or time (UTC if bare).

    Raises `BadRequest`.
    """
    match = _LENGTH.fullmatch(text.strip().lower())
    try:
        if match is not None:
            return (now or datetime.now(UTC)) - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        at = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as exc:
        raise BadRequest(f"{text!r} is no time; write 15m, 2h, 3d, or a date like 2026-01-31.") from exc
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
