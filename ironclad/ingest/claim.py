"""The claim: from a file that somebody dropped to a job in the queue, safe against a kill at any moment.

1. The row is inserted in state `received`, with the path and the print (device, inode, size, mtime) of the file.
2. `finish` brings the file into `archive/<job_uuid>/`: one rename on the same file system, a verified copy and then an
   unlink on another one; in the modes copy and link the source stays.
3. The file is hashed where it now is, and the row goes to `queued` (or `skipped`, when the same bytes were there
   before).

Only the row, the source and the archive folder say how far a claim has come, and `finish` does what is missing, so
`recover` after a crash is to call it for every row in `received`. A lock on the archive folder, which dies with its
holder, keeps two processes from working on one claim. Errors that may pass (disk full, storage, database) leave the row
as it is for a later `finish`; errors of the file itself refuse the job visibly, with the file left where it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat as stat_module
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ironclad import durable, log
from ironclad.errors import (
    ConfigError,
    DatabaseUnavailable,
    DiskFull,
    IllegalTransition,
    InputError,
    IroncladError,
    SourceMissing,
    StorageError,
)
from ironclad.ingest.look import Sight, look, open_for_writing
from ironclad.ingest.places import health
from ironclad.jobs import submit
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load, move

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.db.tables import Job
    from ironclad.jobs.submit import NewJob

_NANO = 1_000_000_000
_CANCELLED = sa.text(
    "SELECT job_uuid, archive_name, content_hash FROM job WHERE state = 'cancelled' AND content_hash IS NULL"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far a claim came."""

    job_uuid: UUID
    state: JobState
    """`received`: not finished (see `error`; without one, another process is at it). `cancelled`: see `changed`."""
    error: IroncladError | None = None
    changed: bool = False
    """The file was replaced or changed before it was taken: nothing was touched, and it is to be observed again."""


class _Changed(Exception):
    """The source is not the file that was received."""


def take(database: Database, settings: Settings, new: NewJob) -> Outcome:
    """Claim one file: insert its row, then `finish`.

    Raises:
        AlreadyReceived: the file is a job already.
        SourceMissing: there is no such file.
        DiskFull: it would have to be copied, and the disk floor would be broken. Nothing was done.
        DatabaseUnavailable: it is not certain that the row was inserted; calling again is safe.
    """
    try:
        job_uuid = _receive(database, settings, new)
    except SourceMissing as exc:  # perhaps a watcher took it in this moment: then its job is the only one
        with database.session() as session:
            known = submit.taken(session, new)
        raise (known or exc) from exc
    return finish(database, settings, job_uuid)


def _receive(database: Database, settings: Settings, new: NewJob) -> UUID:
    ensure_room(settings, new.source, new.stat.st_size, new.ingest_mode)
    with database.session() as session:
        job_uuid = submit.receive(session, new, settings).job_uuid
        with durable.translated(new.source):
            new.source.lstat()
    return job_uuid


def is_there(new: NewJob) -> bool:
    """Whether the file is still the one that was seen. Once its row is in, nobody else can have claimed it since."""
    return _key(new.source) == submit.source_key(new.stat)


def ensure_room(settings: Settings, source: Path, size: int, mode: str) -> None:
    """Raise `DiskFull` if the claim has to copy and the copy would break the disk floor. A rename needs no room.

    `StorageError` if the disk does not say.
    """
    archive = settings.layout.archive
    with durable.translated(source):
        device = source.lstat().st_dev
    with durable.stored(archive):
        same = device == durable.nearest(archive).stat().st_dev
    if same and mode in {"move", "link"}:
        return
    free = durable.free_bytes(archive)
    if free - size < settings.disk.min_free_bytes:
        raise DiskFull(f"{archive} has {free} bytes free; copying {source.name!r} needs {size}.", path=archive)


def finish(database: Database, settings: Settings, job_uuid: UUID, *, wait: bool = True) -> Outcome:
    """Do what is missing of one claim. Calling it again, or at the same time elsewhere, does no harm.

    Args:
        database: where the row is.
        settings: the installation.
        job_uuid: the job; in any other state than `received` nothing is done.
        wait: wait for another process that is at it, instead of leaving it to that one.

    Raises:
        DatabaseUnavailable: try again later.
    """
    folder = settings.layout.archive_of(job_uuid)
    try:
        durable.make_dirs(folder)
    except IroncladError as exc:
        return Outcome(job_uuid, JobState.RECEIVED, exc)
    with _locked(folder, wait=wait) as held:
        if not held:
            return Outcome(job_uuid, JobState.RECEIVED)
        with database.session() as session:
            job = load(session, job_uuid)
        if job.state == JobState.CANCELLED and _forgotten(job, folder):
            _remember(database, settings, job, folder)
        if job.state != JobState.RECEIVED:
            return Outcome(job_uuid, JobState(job.state))
        return _conclude(database, settings, job, folder)


