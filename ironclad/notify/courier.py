"""Delivery: a thread a channel takes its messages, one at a time, and writes down what became of each."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ironclad import log
from ironclad.errors import DatabaseUnavailable, IroncladError
from ironclad.notify import queue, store
from ironclad.notify.channels import opened, uncovered
from ironclad.notify.contract import NotDelivered
from ironclad.notify.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlmodel import Session

    from ironclad.db.session import Database
    from ironclad.notify.contract import Notifier, NotifierKind
    from ironclad.notify.queue import Claimed
    from ironclad.sections import NotifySettings

_IDLE_SECONDS: Final = 15.0
_RETRY_SECONDS: Final = 2.0
_SPARE_SECONDS: Final = 15.0


class Ear(Protocol):
    """Hears what became of messages: metrics, health."""

    def delivered(self, channel: str, seconds: float, events: int) -> None:
        """A message got through, so long after its oldest event."""
        ...

    def refused(self, channel: str, outcome: str, answer: str) -> None:
        """An attempt failed: `retry`, `dead` or `lost`."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one attempt."""

    outcome: str
    """sent, retry, dead or lost."""
    answer: str


class Courier:
    """Delivers the messages of one channel.

    Args:
        database: where the queue is.
        settings: ours.
        name: the channel.
        kinds: the kinds of notifiers.
        ear: hears what became of messages.
        clock: the moment, asked for in each transaction.
        uniform: randomness for delays.
    """

    def __init__(
        self, database: Database, settings: NotifySettings, name: str, kinds: Mapping[str, NotifierKind], *,
        ear: Ear | None = None, clock: Callable[[Session], datetime] = store.database_now,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:  # fmt: skip
        self.name = name
        self._database = database
        self._settings = settings
        self._channel = settings.channels[name]
        self._kinds = kinds
        self._ear = ear
        self._clock = clock
        self._uniform = uniform
        self._notifier: Notifier | None = None
        self._busy_since: float | None = None

    @property
    def stuck(self) -> bool:
        """Whether an attempt goes on for longer than its time-out allows."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > self._channel.timeout_seconds + _SPARE_SECONDS

    def deliver(self) -> Delivery | float | None:
        """Send the next message; or the seconds until there may be one; or None, if none waits.

        Raises `DatabaseUnavailable`: the message is taken back when its lease ends, and sent again.
        """
        with self._database.session() as session:
            now = self._clock(session)
            lost = queue.take_back(session, self.name, self._settings, now, uniform=self._uniform)
            claimed = queue.claim(session, self.name, self._channel, now)
        for one, outcome in lost:
            self._note(one, outcome, queue.UNANSWERED)
        if not isinstance(claimed, queue.Claimed):
            return claimed
        self._busy_since = time.monotonic()
        try:
            answer = self._send(claimed)
        except NotDelivered as failure:
            return self._failed(claimed, failure)
        finally:
            self._busy_since = None
        with self._database.session() as session:
            now = self._clock(session)
            ours = queue.sent(session, claimed, answer, now)
        if self._ear is not None:
            self._ear.delivered(self.name, (now - claimed.oldest_at).total_seconds(), claimed.message.total)
        return Delivery("sent" if ours else "lost", answer)

    def _send(self, claimed: Claimed) -> str:
        """Hand it to the notifier. Whatever that raises becomes `NotDelivered`, without secrets."""
        try:
            if self._notifier is None:
                self._notifier = opened(self.name, self._channel, self._kinds)
            return self._notifier.send(claimed.message)
        except NotDelivered as failure:
            failure.answer = self._said(failure.answer)
            raise
        except IroncladError as exc:
            raise NotDelivered(self._said(str(exc)), permanent=not exc.retryable) from None
        except Exception as exc:  # noqa: BLE001 - a stranger's code; one message must not end the delivery of all
            raise NotDelivered(self._said(f"{type(exc).__name__}: {exc}")) from None

    def _said(self, text: str) -> str:
        return redacted(text, uncovered(self.name, self._channel))

    def _failed(self, claimed: Claimed, failure: NotDelivered) -> Delivery:
        with self._database.session() as session:
            outcome = queue.failed(
                session, claimed, failure, self._settings, self._clock(session), uniform=self._uniform
            )  # fmt: skip
        self._note(claimed, outcome, failure.answer)
        return Delivery(outcome, failure.answer)

    def _note(self, claimed: Claimed, outcome: str, answer: str) -> None:
        log.get(component="notify").warning(
            "not_delivered", channel=self.name, message=claimed.message.id, attempt=claimed.message.attempt,
            outcome=outcome, answer=answer,
        )  # fmt: skip
        if self._ear is not None:
            self._ear.refused(self.name, outcome, answer)


class Round:
    """A courier's thread. It is a daemon: a service that hangs must not keep the notifier from ending.

    Args:
        courier: whose messages.
        stopping: when to end, after the message under way.
    """

    def __init__(self, courier: Courier, stopping: threading.Event) -> None:
        self.courier = courier
        self._stopping = stopping
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"courier {courier.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There may be something to deliver, or it is time to stop."""
        self._news.set()

    def join(self, seconds: float) -> bool:
        """Wait for its end; whether it ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether it works."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._news.clear()
            if self._stopping.is_set():  # asked after that: who stops us sets it first, and wakes us then
                return
            try:
                result = self.courier.deliver()
            except DatabaseUnavailable:
                result = _RETRY_SECONDS
            except Exception:  # noqa: BLE001 - logged; the channel goes on with the next message
                log.get(component="notify").exception("courier_failed", channel=self.courier.name)
                result = _RETRY_SECONDS
            if isinstance(result, Delivery):
                continue
            self._news.wait(_IDLE_SECONDS if result is None else min(result, _IDLE_SECONDS))
