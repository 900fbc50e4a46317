"""`ironclad run notify`: the notifier with its health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ironclad.db.session import Database
from ironclad.errors import DatabaseUnavailable
from ironclad.notify import control, query
from ironclad.notify.notifier import Notifier

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.notify.planner import Step
    from ironclad.ops.health import HealthBoard
    from ironclad.ops.metrics import Metrics
    from ironclad.ops.service import ServiceRuntime

_NO_CHANNEL: Final = "Set notify.channels (docs/notifications.md); until then everything waits in the outbox."
_WRONG: Final = "Put the channel's settings right, then `ironclad notify test CHANNEL`."
_FAILING: Final = (
    "See `ironclad notify dead list`; it is tried again by itself. `ironclad notify test CHANNEL` tries now."
)
_TIMEOUT: Final = "2s"
_WORRYING: Final = 3


class NotifyService:
    """Routes, groups and delivers what is in the outbox."""

    name = "notify"

    def run(self, runtime: ServiceRuntime) -> None:
        """Notify until the runtime stops."""
        settings = runtime.settings
        runtime.probe({})
        database = Database.open(settings)
        try:
            report = Report(settings, runtime.health, runtime.metrics, database)
            report.channels()
            Notifier(database, settings.notify, ear=report, planned=report.planned).run(
                runtime.stopping, runtime.ready
            )  # fmt: skip
        finally:
            database.close()


class Report:
    """The notifier's health and metrics.

    Args:
        settings: ours.
        health: where each channel is a component.
        metrics: of the service.
        database: where the outbox is.
    """

    def __init__(self, settings: Settings, health: HealthBoard, metrics: Metrics, database: Database) -> None:
        self._settings = settings
        self._health = health
        self._metrics = metrics
        self._database = database
        self._failures: dict[str, int] = {}
        metrics.on_scrape(self.refresh)

    def channels(self) -> None:
        """Say how each channel is set."""
        if not self._settings.notify.channels:
            self._health.degraded("channels", "no channel is configured: nobody is told of anything", _NO_CHANNEL)
        for name, problem in control.check(self._settings.notify).items():
            if problem:
                self._health.degraded(f"channel {name}", problem, _WRONG)
            else:
                self._health.ok(f"channel {name}")

    def delivered(self, channel: str, seconds: float, events: int) -> None:  # noqa: ARG002 - of the protocol
        """A message got through."""
        self._metrics.counter("ironclad_notifications_sent_total").labels(channel).inc()
        self._metrics.histogram("ironclad_notification_delivery_seconds").labels(channel).observe(max(0.0, seconds))
        self._failures[channel] = 0
        self._health.ok(f"channel {channel}")

    def refused(self, channel: str, outcome: str, answer: str) -> None:
        """An attempt failed; one that is tried again soon is no reason to worry anybody."""
        self._metrics.counter("ironclad_notifications_failed_total").labels(channel, outcome).inc()
        self._failures[channel] = self._failures.get(channel, 0) + 1
        if outcome == "dead" or self._failures[channel] >= _WORRYING:
            self._health.degraded(f"channel {channel}", answer, _FAILING)

    def planned(self, step: Step) -> None:
        """What one step suppressed."""
        for reason, count in step.suppressed.items():
            self._metrics.counter("ironclad_notifications_suppressed_total").labels(reason).inc(count)

    def refresh(self) -> None:
        """Read what waits, before each scrape; without a database the gauges keep their values."""
        try:
            with self._database.session() as session:
                session.execute(sa.text(f"SET LOCAL statement_timeout = '{_TIMEOUT}'"))
                view = query.overview(session)
        except DatabaseUnavailable:
            return
        rows = self._metrics.gauge("ironclad_notify_outbox_rows")
        numbers = {"unrouted": view.unrouted, "pending": view.pending, "waiting": view.waiting, "dead": view.dead}
        for state, number in numbers.items():
            rows.labels(state).set(number)
        # Without a channel nothing is overdue: whoever hears of alerts by Prometheus alone is not told for ever.
        overdue = view.oldest_seconds if self._settings.notify.channels else 0.0
        self._metrics.gauge("ironclad_notify_outbox_oldest_age_seconds").set(overdue)
