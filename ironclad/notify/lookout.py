"""Services that fell silent, and what does not work: seen in tables, told through the outbox as everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.jobs import notices
from ironclad.jobs.notices import Notice, Severity, Status
from ironclad.notify import dependencies
from ironclad.notify.model import RANK

if TYPE_CHECKING:
    from datetime import datetime

    from sqlmodel import Session

LOST: Final = "service_lost"
UNHEALTHY: Final = "service_unhealthy"
_KINDS: Final = f"'{LOST}', '{UNHEALTHY}', '{dependencies.DOWN}'"


def look(session: Session, now: datetime, silent_seconds: float, *, since: datetime) -> None:
    """Publish what changed. A service that stopped cleanly has no row: it is no longer wrong.

    Args:
        session: the planner's transaction, so that what is published is known at the next look.
        now: the moment.
        silent_seconds: how long a service may say nothing.
        since: when the notifier began; before it has watched for so long, silence means nothing, and neither does what
            is missing (a machine that starts, starts its services one after another).
    """
    if session.scalar(sa.text(f"SELECT count(*) FROM notice WHERE routed_at IS NULL AND kind IN ({_KINDS})")):
        return  # what was seen the last time is not known to the alerts yet
    needs = dependencies.seen(session, now, silent_seconds)
    wrong = {**needs.alerts, **_services(session, now, silent_seconds, needs.explained)}
    rows = session.execute(sa.text(f"SELECT key, severity FROM alert WHERE kind IN ({_KINDS}) AND status = 'firing'"))
    firing: dict[str, str] = {row.key: row.severity for row in rows}
    patient = (now - since).total_seconds() < silent_seconds
    for key, notice in wrong.items():
        news = key not in firing and (not patient or notice.kind == UNHEALTHY)
        if news or (key in firing and _worse(notice, firing[key])):
            notices.publish(session, notice)
    for key in firing.keys() - wrong.keys():
        if patient and key.startswith(LOST):
            continue
        session.execute(
            sa.text(
                "INSERT INTO notice (kind, alert, status, severity, labels, data) "
                "SELECT kind, key, 'resolved', severity, labels, data FROM alert WHERE key = :key"
            ),
            {"key": key},
        )


def _worse(notice: Notice, told: str) -> bool:
    return notice.severity is not None and RANK[notice.severity] > RANK.get(told, RANK[Severity.CRITICAL])


def _services(session: Session, now: datetime, silent_seconds: float, explained: frozenset[str]) -> dict[str, Notice]:
    """Services that are lost, or do not work for no reason that is told already."""
    rows = session.execute(
        sa.text(
            "SELECT name, kind, host, pool, data, "
            "extract(epoch FROM CAST(:now AS timestamptz) - seen_at)::float AS silent FROM worker"
        ),
        {"now": now},
    )
    wrong: dict[str, Notice] = {}
    for row in rows:
        if row.silent > silent_seconds:
            wrong[f"{LOST}:{row.name}"] = _notice(LOST, row, f"It has not reported for {row.silent:.0f} s.")
        elif str((row.data or {}).get("status")) == "failed" and row.name not in explained:
            wrong[f"{UNHEALTHY}:{row.name}"] = _notice(UNHEALTHY, row, "It says itself that something it needs failed.")
    return wrong


def _notice(kind: str, row: Any, detail: str) -> Notice:
    name = row.name.partition("@")[0]
    labels = {"service": name, "host": row.host, "service_kind": row.kind}
    if name == dependencies.PREFECT:
        labels["dependency"] = name  # the others say that they miss it: see the usual inhibitions
    return Notice(
        kind, f"{kind}:{row.name}", Status.FIRING, labels=labels,
        data={"name": f"{name} on {row.host}", "detail": detail},
    )  # fmt: skip
