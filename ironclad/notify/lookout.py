"""Services that fell silent or do not work: seen in table `worker`, told through the outbox as everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.jobs import notices
from ironclad.jobs.notices import Notice, Status

if TYPE_CHECKING:
    from datetime import datetime

    from sqlmodel import Session

LOST: Final = "service_lost"
UNHEALTHY: Final = "service_unhealthy"
_KINDS: Final = f"'{LOST}', '{UNHEALTHY}'"


def look(session: Session, now: datetime, silent_seconds: float, *, since: datetime) -> None:
    """Publish what changed. A service that stopped cleanly has no row: it is no longer wrong.

    Args:
        session: the planner's transaction, so that what is published is known at the next look.
        now: the moment.
        silent_seconds: how long a service may say nothing.
        since: when the notifier began; before it has watched for so long, silence means nothing (a machine that
            starts, starts its services one after another).
    """
    if session.scalar(sa.text(f"SELECT count(*) FROM notice WHERE routed_at IS NULL AND kind IN ({_KINDS})")):
        return  # what was seen the last time is not known to the alerts yet
    rows = session.execute(
        sa.text(
            "SELECT name, kind, host, pool, data, "
            "extract(epoch FROM CAST(:now AS timestamptz) - seen_at)::float AS silent FROM worker"
        ),
        {"now": now},
    )
    wrong: dict[str, Notice] = {}
    patient = (now - since).total_seconds() < silent_seconds
    for row in rows:
        if row.silent > silent_seconds:
            if not patient:
                wrong[f"{LOST}:{row.name}"] = _notice(LOST, row, f"It has not reported for {row.silent:.0f} s.")
        elif str((row.data or {}).get("status")) == "failed":
            wrong[f"{UNHEALTHY}:{row.name}"] = _notice(UNHEALTHY, row, "It says itself that something it needs failed.")
    firing = set(session.scalars(sa.text(f"SELECT key FROM alert WHERE kind IN ({_KINDS}) AND status = 'firing'")))
    for key in wrong.keys() - firing:
        notices.publish(session, wrong[key])
    if patient:
        firing = {key for key in firing if key.startswith(UNHEALTHY)}
    for key in firing - wrong.keys():
        session.execute(
            sa.text(
                "INSERT INTO notice (kind, alert, status, severity, labels, data) "
                "SELECT kind, key, 'resolved', severity, labels, data FROM alert WHERE key = :key"
            ),
            {"key": key},
        )


def _notice(kind: str, row: Any, detail: str) -> Notice:
    name = row.name.partition("@")[0]
    return Notice(
        kind, f"{kind}:{row.name}", Status.FIRING,
        labels={"service": name, "host": row.host, "service_kind": row.kind},
        data={"name": f"{name} on {row.host}", "detail": detail},
    )  # fmt: skip
