"""Results of a job that a newer one has taken the place of, under another name: the library keeps the newer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ironclad import durable
from ironclad.jobs.transition import record

if TYPE_CHECKING:
    from ironclad.stages.context import StageContext

# Covers stay: other songs of the album may have no other.
REPLACED = sa.text(
    "SELECT DISTINCT path, blake3 FROM artifact old WHERE job_uuid = :job AND state = 'superseded' "
    "AND kind NOT LIKE 'cover:%' AND NOT EXISTS (SELECT 1 FROM artifact live WHERE live.state <> 'superseded' "
    "AND lower(live.path) = lower(old.path)) ORDER BY path"
)


def sweep(context: StageContext, root: Path) -> list[str]:
    """Remove the job's own older files that are published under other names now; returns their paths.

    A file that somebody has changed since stays. Folders that become empty go, up to `root`.
    """
    removed = []
    with context.database.session() as session:
        rows = session.execute(REPLACED, {"job": context.job.job_uuid}).all()
    for row in rows:
        context.check()
        path = Path(row.path)
        if not path.is_relative_to(root) or not path.is_file() or durable.digest(path) != row.blake3:
            continue
        reason = "published anew under another name"
        with context.database.session() as session:  # before: nobody could tell afterwards
            record(
                session, context.job.job_uuid, "removed", actor="worker", attempt=context.job.attempt,
                stage="organize", path=str(path), reason=reason,
            )  # fmt: skip
        durable.remove(path, reason=reason)
        removed.append(str(path))
        for folder in path.parents:
            if folder == root or not folder.is_relative_to(root) or not durable.remove_empty_folder(folder):
                break
    return removed
