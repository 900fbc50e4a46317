"""Dumps of the database: how old the newest is, and whether one was ever restored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ironclad.ops import backup
from ironclad.ops.checks.outcome import fail, ok, warn

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.ops.backup import Manifest
    from ironclad.ops.checks.outcome import Outcome

_GRACE: Final = 1.5
"""A dump is late when it is so much older than `backup.max_age_hours`."""
_DRILL_DAYS: Final = 35
_MAKE: Final = "`ironclad backup` makes one and says what is in the way; the dispatcher does it by itself."
_DRILL: Final = "`ironclad backup verify` restores the newest into a server of its own."


def backups(settings: Settings, now: datetime | None = None) -> list[Outcome]:
    """The newest dump is young enough, and a drill has shown that dumps come back."""
    moment = now or datetime.now(UTC)
    known = [manifest for _, manifest in backup.dumps(settings) if manifest is not None]
    if not known:
        hours = settings.backup.max_age_hours
        if hours:
            return [warn("there is no dump yet", f"One is made within {hours:g} hours; {_MAKE}", about="dump")]
        return [warn("there is no dump, and backup.max_age_hours is 0: none is made", _MAKE, about="dump")]
    return [_age(settings, known[0], moment), _drill(known, moment)]


def _age(settings: Settings, newest: Manifest, moment: datetime) -> Outcome:
    age = moment - newest.created_at
    detail = f"{newest.dump} is {age.total_seconds() / 3600:.0f} h old"
    hours = settings.backup.max_age_hours
    if hours and age > timedelta(hours=hours * _GRACE):
        return warn(f"{detail}, older than {hours:g} h", _MAKE, about="dump")
    return ok(detail, about="dump")


def _drill(known: list[Manifest], moment: datetime) -> Outcome:
    drills = sorted(((one.drill, one.dump) for one in known if one.drill is not None), key=lambda one: one[0].at)
    if not drills:
        return warn("no dump was ever restored", _DRILL, about="drill")
    last, dump = drills[-1]
    if last.problem:
        remedy = "Keep the older dumps, make a new one (`ironclad backup`), then `ironclad backup verify`."
        return fail(f"{dump} did not come back: {last.problem}", remedy, about="drill")
    age = moment - last.at
    detail = f"{dump} came back {age.days} days ago"
    if age > timedelta(days=_DRILL_DAYS):
        return warn(detail, _DRILL, about="drill")
    return ok(detail, about="drill")
