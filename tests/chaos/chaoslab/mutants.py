"""Seeded bugs. A harness that does not catch every one of them proves nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ironclad import durable
from ironclad.jobs import history, lease
from ironclad.stages import keeper, leavings, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def commit_before_publish() -> None:
    """The database says `published` before the file has its name."""

    def publisher(write: Any, fence: Any, _check: Any, **_: Any) -> Any:
        def put(kind: str, file: Path, wanted: Callable[[int], Path], receipt: Mapping[str, Any] | None) -> Any:
            final, digest = wanted(1), durable.digest(file)
            own = bool(
                write(lambda session: publish._own(fence.job_uuid, final, publish.content(final) or "", 0, session))
            )
            artifact = write(
                lambda session: history.intend(
                    session, fence, kind=kind, path=str(final), size=file.stat().st_size, blake3=digest, receipt=None
                )
            )
            write(lambda session: history.published(session, fence, artifact, str(final)))
            publish._deliver(file, final, digest, fence, replace=own, check=lambda: None)
            return publish.Published(final, kind, digest)

        return publish.Publisher(put)

    from ironclad.stages import runner  # noqa: PLC0415 - patched where it is used

    runner.publisher = publisher  # type: ignore[assignment]  # the seeded bug


def in_place_write() -> None:
    """The final name is written piece by piece."""

    def deliver(file: Path, final: Path, digest: str, fence: Any, *, replace: bool, **_: Any) -> None:
        durable.make_dirs(final.parent)
        data = file.read_bytes()
        fd = os.open(final, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for start in range(0, len(data), 4096):
            os.write(fd, data[start : start + 4096])
        os.fsync(fd)
        os.close(fd)
        durable._note("write", final)
        durable._note("fsync", final)
        durable.fsync_dir(final.parent)

    publish._deliver = deliver


def no_file_fsync() -> None:
    """A file's bytes are never flushed."""
    durable.fsync_file = lambda _path: None
    note = durable._note
    durable._note = lambda op, *rest: None if op == "fsync" else note(op, *rest)


def no_folder_fsync() -> None:
    """A folder's entries are never flushed."""
    durable.fsync_dir = lambda _path: None


def source_removed_first() -> None:
    """A copy to another file system is not flushed before its source is deleted."""

    def move(source: Path, target: Path, **_: Any) -> None:
        data = source.read_bytes()
        durable.remove(source, reason="moved")
        target.write_bytes(data)
        durable._note("write", target)
        durable.fsync_file(target)
        durable.fsync_dir(target.parent)

    durable.move = move


def unfenced_finish() -> None:
    """Writes of an attempt do not ask whether it still has the lease."""

    def held(session: Any, fence: Any) -> None:
        return None

    for module in (lease, history):
        module.assert_held = held  # type: ignore[attr-defined]  # the seeded bug
    lease.end_attempt = _unfenced_end
    keeper.LeaseKeeper.check = lambda _self: None  # type: ignore[method-assign]  # nor does it stop by itself


def _unfenced_end(session: Any, job: Any, to: Any, *, actor: str, error: Any, **rest: Any) -> Any:
    import sqlalchemy as sa  # noqa: PLC0415 - this bug only

    # As queues do that finish by job id and state: whoever says "done" while it runs is believed.
    session.execute(
        sa.text(
            "UPDATE attempt SET ended_at = ironclad_now(), outcome = :to WHERE job_uuid = :job AND ended_at IS NULL"
        ),
        {"job": job.job_uuid, "to": to.value},
    )
    session.execute(
        sa.text(
            "UPDATE job SET state = :to, lease_token = NULL, lease_expires_at = NULL, "
            "not_before = ironclad_now(), finished_at = ironclad_now() WHERE job_uuid = :job AND state = 'running'"
        ),
        {"job": job.job_uuid, "to": to.value},
    )
    return lease.load(session, job.job_uuid)


def removal_before_record() -> None:
    """What goes from the library is on record afterwards only."""
    sweep = leavings.sweep

    def swept(context: Any, root: Path) -> list[str]:
        said: list[tuple[str, Any]] = []
        removed = sweep(replace(context, note=lambda kind, data: said.append((kind, data))), root)
        for kind, data in said:
            context.note(kind, data)
        return removed

    leavings.sweep = swept


MUTANTS: dict[str, Callable[[], None]] = {
    "commit-before-publish": commit_before_publish,
    "in-place-write": in_place_write,
    "no-file-fsync": no_file_fsync,
    "no-folder-fsync": no_folder_fsync,
    "removal-before-record": removal_before_record,
    "source-removed-first": source_removed_first,
    "unfenced-finish": unfenced_finish,
}
