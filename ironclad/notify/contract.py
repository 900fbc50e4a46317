"""What a notifier of a plugin is: it takes a message to one channel, and says what came of it by returning or raising.

A plugin returns kinds from the hook `ironclad_notifiers`; the settings of a channel name one by `type`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Message:
    """One message, in every form; a notifier takes the one that its service shows best."""

    id: str
    """The same at every attempt at this message: with it a receiver knows a duplicate."""
    title: str
    text: str
    markdown: str
    html: str
    severity: str
    """info, warning, error or critical: the worst of its alerts."""
    firing: bool
    """False: it only says that things are well again, or what happened."""
    made_at: datetime
    alerts: Sequence[Mapping[str, Any]] = ()
    """The first of them, each with status, kind, alert, severity, at, labels, data."""
    total: int = 0
    """How many alerts it is about; more than `alerts` has in a storm."""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as the settings have it, with its secrets uncovered. Its text shows none of them."""

    name: str
    type: str = "apprise"
    url: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    timeout_seconds: float = 30.0


class NotDelivered(Exception):
    """The message did not get through.

    Args:
        answer: what came back, in a line; secrets of the channel are taken out of it.
        permanent: whether trying again is useless (a wrong address, a refused log-in).
        retry_after: how long the service asks to wait, in seconds.
    """

    def __init__(self, answer: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(answer)
        self.answer = answer
        self.permanent = permanent
        self.retry_after = retry_after


class Notifier(Protocol):
    """A channel that is open. Called by one thread at a time."""

    def send(self, message: Message) -> str:
        """Deliver within the channel's time-out. Returns what came back, in a line; raises `NotDelivered`."""
        ...


class NotifierKind(Protocol):
    """What a plugin's `ironclad_notifiers` returns some of."""

    @property
    def name(self) -> str:
        """The `type` of channels that are served by it."""
        ...

    def open(self, channel: Channel) -> Notifier:
        """A notifier for the channel. Raises `ConfigError` if the channel's settings make no sense."""
        ...
