"""The installation at a glance: what `ironclad status` and the API tell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ironclad.jobs import query
from ironclad.notify import query as notifications

if TYPE_CHECKING:
    from sqlmodel import Session

_LATE_SECONDS: Final = 30.0


def snapshot(session: Session) -> dict[str, Any]:
    """Queue, pools, services and notifications as JSON-ready data."""
    view = query.overview(session)
    told = notifications.as_dict(notifications.overview(session))
    workers = [query.as_dict(worker) for worker in view.workers]
    seen = [worker.seen_at for worker in view.workers]
    now = datetime.now(UTC)
    for worker, at in zip(workers, seen, strict=True):
        worker["alive"] = at is not None and (now - at).total_seconds() < _LATE_SECONDS
    return {
        "states": view.states,
        "held": view.held,
        "paused": view.paused,
        "disk_low": view.disk_low,
        "pools": [
            {
                "name": pool.name, "slots": pool.slots, "paused": pool.paused, "running": pool.running,
                "dispatched": pool.dispatched, "waiting": pool.waiting,
                "oldest_waiting_seconds": pool.oldest_waiting_seconds, "fed": pool.fed,
            }
            for pool in view.pools
        ],
        "notifications": told,
        "services": workers,
    }  # fmt: skip
