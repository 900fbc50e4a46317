"""What a group tells now: the decision at the heart of the notifier. Pure.

The semantics are Alertmanager's: the first message of a group after `group_wait`, news after `group_interval`, what
lasts again after `repeat_interval`; what was over before it was told is not told; what is muted waits, and is told when
the mute ends if it still fires.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ironclad.jobs.notices import Severity, Status
from ironclad.notify import schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, tzinfo

    from ironclad.notify.model import Event
    from ironclad.notify.routing import Policy

LOOK_AGAIN: Final = 60.0
"""Seconds until what is muted is looked at again."""

OVER: Final = "it was over before it was told"
FEW: Final = "fewer than the threshold"
UNWANTED: Final = "the channel does not want to hear that things are well"


@dataclass(frozen=True, slots=True)
class Pending:
    """An event that waits to be told on a channel, and what that channel heard last of its alert."""

    event: Event
    heard: Status | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a group now."""

    tell: tuple[Event, ...] = ()
    """What the message says; one event an alert, notes one by one."""
    settled: tuple[int, ...] = ()
    """Ids of the events that the message tells of; more than `tell` where an alert changed several times."""
    suppressed: tuple[tuple[int, str], ...] = ()
    """Ids of the events that nobody will hear of, and why."""
    look_at: datetime | None = None
    """When what waits must be looked at again."""


def due(pending: Sequence[Pending], policy: Policy, told_at: datetime | None, zone: tzinfo | None) -> datetime:
    """When a group's waiting events may be told."""
    first = min(one.event.routed_at or one.event.at for one in pending)
    if policy.digest != "off":
        return schedule.next_digest(first, policy.digest, policy.digest_at, zone)
    moment = first + timedelta(seconds=policy.wait)
    return moment if told_at is None else max(moment, told_at + timedelta(seconds=policy.interval))


def ripe(
    pending: Sequence[Pending], policy: Policy, now: datetime, zone: tzinfo | None
) -> tuple[list[Pending], datetime | None]:
    """The events of a digest whose time has come, and when that of the next comes.

    What is muted or held back since an earlier digest makes its group due all the time: what came about since must
    wait for its own digest nevertheless. All changes of an alert go together, with the oldest of them.
    """
    times: dict[str, datetime] = {}
    for one in pending:
        moment = schedule.next_digest(one.event.routed_at or one.event.at, policy.digest, policy.digest_at, zone)
        times[one.event.alert] = min(moment, times.get(one.event.alert, moment))
    later = min((moment for moment in times.values() if moment > now), default=None)
    return [one for one in pending if times[one.event.alert] <= now], later


def decide(
    pending: Sequence[Pending], policy: Policy, now: datetime, *, muted: Callable[[Event], str | None],
    quiet_until: datetime | None = None, wants_resolved: bool = True, recently: int = 0,
) -> Decision:  # fmt: skip
    """What to tell of the waiting events of a group whose time has come.

    Args:
        pending: the events, oldest first.
        policy: the route's rules.
        now: the moment.
        muted: why an event is not told now (silence, inhibition), or None.
        quiet_until: the end of the channel's quiet hours, if it is in them: only critical events are told.
        wants_resolved: whether the channel hears that things are well again.
        recently: events of the group told within the threshold's window.
    """
    builder = _Builder(now, muted, quiet_until, wants_resolved=wants_resolved)
    by_alert: dict[str, list[Pending]] = defaultdict(list)
    for one in pending:
        if one.event.status is Status.NOTE:
            builder.note(one.event)
        else:
            by_alert[one.event.alert].append(one)
    for changes in by_alert.values():
        builder.alert(changes)
    return _thresholded(builder, policy, recently)


class _Builder:
    def __init__(
        self, now: datetime, muted: Callable[[Event], str | None], quiet_until: datetime | None, *,
        wants_resolved: bool,
    ) -> None:  # fmt: skip
        self.now = now
        self._muted = muted
        self._quiet_until = quiet_until
        self._wants_resolved = wants_resolved
        self.tell: list[tuple[Event, list[int]]] = []
        self.suppressed: list[tuple[int, str]] = []
        self.look_at: datetime | None = None

    def note(self, event: Event) -> None:
        reason = self._muted(event)
        if reason is not None:
            self.suppressed.append((event.id, reason))
        elif not self._held_by_quiet(event):
            self.tell.append((event, [event.id]))

    def alert(self, changes: list[Pending]) -> None:
        last = changes[-1]
        ids = [one.event.id for one in changes]
        if last.event.status is Status.RESOLVED:
            if last.heard is not Status.FIRING:
                self.suppressed += [(one, OVER) for one in ids]
            elif not self._wants_resolved:
                self.suppressed += [(one, UNWANTED) for one in ids]
            elif not self._held_by_quiet(last.event):
                self.tell.append((last.event, ids))
        elif self._muted(last.event) is not None:
            self.wait_until(self.now + timedelta(seconds=LOOK_AGAIN))
        elif not self._held_by_quiet(last.event):
            self.tell.append((last.event, ids))

    def _held_by_quiet(self, event: Event) -> bool:
        if self._quiet_until is None or event.severity is Severity.CRITICAL:
            return False
        self.wait_until(self._quiet_until)
        return True

    def wait_until(self, moment: datetime) -> None:
        self.look_at = moment if self.look_at is None else min(self.look_at, moment)


def _thresholded(builder: _Builder, policy: Policy, recently: int) -> Decision:
    """Hold failures back until there are enough of them in the window; what grew too old without is suppressed."""
    tell = builder.tell
    counted = [one for one in tell if one[0].status is not Status.RESOLVED]
    begin = builder.now - timedelta(seconds=policy.window)
    fresh = [one for one in counted if one[0].at > begin]
    if policy.threshold > 1 and counted and len(fresh) + recently < policy.threshold:
        stale = [one for one in counted if one[0].at <= begin]
        builder.suppressed += [(number, FEW) for _, ids in stale for number in ids]
        if fresh:
            builder.wait_until(min(event.at for event, _ in fresh) + timedelta(seconds=policy.window))
        tell = [one for one in tell if one[0].status is Status.RESOLVED]
    settled = tuple(number for _, ids in tell for number in ids)
    return Decision(tuple(event for event, _ in tell), settled, tuple(builder.suppressed), builder.look_at)


def repeat_at(told_at: datetime | None, policy: Policy, *, lasting: bool) -> datetime | None:
    """When a group's lasting, unacknowledged alerts are told again."""
    if not lasting or told_at is None:
        return None
    return told_at + timedelta(seconds=policy.repeat)
