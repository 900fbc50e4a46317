"""What a watcher knows about files that are no jobs (yet), in the database: it survives restarts and answers `why`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ironclad.jobs.control import set_switch, switch
from ironclad.jobs.submit import display

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.ingest.stability import Print

GROWING = "growing"
CLAIMED = "claimed"
REFUSED = "refused"
GONE = "gone"

KEEP_DAYS = 30
"""How long it is remembered what became of a file that is no longer there."""


@dataclass(frozen=True, slots=True)
class Noted:
    """One thing to write down about a file."""

    path: str
    """Below the root."""
    print: Print
    status: str
    reason: str | None = None
    job_uuid: UUID | None = None
    age_seconds: float = 0.0
    """How long ago the file changed last."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is written down about a file."""

    path: str
    """Below the root."""
    source_key: str
    size: int
    mtime_ns: int
    status: str
    reason: str | None
    job_uuid: UUID | None
    first_seen_at: datetime
    changed_at: datetime
    now: datetime
    """The database's clock when this was read."""


_UPSERT = sa.text(
    "INSERT INTO observation AS known (root, path_raw, path, size, mtime_ns, source_key, status, reason, job_uuid, "
    "changed_at) VALUES (:root, :path_raw, :path, :size, :mtime_ns, :source_key, :status, :reason, :job_uuid, "
    "ironclad_now() - make_interval(secs => :age)) ON CONFLICT (root, path_raw) DO UPDATE SET path = EXCLUDED.path, "
    "size = EXCLUDED.size, mtime_ns = EXCLUDED.mtime_ns, source_key = EXCLUDED.source_key, status = EXCLUDED.status, "
    "reason = EXCLUDED.reason, job_uuid = EXCLUDED.job_uuid, changed_at = EXCLUDED.changed_at, "
    "first_seen_at = CASE WHEN known.status = 'growing' THEN known.first_seen_at ELSE ironclad_now() END"
)
_COLUMNS = (
    "path_raw, source_key, size, mtime_ns, status, reason, job_uuid, first_seen_at, changed_at, ironclad_now() AS now"
)


def note(session: Session, root: str, notes: Sequence[Noted]) -> None:
    """Write down what is known of files, many at a time."""
    if not notes:
        return
    session.connection().execute(
        _UPSERT,
        [
            {
                "root": root, "path_raw": os.fsencode(one.path), "path": display(one.path), "size": one.print.size,
                "mtime_ns": one.print.mtime_ns, "source_key": one.print.key, "status": one.status,
                "reason": one.reason, "job_uuid": one.job_uuid, "age": one.age_seconds,
            }
            for one in notes
        ],
    )  # fmt: skip


def _known(row: Any) -> Known:
    return Known(
        os.fsdecode(row.path_raw), row.source_key, row.size, row.mtime_ns, row.status, row.reason, row.job_uuid,
        row.first_seen_at, row.changed_at, row.now,
    )  # fmt: skip


def remembered(session: Session, root: str, statuses: Sequence[str]) -> list[Known]:
    """What is known of a root's files, in any of some statuses."""
    rows = session.execute(
        sa.text(f"SELECT {_COLUMNS} FROM observation WHERE root = :root AND status = ANY(:statuses)"),  # noqa: S608 - a constant
        {"root": root, "statuses": list(statuses)},
    )
    return [_known(row) for row in rows]


def of_file(session: Session, root: str, path: str) -> Known | None:
    """What is known of one file (path below the root)."""
    row = session.execute(
        sa.text(f"SELECT {_COLUMNS} FROM observation WHERE root = :root AND path_raw = :path"),  # noqa: S608 - a constant
        {"root": root, "path": os.fsencode(path)},
    ).first()
    return None if row is None else _known(row)


def prune(session: Session, root: str, *, moved: bool) -> int:
    """Forget what became of files long ago. In the modes copy and link (`moved` off) claimed files are still there.

    What was refused is forgotten once it is gone: else the same file would be refused again, as another job.
    """
    values = {"root": root, "days": KEEP_DAYS}
    refused = session.scalars(
        sa.text(
            "SELECT path_raw FROM observation WHERE root = :root AND status = 'refused' "
            "AND changed_at < ironclad_now() - make_interval(days => :days)"
        ),
        values,
    ).all()
    away = [raw for raw in refused if not os.path.lexists(Path(root, os.fsdecode(raw)))] if _reachable(root) else []
    rows = session.execute(
        sa.text(
            "DELETE FROM observation WHERE root = :root AND status = ANY(:statuses) "
            "AND changed_at < ironclad_now() - make_interval(days => :days) "
            "AND (status <> 'refused' OR path_raw = ANY(:away)) RETURNING path_raw"
        ),
        values | {"statuses": [GONE, REFUSED, *([CLAIMED] if moved else [])], "away": away},
    ).all()
    return len(rows)


def _reachable(root: str) -> bool:
    """Whether there is anything in a root: where a mount is missing, nothing is known of its files."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def root_state(session: Session, root: str) -> dict[str, Any]:
    """What the watcher last said about a root: `how` (events, polling, unknown), `reason`, `device`, `files`."""
    return switch(session, f"watch:{root}")


def set_root_state(session: Session, root: str, state: Mapping[str, Any]) -> None:
    """Say how a root is watched, for everybody who looks."""
    set_switch(session, f"watch:{root}", dict(state))
