"""Pruning: what is old, or over its quota, is deleted, class by class; each deletion is in its job's history."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import sqlalchemy as sa

from ironclad import durable
from ironclad.jobs.transition import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.sections import PruneRule

_DAY: Final = 86_400.0
_UUID_LENGTH: Final = 36
CLASSES: Final = ("work", "orphaned", "logs", "error", "archive")


@dataclass(frozen=True, slots=True)
class Victim:
    """Something that goes, and why."""

    kind: str
    path: Path
    bytes: int
    age_days: float
    reason: str
    job_uuid: UUID | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "class": self.kind, "path": str(self.path), "bytes": self.bytes, "age_days": round(self.age_days, 1),
            "reason": self.reason, "job_uuid": None if self.job_uuid is None else str(self.job_uuid),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: Path
    bytes: int
    age_days: float
    job_uuid: UUID | None


_SETTLED_JOBS: Final = {
    "work": ("succeeded", "failed", "cancelled", "skipped", "quarantined"),
    "logs": ("succeeded", "cancelled", "skipped"),
    "error": ("failed", "quarantined"),
    "archive": ("succeeded", "skipped"),
}
"""The states of jobs whose things of a class may go at all."""


def plan(database: Database, settings: Settings, *, now: float | None = None) -> Iterator[Victim]:
    """What goes by the rules of `prune.*`: first what is too old, then the oldest until the quota is kept."""
    now = time.time() if now is None else now
    for kind in CLASSES:
        rule: PruneRule = getattr(settings.prune, kind)
        if not rule.days and not rule.max_bytes:
            continue
        found = sorted(_candidates(database, settings, kind, now), key=lambda one: -one.age_days)
        total = sum(one.bytes for one in found)
        for one in found:
            old = bool(rule.days) and one.age_days > rule.days
            over = bool(rule.max_bytes) and total > rule.max_bytes
            if not old and not over:
                continue
            reason = f"older than {rule.days:g} days" if old else f"{kind}/ is over {rule.max_bytes} bytes"
            total -= one.bytes
            yield Victim(kind, one.path, one.bytes, one.age_days, reason, one.job_uuid)


def _candidates(database: Database, settings: Settings, kind: str, now: float) -> Iterator[_Candidate]:
    layout = settings.layout
    folder = layout.logs / "jobs" if kind == "logs" else getattr(layout, kind)
    if not folder.exists():
        return
    states = {} if kind == "orphaned" else _states(database)
    for path in sorted(folder.iterdir()):
        job: UUID | None = None
        if kind != "orphaned":
            name = path.name[:_UUID_LENGTH]
            if states.get(name) not in _SETTLED_JOBS[kind]:
                continue  # unknown ones are orphans, not ours to delete
            job = UUID(name)
        try:
            status = path.lstat()
            yield _Candidate(path, _bytes(path), (now - status.st_mtime) / _DAY, job)
        except OSError:  # it went away, or it may not be looked at
            continue


def _states(database: Database) -> dict[str, str]:
    with database.session() as session:
        return {str(row.job_uuid): row.state for row in session.execute(sa.text("SELECT job_uuid, state FROM job"))}


def _bytes(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_file())


def remove(database: Database, victim: Victim) -> bool:
    """Delete one; False if its job was taken up again meanwhile. Raises catalogue errors.

    The job's row is locked meanwhile, so that no attempt begins to use what is being deleted. The deletion is in its
    history for good before it happens, because nobody could tell afterwards; one that did not come to its end is there
    again at the next try.
    """
    if victim.job_uuid is None:
        _delete(victim)
        return True
    with database.session() as session:
        # NO KEY: the event, in a transaction of its own, refers to this row.
        row = session.execute(
            sa.text("SELECT state, attempt FROM job WHERE job_uuid = :job FOR NO KEY UPDATE SKIP LOCKED"),
            {"job": victim.job_uuid},
        ).first()
        if row is None or row.state not in _SETTLED_JOBS[victim.kind]:
            return False
        with database.session() as telling:
            record(
                telling, victim.job_uuid, "deleted", actor="prune", attempt=row.attempt, path=str(victim.path),
                reason=victim.reason,
            )  # fmt: skip
        _delete(victim)
    return True


def _delete(victim: Victim) -> None:
    if victim.path.is_dir() and not victim.path.is_symlink():
        durable.remove_tree(victim.path, reason=victim.reason)
    else:
        durable.remove(victim.path, reason=victim.reason)


def run(
    database: Database, settings: Settings, *, now: float | None = None,
    around: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> tuple[int, int]:  # fmt: skip
    """Delete everything that the rules let go. Returns how many things and bytes.

    Args:
        database: where the jobs are.
        settings: the rules.
        now: the wall clock.
        around: entered for each deletion; what it swallows keeps the others from nothing.
    """
    count = size = 0
    for victim in list(plan(database, settings, now=now)):
        with around():
            if remove(database, victim):
                count, size = count + 1, size + victim.bytes
    return count, size
