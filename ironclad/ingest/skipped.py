"""`logs/skipped.json`: the files for which there was nothing to do, and why, newest first.

The database holds the truth; the file is rendered from it, whole and atomically, so it is always valid JSON, also with
several writers, and never grows without bound. `ironclad jobs list --state skipped` shows the rest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad import durable

if TYPE_CHECKING:
    from ironclad.db.session import Database
    from ironclad.layout import Layout

NEWEST: Final = 1000
"""How many are listed."""

_SKIPPED = sa.text(
    "SELECT job_uuid, user_id, source_path, relative_path, content_hash, error_code, error, finished_at, stage "
    "FROM job WHERE state = 'skipped' ORDER BY finished_at DESC NULLS LAST, job_uuid DESC LIMIT :limit"
)


def entries(database: Database, limit: int = NEWEST) -> list[dict[str, Any]]:
    """The newest skipped files. Raises `DatabaseUnavailable`."""
    with database.session() as session:
        rows = session.execute(_SKIPPED, {"limit": limit}).all()
    return [
        {
            "at": None if row.finished_at is None else row.finished_at.isoformat(),
            "job_uuid": str(row.job_uuid),
            "user_id": row.user_id,
            "source": row.source_path,
            "relative_path": row.relative_path,
            "code": row.error_code,
            "reason": _reason(row.error or {}),
            "duplicate_of": ((row.error or {}).get("context") or {}).get("job"),
            "content_hash": row.content_hash,
            "stage": row.stage,
        }
        for row in rows
    ]


def write(database: Database, layout: Layout) -> None:
    """Bring the file up to date, if anything has changed. Raises `DatabaseUnavailable`, `StorageError`."""
    text = json.dumps({"skipped": entries(database)}, indent=1, ensure_ascii=False) + "\n"
    data = text.encode("utf-8")
    path = layout.skipped
    if not path.exists() or path.read_bytes() != data:
        durable.make_dirs(path.parent)
        durable.write_atomic(path, data)


def _reason(error: dict[str, Any]) -> str:
    return " ".join(part for part in (error.get("what"), error.get("detail")) if part)
