"""Results of a job that a newer one has taken the place of, under another name: the library keeps the newer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ironclad import durable
from ironclad.stages.publish import INTENDED, content

if TYPE_CHECKING:
    from ironclad.stages.context import StageContext

# Covers stay: other songs of the album may have no other.
REPLACED = sa.text(
    "SELECT DISTINCT path, blake3, receipt->>:intended AS intended FROM artifact old "
    "WHERE job_uuid = :job AND state = 'superseded' AND kind NOT LIKE 'cover:%' "
    "AND NOT EXISTS (SELECT 1 FROM artifact live WHERE live.state <> 'superseded' "
    "AND lower(live.path) = lower(old.path) AND live.path = old.path) ORDER BY path"
)
LIVE = sa.text(
    "SELECT path FROM artifact WHERE job_uuid = :job AND state <> 'superseded' UNION "
    "SELECT live.path FROM artifact old JOIN artifact live ON lower(live.path) = lower(old.path) "
    "AND live.state <> 'superseded' WHERE old.job_uuid = :job AND old.state = 'superseded'"
)
_REASON = "published anew under another name"


def sweep(context: StageContext, root: Path) -> list[str]:
    """Remove the job's own older files that are published under other names now; returns their paths.

    A file that somebody has changed since stays. Folders that become empty go, up to `root`.
    """
    removed = []
    with context.database.session() as session:
        rows = session.execute(REPLACED, {"job": context.job.job_uuid, "intended": INTENDED}).all()
        live = [Path(path) for path in session.scalars(LIVE, {"job": context.job.job_uuid})] if rows else []
    for row in rows:
        path = Path(row.path)
        if not path.is_relative_to(root):
            continue
        there = content(path)
        if there is not None:
            # Two names may be one file: where letter case makes no name, or somebody has linked the folders.
            if there not in {row.blake3, row.intended} or _file(path) in map(_file, live):
                continue
            context.note("removed", {"path": str(path), "reason": _REASON})  # before: nobody could tell afterwards
            context.check()  # who slept through the lease may find another job's file under this name by now
            durable.remove(path, reason=_REASON)
            removed.append(str(path))
        # Also of a file that is gone: an attempt that was interrupted may not have come to its folders.
        for folder in path.parents:
            if folder == root or not folder.is_relative_to(root) or not durable.remove_empty_folder(folder):
                break
    return removed


def _file(path: Path) -> tuple[int, int] | Path:
    try:
        status = path.stat()
    except OSError:
        return path
    return status.st_dev, status.st_ino