def _forgotten(job: Job | sa.Row[Any], folder: Path) -> bool:
    """Whether a job was cancelled while its file was on the way to the archive, or just after."""
    return job.content_hash is None and (folder / job.archive_name).is_file()


def _remember(database: Database, settings: Settings, job: Job, folder: Path, digest: str | None = None) -> None:
    """Write down that a cancelled job has its file: without that it could not be retried, and nobody has the file."""
    try:
        found = digest or _digest(job, folder / job.archive_name, settings)
    except (IroncladError, OSError):
        return  # somebody still writes it; the next `recover` comes by again
    with database.session() as session:
        session.execute(
            sa.text(
                "UPDATE job SET content_hash = :digest "
                "WHERE job_uuid = :job AND state = 'cancelled' AND content_hash IS NULL"
            ),
            {"job": job.job_uuid, "digest": found},
        )


def _conclude(database: Database, settings: Settings, job: Job, folder: Path) -> Outcome:
    job_uuid = job.job_uuid
    try:
        digest = _bring(job, folder, settings)
    except _Changed:
        _withdraw(database, folder, job_uuid)
        return Outcome(job_uuid, JobState.CANCELLED, changed=True)
    except InputError as exc:
        _undo(job, folder)
        refuse(database, settings, job_uuid, exc)
        return Outcome(job_uuid, JobState.FAILED, exc)
    except IroncladError as exc:
        return Outcome(job_uuid, JobState.RECEIVED, exc)
    except OSError as exc:
        return Outcome(job_uuid, JobState.RECEIVED, StorageError(f"{job.source_path}: {exc.strerror}"))
    try:
        with database.session() as session:
            return Outcome(job_uuid, submit.claimed(session, job_uuid, digest))
    except IllegalTransition:  # cancelled by somebody in this very moment; the file stays in the archive
        _remember(database, settings, job, folder, digest)
        with database.session() as session:
            return Outcome(job_uuid, JobState(load(session, job_uuid).state))


def refuse(database: Database, settings: Settings, job_uuid: UUID, error: IroncladError) -> None:
    """The file cannot be claimed: the job fails visibly, and the source may be tried again as another job."""
    with database.session() as session:
        refuse_row(session, job_uuid, error)
    _drop_folder(settings.layout.archive_of(job_uuid))


