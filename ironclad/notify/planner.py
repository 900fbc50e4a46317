"""Planning: routes what is new, and makes the messages of the groups whose time has come. One transaction a step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ironclad import log
from ironclad.jobs import control, notices
from ironclad.jobs.notices import Severity
from ironclad.notify import grouping, lookout, router, schedule, store
from ironclad.notify.grouping import Pending
from ironclad.notify.routing import ESCALATED, Router
from ironclad.notify.wording import compose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlmodel import Session

    from ironclad.db.session import Database
    from ironclad.notify.model import Event
    from ironclad.notify.muting import Muting
    from ironclad.notify.routing import Policy
    from ironclad.sections import NotifySettings

_GROUPS: Final = 500
_PRUNE_SECONDS: Final = 3600.0
_OLD_NOTICES: Final = (
    "DELETE FROM notice x WHERE x.at < :before AND x.routed_at IS NOT NULL "
    "AND NOT EXISTS (SELECT FROM notification n WHERE n.notice_id = x.id AND n.state = 'pending') "
    "AND NOT EXISTS (SELECT FROM alert a WHERE a.key = x.alert AND a.status = 'firing')"
)
_OLD_GROUPS: Final = (
    "DELETE FROM notify_group g WHERE next_at IS NULL AND coalesce(told_at, :before) <= :before AND NOT EXISTS "
    "(SELECT FROM notification n WHERE n.channel = g.channel AND n.group_key = g.group_key)"
)


@dataclass(slots=True)
class Step:
    """What one step did."""

    routed: int = 0
    messages: int = 0
    escalated: int = 0
    suppressed: Counter[str] = field(default_factory=Counter)
    """How many events, by the class of the reason."""

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.routed or self.messages or self.escalated or self.suppressed)


class Planner:
    """Turns the outbox into messages.

    Args:
        database: where the outbox is.
        settings: channels, routes and rules.
        clock: the moment, asked for in each transaction.
    """

    def __init__(
        self, database: Database, settings: NotifySettings, *,
        clock: Callable[[Session], datetime] = store.database_now,
    ) -> None:  # fmt: skip
        self._database = database
        self._settings = settings
        self._clock = clock
        self._router = Router(settings)
        self._channels = frozenset(settings.channels)
        self._zone = ZoneInfo(settings.timezone) if settings.timezone else None
        self._began: datetime | None = None
        self._pruned: datetime | None = None

    def begin(self) -> None:
        """Say what is asked for, bring back what waits for channels that are gone, and pass over old news, once.

        The first time that there is a channel at all, what had failed long before is not told as if it were news.
        """
        with self._database.session() as session:
            now = self._clock(session)
            if self._channels and not control.switch(session, notices.SWITCH).get("began"):
                session.execute(
                    sa.text("UPDATE notice SET routed_at = :now WHERE routed_at IS NULL AND at < :old"),
                    {"now": now, "old": now - timedelta(hours=1)},
                )
            switch = {"succeeded": self._settings.succeeded and bool(self._channels), "began": bool(self._channels)}
            control.set_switch(session, notices.SWITCH, switch)
            back = router.adopt(session, self._channels, now)
        if back:
            log.get(component="notify").warning("routed_anew", events=back)

    def step(self) -> Step:
        """One round. Raises `DatabaseUnavailable`."""
        step = Step()
        with self._database.session() as session:
            if not store.lead(session):
                return step
            now = self._clock(session)
            self._began = self._began or now
            if self._channels:
                lookout.look(session, now, self._settings.silent_seconds, since=self._began)
            step.routed = router.route(session, self._router, self._channels, now)
            groups = session.execute(
                sa.text(
                    "SELECT channel, group_key, route, told_at FROM notify_group WHERE next_at <= :now "
                    "ORDER BY next_at LIMIT :most FOR UPDATE SKIP LOCKED"
                ),
                {"now": now, "most": _GROUPS},
            ).all()
            if groups:
                muting = store.muting(session, self._settings, now)
                common = _Round(session, self._settings, self._router, self._zone, muting, now, step)
                for group in groups:
                    if group.channel in self._channels:
                        _Group(common, group).look()
            if self._pruned is None or (now - self._pruned).total_seconds() >= _PRUNE_SECONDS:
                self._pruned = now
                _prune(session, now - timedelta(days=self._settings.keep_days))
        return step


@dataclass(frozen=True, slots=True)
class _Round:
    """What all groups of one step have in common."""

    session: Session
    settings: NotifySettings
    routes: Router
    zone: ZoneInfo | None
    muting: Muting
    now: datetime
    step: Step


class _Group:
    """One look at one group."""

    def __init__(self, common: _Round, row: Any) -> None:
        self._session = common.session
        self._channel = common.settings.channels[row.channel]
        self._routes = common.routes
        self._zone = common.zone
        self._muting = common.muting
        self._now = common.now
        self._step = common.step
        self._row = row
        self._policy: Policy = common.routes.policy(row.route)
        self._told_at: datetime | None = row.told_at
        self._looks: list[datetime] = []

    def look(self) -> None:
        """Tell what is to be told, and note when to look again."""
        waiting = store.pending(self._session, self._row.channel, self._row.group_key)
        if waiting:
            self._news(waiting)
        lasting = [] if self._policy.digest != "off" else self._lasting()
        self._repeat(lasting)
        if self._policy.escalate_to:
            self._escalate()
        self._session.execute(
            sa.text(
                "UPDATE notify_group SET next_at = :next, told_at = :told "
                "WHERE channel = :channel AND group_key = :group"
            ),
            {
                "next": min(self._looks, default=None), "told": self._told_at,
                "channel": self._row.channel, "group": self._row.group_key,
            },
        )  # fmt: skip

    def _news(self, waiting: Sequence[Event]) -> None:
        heard = store.heard(self._session, self._row.channel, list({event.alert for event in waiting}))
        pending = [Pending(event, heard.get(event.alert)) for event in waiting]
        due = grouping.due(pending, self._policy, self._told_at, self._zone)
        if due > self._now:
            self._looks.append(due)
            return
        if self._policy.digest != "off":
            pending, later = grouping.ripe(pending, self._policy, self._now, self._zone)
            self._looks += [later] if later is not None else []
        recently = 0
        if self._policy.threshold > 1:
            begin = self._now - timedelta(seconds=self._policy.window)
            recently = store.told_since(self._session, self._row.channel, self._row.group_key, begin)
        decision = grouping.decide(
            pending, self._policy, self._now, muted=self._muting.reason, quiet_until=self._quiet_until(),
            wants_resolved=self._channel.resolved, recently=recently,
        )  # fmt: skip
        if decision.suppressed:
            store.suppress(self._session, self._row.channel, decision.suppressed)
            self._step.suppressed.update(reason_class(reason) for _, reason in decision.suppressed)
        if len(waiting) >= store.MOST and (decision.tell or decision.suppressed):
            self._looks.append(self._now)  # there are more than could be looked at
        if decision.look_at is not None:
            self._looks.append(decision.look_at)
        if decision.tell:
            again = {event.alert for event in decision.tell}
            lasting = [event for event in self._lasting() if event.alert not in again]
            number = self._send([*decision.tell, *lasting])
            store.settle(self._session, self._row.channel, decision.settled, message=number)

    def _quiet_until(self) -> datetime | None:
        return schedule.quiet_until(self._now, self._channel.quiet_hours, self._zone)

    def _lasting(self) -> list[Event]:
        """What was told, lasts and is neither acknowledged nor muted; in quiet hours, what is critical of it."""
        quiet = self._quiet_until() is not None
        events = store.still_firing(self._session, self._row.channel, self._row.group_key)
        return [
            event for event in events
            if self._muting.reason(event) is None and (not quiet or event.severity is Severity.CRITICAL)
        ]  # fmt: skip

    def _repeat(self, lasting: Sequence[Event]) -> None:
        at = grouping.repeat_at(self._told_at, self._policy, lasting=bool(lasting))
        if at is not None and at <= self._now:
            self._send(lasting, repeat=True)
            at = grouping.repeat_at(self._told_at, self._policy, lasting=True)
        elif at is None and self._told_at is not None and self._policy.digest == "off":
            at = self._muted_for_now()
        if at is not None:
            self._looks.append(at)

    def _muted_for_now(self) -> datetime | None:
        """When to look again at what is muted or waits for the end of quiet hours, but fires."""
        if store.still_firing(self._session, self._row.channel, self._row.group_key):
            return self._now + timedelta(seconds=self._policy.repeat)
        return None

    def _send(self, events: Sequence[Event], *, repeat: bool = False) -> Any:
        composed = compose(events, repeat=repeat, escalated=self._row.route == ESCALATED)
        self._told_at = self._now
        self._step.messages += 1
        return store.enqueue(self._session, (self._row.channel, self._row.group_key), composed, events, self._now)

    def _escalate(self) -> None:
        """Tell further channels of what nobody acknowledged for long enough."""
        rows = self._session.execute(
            sa.text(
                "SELECT x.id, x.at, x.kind, x.alert, x.status, x.severity, x.labels, x.data, x.routed_at, m.made_at "
                "FROM notification n JOIN message m USING (message_uuid) JOIN notice x ON x.id = n.notice_id "
                "JOIN alert a ON a.key = n.alert AND a.firing_id = n.notice_id "
                "WHERE n.channel = :channel AND n.group_key = :group AND n.state = 'told' AND a.status = 'firing' "
                "AND a.acked_at IS NULL AND EXISTS (SELECT FROM unnest(CAST(:further AS varchar[])) AS c (name) "
                "WHERE NOT EXISTS (SELECT FROM notification e WHERE e.notice_id = n.notice_id AND e.channel = c.name))"
            ),
            {
                "channel": self._row.channel, "group": self._row.group_key,
                "further": list(self._policy.escalate_to),
            },
        ).all()  # fmt: skip
        found = []
        for row in rows:
            due = row.made_at + timedelta(seconds=self._policy.escalate)
            if due > self._now:
                self._looks.append(due)
                continue
            event = store.event_of(row)
            found += [
                (event.id, event.alert, self._routes.target(event, channel, ESCALATED))
                for channel in self._policy.escalate_to
            ]
        self._step.escalated += len(found)
        router.place(self._session, found, self._now)


def reason_class(reason: str) -> str:
    """The bounded word for a reason, for metrics."""
    if reason.startswith("silence"):
        return "silenced"
    if reason.startswith("inhibited"):
        return "inhibited"
    return {grouping.OVER: "over", grouping.FEW: "threshold", grouping.UNWANTED: "unwanted"}.get(reason, "other")


def _prune(session: Session, before: datetime) -> None:
    """Forget what was told, or ended, long ago; dead letters and what fires stay."""
    for statement in (
        "DELETE FROM message WHERE state IN ('sent', 'dropped') AND settled_at < :before",
        _OLD_NOTICES,
        "DELETE FROM alert WHERE status = 'resolved' AND changed_at < :before",
        _OLD_GROUPS,
        "DELETE FROM silence WHERE ends_at < :before",
    ):
        session.execute(sa.text(statement), {"before": before})
