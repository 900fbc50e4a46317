"""Orphans: files that no job knows, jobs whose files are gone, half-written leftovers, damaged results.

Nothing is deleted here: what is in the way is moved to `orphaned/`, with the reason beside it. `ironclad prune` empties
that folder later.
"""

from __future__ import annotations

import enum
import json
import os
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import sqlalchemy as sa

from ironclad import durable
from ironclad.errors import IroncladError
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.layout import Layout

QUIET_SECONDS: Final = 3600.0
"""What was touched more recently may be in the making."""
_UUID_LENGTH: Final = 36
_BATCH: Final = 1000


class Kind(enum.StrEnum):
    """What is wrong."""

    NO_JOB = "no-job"
    """A folder of a job that the database does not know."""
    NO_FILE = "no-file"
    """A job whose original, or whose published file, is gone."""
    UNFINISHED = "unfinished"
    """A temporary file or folder that a crash left."""
    DAMAGED = "damaged"
    """A published file with other bytes than were recorded."""
    MISPLACED = "misplaced"
    """The original of a failed job that is not in error/."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """One finding. `job_uuid` is None where no job is known; `moved` where it is now, after a fix."""

    kind: Kind
    path: Path
    reason: str
    todo: str
    job_uuid: UUID | None = None
    moved: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "kind": self.kind.value, "path": str(self.path), "reason": self.reason, "todo": self.todo,
            "job_uuid": None if self.job_uuid is None else str(self.job_uuid),
            "moved": None if self.moved is None else str(self.moved),
        }  # fmt: skip


def find(
    database: Database, settings: Settings, *, hashes: bool = False, quiet_seconds: float = QUIET_SECONDS,
    now: float | None = None,
) -> Iterator[Orphan]:  # fmt: skip
    """Every orphan.

    Args:
        database: where the jobs are.
        settings: the installation.
        hashes: read every published file and compare its digest; as slow as the disk.
        quiet_seconds: temporary files younger than that are left alone.
        now: the wall clock.
    """
    now = time.time() if now is None else now
    with database.session() as session:
        known = {str(job) for job in session.scalars(sa.text("SELECT job_uuid FROM job"))}
    yield from _without_job(settings, known, now - quiet_seconds)
    yield from _unfinished(settings, now - quiet_seconds)
    yield from _uploads(database, settings, now - quiet_seconds)
    yield from _originals(database, settings)
    yield from _published(database, hashes=hashes)


def _quiet(path: Path, before: float) -> bool:
    try:
        return path.lstat().st_mtime <= before
    except OSError:
        return False


def _without_job(settings: Settings, known: set[str], before: float) -> Iterator[Orphan]:
    layout = settings.layout
    for folder in (layout.archive, layout.work, layout.error):
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            job = path.name[:_UUID_LENGTH]
            if _is_uuid(job) and job not in known and _quiet(path, before):
                yield Orphan(
                    Kind.NO_JOB, path, f"No job has the id {job}.",
                    "If it holds an original, submit that file again.", None,
                )  # fmt: skip


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _unfinished(settings: Settings, before: float) -> Iterator[Orphan]:
    layout = settings.layout
    for folder in (layout.archive, layout.work, layout.error, layout.output, layout.logs):
        pending = [folder] if folder.exists() else []
        while pending:
            for path in _entries(pending.pop()):
                if durable.is_temporary(path.name):
                    if _quiet(path, before):
                        yield Orphan(
                            Kind.UNFINISHED, path, "A process ended before it had finished this.",
                            "Nothing: the job was tried again without it.",
                        )  # fmt: skip
                elif os.path.isdir(path) and not path.is_symlink():  # noqa: PTH112 - Path.is_dir raises where it may not look
                    pending.append(path)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it went away meanwhile, or is somebody else's (`lost+found`, a trash folder)."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


_ARRIVED: Final = sa.text("SELECT source_path_raw FROM job WHERE state = 'received'")


def _uploads(database: Database, settings: Settings, before: float) -> Iterator[Orphan]:
    """Songs that did not arrive whole, or arrived whole just before a crash; not those that a job waits for."""
    found = [path for path in _entries(settings.layout.uploads) if _untouched(path, before)]
    if not found:
        return
    with database.session() as session:
        awaited = [os.fsdecode(raw) for raw in session.scalars(_ARRIVED)]
    for path in found:
        if not any(Path(source).is_relative_to(path) for source in awaited):
            yield Orphan(
                Kind.UNFINISHED, path, "The API ended while this song arrived: its sender was not told that it had.",
                "Nothing: the sender sends it again.",
            )  # fmt: skip


def _untouched(path: Path, before: float) -> bool:
    """Whether neither a folder nor anything in it was changed lately."""
    return _quiet(path, before) and all(_quiet(one, before) for one in _entries(path))


_ORIGINALS: Final = sa.text(
    "SELECT job_uuid, state, archive_name, source_path, filed FROM job WHERE content_hash IS NOT NULL "
    "AND state NOT IN ('received', 'skipped') AND job_uuid > :after ORDER BY job_uuid LIMIT :limit"
)


def _originals(database: Database, settings: Settings) -> Iterator[Orphan]:
    layout = settings.layout
    after = UUID(int=0)
    while True:
        with database.session() as session:
            rows = session.execute(_ORIGINALS, {"after": after, "limit": _BATCH}).all()
        archived = {row: layout.archive_of(row.job_uuid) / row.archive_name for row in rows}
        missing = {row.job_uuid for row, path in archived.items() if not path.exists()}
        missing -= _let_go(database, layout, missing)
        for row, path in archived.items():
            if row.job_uuid in missing:
                if any(layout.error.glob(f"{row.job_uuid}-*/{row.archive_name}")):
                    continue
                yield Orphan(
                    Kind.NO_FILE, path, f"The original of job {row.job_uuid} ({row.state}) is gone.",
                    f"If you have it still ({row.source_path}), submit it again.", row.job_uuid,
                )  # fmt: skip
            elif row.filed and row.state in {"failed", "quarantined"} and path.exists():
                yield Orphan(
                    Kind.MISPLACED, path, f"Job {row.job_uuid} failed, and its original is still in archive/.",
                    "`ironclad orphans --fix` has it filed again.", row.job_uuid,
                )  # fmt: skip
        if len(rows) < _BATCH:
            return
        after = rows[-1].job_uuid


_DELETED: Final = sa.text(
    "SELECT job_uuid, data->>'path' AS path FROM job_event WHERE job_uuid = ANY(:jobs) AND kind = 'deleted'"
)


def _let_go(database: Database, layout: Layout, jobs: set[UUID]) -> set[UUID]:
    """Those of the jobs whose original went by a rule of `prune.archive` or `prune.error`."""
    if not jobs:
        return set()
    kept_in = {layout.archive.name, layout.error.name}
    with database.session() as session:
        rows = session.execute(_DELETED, {"jobs": list(jobs)}).all()
    return {row.job_uuid for row in rows if row.path and Path(row.path).parent.name in kept_in}


_PUBLISHED: Final = sa.text(
    "SELECT artifact_uuid, job_uuid, kind, path, blake3 FROM artifact WHERE state = 'published' "
    "AND artifact_uuid > :after ORDER BY artifact_uuid LIMIT :limit"
)


def _published(database: Database, *, hashes: bool) -> Iterator[Orphan]:
    after = UUID(int=0)
    while True:
        with database.session() as session:
            rows = session.execute(_PUBLISHED, {"after": after, "limit": _BATCH}).all()
        for row in rows:
            path = Path(row.path)
            again = f"ironclad jobs replay {str(row.job_uuid)[-8:]} --from recombine"
            if not path.exists():
                yield Orphan(
                    Kind.NO_FILE, path, f"The {row.kind} of job {row.job_uuid} was published and is gone.",
                    f"If you did not delete it: {again}", row.job_uuid,
                )  # fmt: skip
            elif hashes and not _same(path, row.blake3):
                yield Orphan(
                    Kind.DAMAGED, path, f"The {row.kind} of job {row.job_uuid} has other bytes than were recorded.",
                    f"`ironclad retag` and editors change files, too; if it was the disk: {again}", row.job_uuid,
                )  # fmt: skip
        if len(rows) < _BATCH:
            return
        after = rows[-1].artifact_uuid


def _same(path: Path, digest: str) -> bool:
    try:
        return durable.digest(path) == digest
    except IroncladError:
        return False


def fix(database: Database, settings: Settings, orphan: Orphan) -> Orphan:
    """Put one finding out of the way. Raises catalogue errors; what cannot be fixed comes back as it was."""
    if orphan.kind is Kind.MISPLACED:
        with database.session() as session:
            session.execute(
                sa.text("UPDATE job SET filed = false WHERE job_uuid = :job AND state IN ('failed', 'quarantined')"),
                {"job": orphan.job_uuid},
            )
        return orphan
    if orphan.kind is Kind.NO_FILE or not (orphan.path.exists() or orphan.path.is_symlink()):
        return orphan
    if orphan.kind is Kind.DAMAGED and orphan.job_uuid is not None:
        moved = _damaged(database, settings, orphan, orphan.job_uuid)
    else:
        moved = _set_aside(settings, orphan)
    return Orphan(orphan.kind, orphan.path, orphan.reason, orphan.todo, orphan.job_uuid, moved)


def _damaged(database: Database, settings: Settings, orphan: Orphan, job_uuid: UUID) -> Path | None:
    """Set a damaged file aside, if it is still that; the name is free for a replay then.

    It was read a while ago: a replay or a retag may have written it anew since. The lock keeps them from it meanwhile.
    """
    with database.session() as session:
        job = load(session, job_uuid, lock=True)
        place = {"job": job_uuid, "path": str(orphan.path)}
        recorded = session.scalar(
            sa.text("SELECT blake3 FROM artifact WHERE job_uuid = :job AND path = :path AND state = 'published'"), place
        )
        if job.state == JobState.RUNNING.value or recorded is None or _same(orphan.path, recorded):
            return None
        moved = _set_aside(settings, orphan)
        session.execute(
            sa.text("UPDATE artifact SET state = 'superseded' WHERE job_uuid = :job AND path = :path"), place
        )
        record(session, job_uuid, "orphaned", actor="orphans", attempt=0, path=str(orphan.path))
    return moved


def _set_aside(settings: Settings, orphan: Orphan) -> Path:
    """Move a file or folder to orphaned/, with the reason beside it; the reason is there first."""
    at = datetime.now(UTC)
    folder = settings.layout.orphaned / f"{at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    durable.make_dirs(folder)
    told = {**orphan.to_dict(), "at": at.isoformat()}
    durable.write_atomic(folder / "reason.json", json.dumps(told, indent=2).encode())
    target = folder / orphan.path.name.lstrip(".")
    if orphan.path.is_dir() and not orphan.path.is_symlink():
        durable.move_folder(orphan.path, target)
    else:
        durable.move(orphan.path, target)
    return target
