"""Publishing: intent in the database, whole file under a temporary name, rename without overwrite, then the fact."""

from __future__ import annotations

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


def publisher(write: Write, fence: Fence) -> Publisher:
    """A publisher for one attempt. `write` runs a call in a transaction of its own."""

    def put(kind: str, file: Path, wanted: Callable[[int], Path], receipt: Mapping[str, Any] | None) -> Published:
        digest = durable.digest(file)
        size = file.stat().st_size
        for number in range(1, _TRIES):
            final = wanted(number)
            own = write(lambda session, final=final: _own_paths(session, fence.job_uuid, final))
            if final.exists() and not own and durable.digest(final) != digest:
                continue  # somebody else's file: never overwritten
            artifact: UUID | None = write(
                lambda session, final=final: history.intend(
                    session, fence, kind=kind, path=str(final), size=size, blake3=digest,
                    receipt=dict(receipt) if receipt is not None else None,
                )
            )  # fmt: skip
            if artifact is None:
                continue  # another job owns this name
            _deliver(file, final, digest, fence, replace=own)
            write(
                lambda session, final=final, artifact=artifact: history.published(session, fence, artifact, str(final))
            )
            return Published(final, kind, digest)
        raise OutputInvalid(f"No free name like {wanted(1)} in {_TRIES} tries.")

    return Publisher(put)


def _own_paths(session: Session, job_uuid: UUID, path: Path) -> bool:
    """Whether the file at this path was written by the same job."""
    return bool(
        session.scalar(
            sa.text("SELECT count(*) FROM artifact WHERE job_uuid = :job AND lower(path) = lower(:path)"),
            {"job": job_uuid, "path": str(path)},
        )
    )


def _deliver(file: Path, final: Path, digest: str, fence: Fence, *, replace: bool) -> None:
    """Copy to the final folder and give it its name. A file that is there already with the same bytes is fine."""
    durable.make_dirs(final.parent)
    if final.exists() and durable.digest(final) == digest:
        durable.fsync_dir(final.parent)
        return
    temporary = final.with_name(f".{fence.job_uuid.hex}.{fence.attempt}.part")
    durable.remove(temporary, reason="left by an interrupted run of this attempt")
    durable.copy_to_temporary(file, temporary, digest)
    try:
        if replace:
            durable.replace(temporary, final)
        else:
            durable.publish(temporary, final)
    finally:
        durable.remove(temporary, reason="not published")
