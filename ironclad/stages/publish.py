"""Publishing: intent in the database, whole file under a temporary name, rename without overwrite, then the fact."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad import durable
from ironclad.errors import OutputInvalid, SourceMissing, SourceUnreadable, StorageError
from ironclad.jobs import history, lease
from ironclad.stages.context import Published, Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.jobs.lease import Fence

    Write = Callable[[Callable[[Session], Any]], Any]

INTENDED: Final = "intended_blake3"
"""In the receipt on record, while a retag is under way: what it will write."""
_TRIES = 1000
_NO_FILE: Final = "no file"
_SHUT: Final = "shut"


def publisher(write: Write, fence: Fence, check: Callable[[], None] = lambda: None, *, since: int = 0) -> Publisher:
    """A publisher for one attempt.

    Args:
        write: runs a call in a transaction of its own.
        fence: the attempt.
        check: raises if the attempt must end.
        since: the job's files of earlier attempts are left as they are, as if they were somebody else's.
    """

    def still_ours() -> None:
        write(partial(lease.assert_held, fence=fence))  # copying takes its time, and no clock tells of a paused machine
        check()

    def put(kind: str, file: Path, wanted: Callable[[int], Path], receipt: Mapping[str, Any] | None) -> Published:
        digest = durable.digest(file)
        intent = _Intent(fence, kind, file.stat().st_size, digest, None if receipt is None else dict(receipt), since)
        for number in range(1, _TRIES):
            final = wanted(number)
            there = content(final)
            own = False
            if there is not None and there != _NO_FILE:
                own = write(partial(_own, fence.job_uuid, final, there, since))
            if there not in {None, digest} and not own:
                continue  # somebody else's file: never overwritten
            artifact: UUID | None = write(partial(intent.record, final))
            if artifact is None:
                continue  # another job, or another file of this attempt, owns this name
            try:
                _deliver(file, final, digest, fence, replace=own, check=still_ours)
            except FileExistsError:
                continue  # somebody took the name in this very moment
            write(partial(_published, fence, artifact, final))
            return Published(final, kind, digest)
        raise OutputInvalid(f"No free name like {wanted(1)} in {_TRIES} tries.")

    return Publisher(put)


@dataclass(frozen=True, slots=True)
class _Intent:
    """A file that is to be published, under a name yet to be found."""

    fence: Fence
    kind: str
    size: int
    digest: str
    receipt: dict[str, Any] | None
    since: int

    def record(self, path: Path, session: Session) -> UUID | None:
        return history.intend(
            session, self.fence, kind=self.kind, path=str(path), size=self.size, blake3=self.digest,
            receipt=self.receipt, since=self.since,
        )  # fmt: skip


def _published(fence: Fence, artifact: UUID, path: Path, session: Session) -> None:
    history.published(session, fence, artifact, str(path))


def content(path: Path) -> str | None:
    """The digest of the file that has a name now; None if nothing has it, other words if that is no file to be read.

    Raises `StorageError` if the disk fails.
    """
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _NO_FILE if path.is_symlink() else None
    except OSError:
        with durable.stored(path):
            raise
    if not stat.S_ISREG(status.st_mode):
        return _NO_FILE
    try:
        return durable.digest(path)
    except SourceMissing:
        return None
    except SourceUnreadable:
        return _SHUT


_OWN = sa.text(
    "SELECT coalesce(bool_or(state = 'published' OR :there IN (blake3, receipt->>:intended)), false) AS own, "
    "coalesce(bool_or(state = 'intent'), false) AS intended FROM artifact "
    "WHERE job_uuid = :job AND lower(path) = lower(:path) AND attempt >= :since"
)


def _own(job_uuid: UUID, path: Path, there: str, since: int, session: Session) -> bool:
    """Whether the file at this path is the same job's: it is on record as published there, or has bytes that once were.

    A name that the job only had, or was about to take, says nothing of who put a file there since.
    """
    found = session.execute(
        _OWN, {"job": job_uuid, "path": str(path), "there": there, "intended": INTENDED, "since": since}
    ).one()
    if there == _SHUT and found.intended and not found.own:
        raise StorageError(f"{path} cannot be read; it may be what an interrupted attempt published.", path=path)
    return bool(found.own)


def _deliver(file: Path, final: Path, digest: str, fence: Fence, *, replace: bool, check: Callable[[], None]) -> None:
    """Copy to the final folder and give it its name. A file that is there already with the same bytes is fine."""
    durable.make_dirs(final.parent)
    if content(final) == digest:
        durable.fsync_dir(final.parent)
        return
    temporary = final.with_name(f".{fence.job_uuid.hex}.{fence.attempt}.part")
    for left in final.parent.glob(f".{fence.job_uuid.hex}.*.part"):
        durable.remove(left, reason="left by an interrupted attempt of this job")
    try:
        durable.copy_to_temporary(file, temporary, digest)
        check()  # a process that slept through its lease must not put older bytes in place of newer ones
        if replace:
            durable.replace(temporary, final)
        else:
            durable.publish(temporary, final)
    finally:
        durable.remove(temporary, reason="not published")
