"""What Ironclad needs and does not have: read from table `health`, told once however many services say so.

The services look at what they need and write each change down (`ironclad.ops.health_log`). Here that becomes alerts of
kind `dependency_down`: one for each thing that is wrong, with the services that say so in its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.jobs.notices import Notice, Severity
from ironclad.notify.model import RANK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlmodel import Session

DOWN: Final = "dependency_down"
PREFECT: Final = "prefect"
"""The dependency that all hosts share."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """How bad it is when a component is not well, and whose it is."""

    components: str
    """A glob pattern."""
    failed: Severity = Severity.CRITICAL
    degraded: Severity = Severity.WARNING
    shared: str = ""
    """Its name where all hosts have the same one; else it is each host's own, under the component's name."""


_RULES: Final = (
    # The dispatcher goes on without it, so it is only degraded there; but nothing new starts.
    _Rule("prefect api", degraded=Severity.CRITICAL, shared=PREFECT),
    _Rule("prefect", degraded=Severity.CRITICAL, shared=PREFECT),
    _Rule("root * events"),
    _Rule("root *", degraded=Severity.ERROR),
    _Rule("gpu", degraded=Severity.ERROR),
    _Rule("*"),
)
_ELSEWHERE: Final = ("database", "disk", "postgres", "channels", "channel *")
"""Told as something else, or not to be told while it is away."""
_SAID: Final = sa.text(
    "SELECT h.service, h.component, h.status, h.detail, h.remedy, w.host, "
    "extract(epoch FROM CAST(:now AS timestamptz) - w.seen_at)::float > :silent AS silent "
    "FROM health h JOIN worker w ON w.name = h.service WHERE h.status <> 'ok' ORDER BY h.service, h.component"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is wrong now."""

    alerts: Mapping[str, Notice]
    """By their keys."""
    explained: frozenset[str]
    """Services that do not work because of one of them: that is no news of its own."""


def seen(session: Session, now: datetime, silent_seconds: float) -> Seen:
    """Everything that services say is not well, by what it is.

    A service that has fallen silent is told as that. What it said last still holds of its own host; of what all hosts
    share, those that still speak know more.
    """
    found: dict[tuple[str, str], list[tuple[Severity, Any]]] = {}
    explained = set()
    for row in session.execute(_SAID, {"now": now, "silent": silent_seconds}):
        if row.component == row.service.partition("@")[0] or _fits(row.component, _ELSEWHERE):
            continue
        rule = next(rule for rule in _RULES if fnmatchcase(row.component, rule.components))
        if rule.shared and row.silent:
            continue
        severity = rule.failed if row.status == "failed" else rule.degraded
        thing = (PREFECT, "") if rule.shared else (row.component, row.host)
        found.setdefault(thing, []).append((severity, row))
        if row.status == "failed":
            explained.add(row.service)
    notices = [_notice(dependency, host, said) for (dependency, host), said in found.items()]
    return Seen({notice.alert: notice for notice in notices}, frozenset(explained))


def _fits(component: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(component, pattern) for pattern in patterns)


def _notice(dependency: str, host: str, said: Sequence[tuple[Severity, Any]]) -> Notice:
    """One alert out of what several services say; in the words of the one that has it worst."""
    severity, worst = max(said, key=lambda one: RANK[one[0]])
    who = ", ".join(dict.fromkeys(row.service.partition("@")[0] for _, row in said))
    place = f"@{host}" if host else ""
    return Notice(
        DOWN, f"dependency:{dependency}{place}", severity=severity,
        labels={"dependency": dependency, "host": host},
        data={
            "name": f"{dependency} on {host}" if host else dependency,
            "detail": f"{worst.detail} (says {who})" if worst.detail else f"says {who}", "hint": worst.remedy,
        },
    )  # fmt: skip
