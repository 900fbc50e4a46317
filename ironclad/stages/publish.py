"""Publishing: intent in the database, whole file under a temporary name, rename without overwrite, then the fact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ironclad import durable
from ironclad.errors import OutputInvalid
from ironclad.jobs import history
from ironclad.stages.context import Published, Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.jobs.lease import Fence

    Write = Callable[[Callable[[Session], Any]], Any]

_TRIES = 1000


def publisher(write: Write, fence: Fence, check: Callable[[], None] = lambda: None, *, since: int = 0) -> Publisher:
    """A publisher for one attempt.

    Args:
        write: runs a call in a transaction of its own.
        fence: the attempt.
        check: raises if the attempt must end.
        since: the job's files of earlier attempts are left as they are, as if they were somebody else's.
    """

    def put(kind: str, file: Path, wanted: Callable[[int], Path], receipt: Mapping[str, Any] | None) -> Published:
        digest = durable.digest(file)
        intent = _Intent(fence, kind, file.stat().st_size, digest, None if receipt is None else dict(receipt), since)
        for number in range(1, _TRIES):
            final = wanted(number)
            own = write(partial(_own_path, fence.job_uuid, final, since))
            if final.exists() and not own and durable.digest(final) != digest:
                continue  # somebody else's file: never overwritten
            artifact: UUID | None = write(partial(intent.record, final))
            if artifact is None:
                continue  # another job owns this name
            _deliver(file, final, digest, fence, replace=own, check=check)
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


def _own_path(job_uuid: UUID, path: Path, since: int, session: Session) -> bool:
    """Whether the file at this path was written by the same job."""
    return bool(
        session.scalar(
            sa.text(
                "SELECT count(*) FROM artifact WHERE job_uuid = :job AND lower(path) = lower(:path) "
                "AND attempt >= :since"
            ),
            {"job": job_uuid, "path": str(path), "since": since},
        )
    )


def _deliver(file: Path, final: Path, digest: str, fence: Fence, *, replace: bool, check: Callable[[], None]) -> None:
    """Copy to the final folder and give it its name. A file that is there already with the same bytes is fine."""
    durable.make_dirs(final.parent)
    if final.exists() and durable.digest(final) == digest:
        durable.fsync_dir(final.parent)
        return
    temporary = final.with_name(f".{fence.job_uuid.hex}.{fence.attempt}.part")
    for left in final.parent.glob(f".{fence.job_uuid.hex}.*.part"):
        durable.remove(left, reason="left by an interrupted attempt of this job")
    durable.copy_to_temporary(file, temporary, digest)
    try:
        check()  # a process that slept through its lease must not put older bytes in place of newer ones
        if replace:
            durable.replace(temporary, final)
        else:
            durable.publish(temporary, final)
    finally:
        durable.remove(temporary, reason="not published")
