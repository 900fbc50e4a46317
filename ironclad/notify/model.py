"""What the notifier's decisions are made of: plain data, no database, no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from ironclad.jobs.notices import KINDS, Severity, Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

RANK: Final[Mapping[str, int]] = {severity.value: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Event:
    """A notice as read from the outbox."""

    id: int
    at: datetime
    kind: str
    alert: str
    status: Status
    severity: Severity
    labels: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    routed_at: datetime | None = None

    @property
    def subject(self) -> Mapping[str, str]:
        """What matchers see."""
        return {**self.labels, "kind": self.kind, "severity": self.severity.value, "alert": self.alert}

    @property
    def lasts(self) -> bool:
        """Whether it is a condition, of which people are reminded until it ends."""
        known = KINDS.get(self.kind)
        return self.status is not Status.NOTE and (known is None or known.lasts)


def matches(matchers: Mapping[str, str], subject: Mapping[str, str]) -> bool:
    """Whether every glob pattern fits; no pattern at all fits nothing, so that a slip never silences everything."""
    return bool(matchers) and fits(matchers, subject)


def fits(matchers: Mapping[str, str], subject: Mapping[str, str]) -> bool:
    """As `matches`, but no pattern fits everything (routes). A label that is missing is empty."""
    return all(fnmatchcase(str(subject.get(name, "")), str(pattern)) for name, pattern in matchers.items())
