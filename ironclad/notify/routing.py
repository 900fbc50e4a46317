"""Who is told of an event, with whom it is grouped, and by which rules. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from ironclad.jobs.notices import Severity
from ironclad.notify.model import RANK, fits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ironclad.notify.model import Event
    from ironclad.sections import NotifySettings, RouteSettings

DEFAULT: Final = "default"
ESCALATED: Final = "escalated"
EACH: Final = "..."
"""In `group_by`: every event is a message of its own."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a route, with defaults filled in; times in seconds."""

    name: str
    group_by: tuple[str, ...]
    wait: float
    interval: float
    repeat: float
    threshold: int = 1
    window: float = 600.0
    digest: str = "off"
    digest_at: str = "08:00"
    escalate_to: tuple[str, ...] = ()
    escalate: float = 1800.0


@dataclass(frozen=True, slots=True)
class Target:
    """One channel that is told, in which group."""

    channel: str
    route: str
    group_key: str
    labels: Mapping[str, str]


class Router:
    """The routes of the settings. All that match apply; the first one that names a channel decides how it is told.

    Fail open: a failure (error or worse) that no route matches goes to every channel; only `mute` keeps it back.
    """

    def __init__(self, settings: NotifySettings) -> None:
        self._channels = tuple(settings.channels)
        self._routes: list[tuple[str, RouteSettings]] = [
            (route.name or f"route {number}", route) for number, route in enumerate(settings.routes, start=1)
        ]
        self._default = Policy(
            DEFAULT, settings.group_by, settings.group_wait_seconds, settings.group_interval_seconds,
            settings.repeat_interval_seconds,
        )  # fmt: skip
        self._policies = {name: self._of(name, route) for name, route in self._routes}
        self._policies[ESCALATED] = replace(self._default, name=ESCALATED, wait=0.0)

    def _of(self, name: str, route: RouteSettings) -> Policy:
        usual = self._default
        group_by = route.group_by
        if group_by is None:
            group_by = usual.group_by if route.digest == "off" else ()
        return Policy(
            name=name, group_by=group_by,
            wait=_given(route.group_wait_seconds, usual.wait),
            interval=_given(route.group_interval_seconds, usual.interval),
            repeat=_given(route.repeat_interval_seconds, usual.repeat),
            threshold=route.threshold, window=route.threshold_minutes * 60.0,
            digest=route.digest, digest_at=route.digest_at,
            escalate_to=route.escalate_to, escalate=route.escalate_minutes * 60.0,
        )  # fmt: skip

    def policy(self, route: str) -> Policy:
        """The rules of a route; the defaults for one that is gone from the settings."""
        return self._policies.get(route, self._default)

    def targets(self, event: Event) -> tuple[Target, ...]:
        """Every channel that shall hear of it. A channel's own failure is told to the others."""
        broken = event.labels.get("channel") if event.kind == "channel_failing" else None
        chosen: dict[str, str] = {}
        matched = False
        for name, route in self._routes:
            if self._matches(route, event):
                matched = True
                for channel in () if route.mute else route.channels:
                    chosen.setdefault(channel, name)
        if not matched and (not self._routes or RANK[event.severity] >= RANK[Severity.ERROR]):
            chosen = dict.fromkeys(self._channels, DEFAULT)
        return tuple(self.target(event, channel, name) for channel, name in chosen.items() if channel != broken)

    def target(self, event: Event, channel: str, route: str) -> Target:
        """A channel with the group in which it hears of this event."""
        labels = group_labels(event, self.policy(route).group_by)
        return Target(channel, route, f"{route} {json.dumps(labels, sort_keys=True)}", labels)

    @staticmethod
    def _matches(route: RouteSettings, event: Event) -> bool:
        kinds = route.kinds or ("*",)
        return (
            any(fnmatchcase(event.kind, pattern) for pattern in kinds)
            and RANK[event.severity] >= RANK[route.severity]
            and fits(route.labels, event.subject)
        )


def group_labels(event: Event, group_by: Sequence[str]) -> dict[str, str]:
    """The labels that tell an event's group from others."""
    names = [name for name in group_by if name != EACH]
    labels = {name: str(event.subject.get(name, "")) for name in names}
    return {**labels, "event": str(event.id)} if EACH in group_by else labels


def _given(value: float | None, usual: float) -> float:
    return usual if value is None else value