def refuse_row(session: Session, job_uuid: UUID, error: IroncladError) -> None:
    """`refuse`, of a claim that has not begun, in the caller's transaction."""
    submit.refuse(session, job_uuid, error)
    _release_key(session, job_uuid)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `recover` found and did."""

    finished: tuple[Outcome, ...]
    """Claims that are settled now."""
    pending: tuple[Outcome, ...]
    """Claims that wait for something (an error that may pass, another process): call again later."""


def recover(database: Database, settings: Settings) -> Recovery:
    """Finish every claim that a crash, a full disk or a lost database left in `received`, cancelled since or not."""
    with database.session() as session:
        waiting = list(session.scalars(sa.text("SELECT job_uuid FROM job WHERE state = 'received' ORDER BY job_uuid")))
        cancelled = session.execute(_CANCELLED).all()
    waiting += [row.job_uuid for row in cancelled if _forgotten(row, settings.layout.archive_of(row.job_uuid))]
    outcomes = [_recover_one(database, settings, job_uuid) for job_uuid in waiting]
    return Recovery(
        finished=tuple(o for o in outcomes if o.state is not JobState.RECEIVED),
        pending=tuple(o for o in outcomes if o.state is JobState.RECEIVED),
    )


def _recover_one(database: Database, settings: Settings, job_uuid: UUID) -> Outcome:
    try:
        return finish(database, settings, job_uuid, wait=False)
    except DatabaseUnavailable:
        raise
    except Exception as exc:  # noqa: BLE001 - one claim that cannot be finished must not stop the others
        log.get(job_uuid=str(job_uuid)).error("claim_not_recovered", error=repr(exc))
        return Outcome(job_uuid, JobState.RECEIVED, exc if isinstance(exc, IroncladError) else None)


def _bring(job: Job, folder: Path, settings: Settings) -> str:
    """Get the file into the archive folder, durably, and return its digest."""
    target = folder / job.archive_name
    source = Path(os.fsdecode(job.source_path_raw))
    for left in folder.iterdir():
        if left != target:
            durable.remove(left, reason="the unfinished copy of a claim that was interrupted")
    if target.exists():
        # The rename or the copy was done. Of a copy (or of two names for one file), the source may be left.
        if job.ingest_mode == "move" and _key(source) == job.source_key:
            durable.remove(source, reason=f"moved to {target}", ours=False)
    else:
        _transfer(job, source, target, settings)
    durable.fsync_file(target)
    return _digest(job, target, settings)


def _transfer(job: Job, source: Path, target: Path, settings: Settings) -> None:
    found = _key(source)
    if found is None:
        if job.watch_root is not None:
            device = int((job.source_key or "0").partition(":")[0])
            if not health(Path(job.watch_root), device).known:
                raise StorageError(f"{job.watch_root} cannot be reached, so nothing is known of {job.source_path}.")
        raise SourceMissing(f"{job.source_path}", path=job.source_path)
    if found != job.source_key:
        raise _Changed
    seen = look(source)
    if seen.error is not None:
        raise seen.error
    if seen.sight is Sight.BUSY:
        raise StorageError(f"{job.source_path} is open for writing.", path=source)
    ensure_room(settings, source, job.source_size, job.ingest_mode)
    if job.ingest_mode == "copy":
        durable.copy_verified(source, target)
    elif job.ingest_mode == "link":
        durable.link_or_copy(source, target)
    else:
        durable.move(source, target, ours=False)


def _undo(job: Job, folder: Path) -> None:
    """A file that is refused stays where it was: remove the copy whose source could not be removed."""
    target = folder / job.archive_name
    if target.exists() and _key(Path(os.fsdecode(job.source_path_raw))) == job.source_key:
        durable.remove(target, reason="the source could not be removed, so the job is refused")


def _digest(job: Job, target: Path, settings: Settings) -> str:
    """Hash the file in the archive, which nobody may be writing any more.

    If the file was replaced in the moment before the rename, or a writer kept it open, it is the archive's file that
    grows: it is left there until it is quiet. A copy of ours was compared when it was made.
    """
    before = target.stat()
    device = int((job.source_key or "0").partition(":")[0])
    if job.ingest_mode != "copy" and before.st_dev == device:
        fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            busy = open_for_writing(fd)
        finally:
            os.close(fd)
        quiet = time.time() - before.st_mtime_ns / _NANO
        altered = submit.source_key(before) != job.source_key
        if busy or (altered and 0 <= quiet < settings.ingest.stability_seconds):
            raise StorageError(f"{job.source_path} is still being written although it was taken.", path=target)
    digest = durable.digest(target)
    after = target.stat()
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise StorageError(f"{job.source_path} changed while it was hashed.", path=target)
    return digest


def _key(path: Path) -> str | None:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return submit.source_key(status) if stat_module.S_ISREG(status.st_mode) else ""


def _withdraw(database: Database, folder: Path, job_uuid: UUID) -> None:
    with database.session() as session:
        move(
            session, load(session, job_uuid, lock=True), JobState.CANCELLED, actor="ingest",
            sets={"finished_at": sa.func.ironclad_now()},
            data={"reason": "the file changed before it was taken; it is observed again"},
        )  # fmt: skip
        _release_key(session, job_uuid)
    _drop_folder(folder)


def _release_key(session: Session, job_uuid: UUID) -> None:
    # In the modes copy and link the key of a file stays unique for ever; this file was not taken.
    session.execute(sa.text("UPDATE job SET source_key = NULL WHERE job_uuid = :job"), {"job": job_uuid})


def _drop_folder(folder: Path) -> None:
    if folder.exists() and not any(folder.iterdir()):
        durable.remove_tree(folder, reason="the archive folder of a file that was not taken")


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the claim of one archive folder; yields False if another process has it and `wait` is off."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as exc:
            raise ConfigError(f"{folder} is on a file system without locks: {exc.strerror}", path=folder) from exc
        yield True
    finally:
        os.close(fd)
