"""The notifier's loop: plan, wake the couriers, wait for news."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from ironclad import log
from ironclad.errors import ChannelFailed, DatabaseUnavailable
from ironclad.jobs.feed import Feed
from ironclad.jobs.notices import CHANNEL
from ironclad.notify import channels
from ironclad.notify.courier import Courier, Round
from ironclad.notify.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.db.session import Database
    from ironclad.notify.contract import NotifierKind
    from ironclad.notify.courier import Ear
    from ironclad.notify.planner import Step
    from ironclad.plugins.manager import PluginManager
    from ironclad.sections import NotifySettings

_TICK_SECONDS: Final = 2.0
_LEAST_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 20.0
_ABANDONED: Final = 3


class Notifier:
    """Everything of `ironclad run notify` but the service around it.

    Args:
        database: where the outbox is.
        settings: ours.
        ear: hears what became of messages.
        planned: told what each step did.
        plugins: where kinds of notifiers come from; the installed ones by default.
        tick_seconds: longest pause between two looks.
    """

    def __init__(
        self, database: Database, settings: NotifySettings, *, ear: Ear | None = None,
        planned: Callable[[Step], None] | None = None, plugins: PluginManager | None = None,
        tick_seconds: float = _TICK_SECONDS,
    ) -> None:  # fmt: skip
        self._database = database
        self._settings = settings
        self._ear = ear
        self._planned = planned
        self._plugins = plugins
        self._tick_seconds = tick_seconds
        self._planner = Planner(database, settings)
        self._news = threading.Event()
        self._ending = threading.Event()
        self._rounds: list[Round] = []
        self._abandoned = 0

    def run(self, stopping: threading.Event, ready: Callable[[], None]) -> None:
        """Notify until `stopping` is set; messages under way are finished, within their time-out.

        Raises `ChannelFailed` if so many deliveries hang that only a new process can help.
        """
        kinds = channels.kinds(self._settings, self._plugins)
        self._rounds = [
            Round(Courier(self._database, self._settings, name, kinds, ear=self._ear), self._ending)
            for name in self._settings.channels
        ]
        listener = threading.Thread(target=self._listen, name="notice feed", daemon=True)
        listener.start()
        begun = False
        try:
            while not stopping.is_set():
                self._news.clear()
                try:
                    if not begun:
                        self._planner.begin()
                        begun = True
                        ready()
                    self._plan(stopping)
                except DatabaseUnavailable as exc:
                    log.get(component="notify").warning("database_away", error=exc.detail)
                self._replace_stuck(kinds)
                if self._news.wait(self._tick_seconds):
                    stopping.wait(_LEAST_SECONDS)  # a storm is planned a few times a second, not for each notice
        finally:
            self._ending.set()
            for one in self._rounds:
                one.wake()
            for one in self._rounds:
                one.join(_STOP_SECONDS)

    def wake(self) -> None:
        """Look now."""
        self._news.set()

    def _plan(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            step = self._planner.step()
            if self._planned is not None:
                self._planned(step)
            if step.messages:
                for one in self._rounds:
                    one.wake()
            if step.idle:
                return

    def _listen(self) -> None:
        for _notice in Feed(self._database.dsn, (CHANNEL,)).listen(self._ending, tick_seconds=self._tick_seconds * 5):
            if _notice is not None:
                self._news.set()

    def _replace_stuck(self, kinds: Mapping[str, NotifierKind]) -> None:
        """A delivery that hangs is left behind in its thread; its lease ends, and the message is sent again."""
        for index, one in enumerate(self._rounds):
            if one.alive and not one.courier.stuck:
                continue
            self._abandoned += 1
            log.get(component="notify").error("delivery_hangs", channel=one.courier.name, abandoned=self._abandoned)
            if self._abandoned > _ABANDONED:
                raise ChannelFailed("Deliveries hang; the notifier begins anew.")
            self._rounds[index] = Round(
                Courier(self._database, self._settings, one.courier.name, kinds, ear=self._ear), self._ending
            )  # fmt: skip
