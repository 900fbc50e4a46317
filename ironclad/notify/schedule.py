"""When: quiet hours, digests, rates, delays. Pure; times are aware datetimes, lengths are seconds."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo


def quiet_until(now: datetime, hours: str, zone: tzinfo | None) -> datetime | None:
    """The end of the quiet hours (`22:00-07:00`, local time) that `now` is in; None if it is in none."""
    if not hours:
        return None
    begin, end = (time.fromisoformat(part) for part in hours.split("-"))
    local = now.astimezone(zone)
    clock = local.time()
    over_midnight = begin > end
    inside = clock >= begin or clock < end if over_midnight else begin <= clock < end
    if not inside:
        return None
    day = local.date() + timedelta(days=1 if over_midnight and clock >= begin else 0)
    return max(_at(day, end, local), now)


def next_digest(after: datetime, digest: str, at: str, zone: tzinfo | None) -> datetime:
    """The first moment after `after` at which an `hourly` digest (on the hour) or a `daily` one (at `at`) goes out."""
    local = after.astimezone(zone)
    if digest == "hourly":
        return after + timedelta(seconds=3600 - (local.minute * 60 + local.second + local.microsecond / 1e6))
    moment = _at(local.date(), time.fromisoformat(at), local)
    return moment if moment > after else _at(local.date() + timedelta(days=1), time.fromisoformat(at), local)


def _at(day: object, clock: time, like: datetime) -> datetime:
    return datetime.combine(day, clock, tzinfo=like.tzinfo)  # type: ignore[arg-type]  # a date; typed loosely for brevity


def admit(arrival: datetime | None, now: datetime, per_minute: float, burst: int) -> tuple[datetime, float]:
    """One more message by the generic cell rate algorithm (ITU-T I.371, virtual scheduling).

    Args:
        arrival: the theoretical arrival time kept so far.
        now: the moment.
        per_minute: the rate.
        burst: how many may come at once.

    Returns the new theoretical arrival time and 0.0, or the old one and the seconds to wait.
    """
    step = timedelta(seconds=60.0 / per_minute)
    expected = max(arrival or now, now)
    early = expected - now - step * (burst - 1)
    if early > timedelta(0):
        return arrival or now, early.total_seconds()
    return expected + step, 0.0


def backoff(failures: int, base: float, longest: float, uniform: Callable[[float, float], float]) -> float:
    """Seconds until the next attempt after so many failures: exponential, with half of it random.

    "Equal jitter" (Brooker, Exponential Backoff and Jitter, 2015): many messages that failed together come back apart,
    and none comes back at once.
    """
    ceiling = min(longest, base * 2.0 ** min(failures - 1, 40))
    return ceiling / 2 + uniform(0.0, ceiling / 2)
