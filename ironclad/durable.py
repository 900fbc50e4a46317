"""The only module that renames, links, fsyncs or deletes a user's files.

Every function either completes durably (file data and folder entries are on disk when it returns) or leaves what was
there. `recording()` collects the effects in order, so that tests can replay every crash and every legal loss.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import re
import secrets
import shutil
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from ironclad.errors import DiskFull, OutputInvalid, SourceMissing, SourceUnreadable, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK = 1 << 20
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_TEMPORARY = re.compile(r"\.[0-9a-f]{16,32}\.(\d+\.)?(tmp|part|gone)")
_STAYS = {errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EBUSY, errno.EROFS, errno.ENOTDIR}
_NO_NOREPLACE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


@dataclass(frozen=True, slots=True)
class Effect:
    """One durable operation: `op` is write, fsync, fsync_dir, rename, link, unlink or mkdir."""

    op: str
    path: Path
    target: Path | None = None


_trace: ContextVar[list[Effect] | None] = ContextVar("durable_trace", default=None)


@contextlib.contextmanager
def recording() -> Iterator[list[Effect]]:
    """Collect every effect of this context in order."""
    effects: list[Effect] = []
    token = _trace.set(effects)
    try:
        yield effects
    finally:
        _trace.reset(token)


def _note(op: str, path: Path, target: Path | None = None) -> None:
    effects = _trace.get()
    if effects is not None:
        effects.append(Effect(op, path, target))


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn `OSError` about `path` into the catalogue's entry: disk full, missing, unreadable or storage error."""
    try:
        yield
    except FileNotFoundError as exc:
        raise SourceMissing(f"{path}", path=path) from exc
    except PermissionError as exc:
        raise SourceUnreadable(f"{path}: {exc.strerror}", path=path) from exc
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(f"{path}: {exc.strerror}", path=path) from exc
        raise StorageError(f"{path}: {exc.strerror}", path=path, errno=exc.errno) from exc


@contextlib.contextmanager
def stored(path: Path) -> Iterator[None]:
    """As `translated`, for files of ours: what is missing or forbidden here is the storage's fault, not a source's."""
    try:
        with translated(path):
            yield
    except (SourceMissing, SourceUnreadable) as exc:
        reason = exc.__cause__.strerror if isinstance(exc.__cause__, OSError) else None
        raise StorageError(f"{path}: {reason}" if reason else exc.detail, path=path) from exc


def _beside(path: Path, suffix: str) -> Path:
    """A hidden name in the same folder that no process and no thread has used; short, however long `path`'s is."""
    return path.with_name(f".{secrets.token_hex(8)}.{suffix}")


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is unfinished work of ours: left by a crash, or in the making just now."""
    return _TEMPORARY.fullmatch(name) is not None


def fsync_file(path: Path) -> None:
    """Flush a file's data and size to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    _note("fsync", path)


def fsync_dir(path: Path) -> None:
    """Flush a folder's entries to disk (file systems without it, such as some network mounts, are tolerated)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(fd)
    _note("fsync_dir", path)


def make_dirs(path: Path) -> None:
    """Create a folder and its parents; each new entry is flushed in its parent."""
    with stored(path):
        there = nearest(path)
        missing = list(itertools.takewhile(lambda folder: folder != there, (path, *path.parents)))
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
            _note("mkdir", folder)
            fsync_dir(folder.parent)
        if not path.is_dir():
            raise StorageError(f"{path} is not a folder", path=path)


def digest(path: Path) -> str:
    """BLAKE3 of a file's bytes, in hex."""
    with translated(path):
        hasher = blake3()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
        return hasher.hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a small file so that readers see the old bytes or the new ones, never a part."""
    temporary = _beside(path, "tmp")
    with stored(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _note("write", temporary)
            _note("fsync", temporary)
            temporary.replace(path)
            _note("rename", temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_dir(path.parent)


def _rename_noreplace(source: Path, target: Path) -> None:
    """Rename unless the target exists; raises FileExistsError."""
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is not None:
        if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
            _note("rename", source, target)
            return
        code = ctypes.get_errno()
        if code not in _NO_NOREPLACE:
            raise OSError(code, os.strerror(code), str(source), None, str(target))
    try:  # a file system without RENAME_NOREPLACE (some FUSE and network mounts): a hard link refuses as well
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        # Neither is there (exFAT, some SMB). One publisher per path is guaranteed by the artifact row's unique path.
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
        source.rename(target)
        _note("rename", source, target)
        return
    _note("link", source, target)
    source.unlink()
    _note("unlink", source)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its final name: fsync, rename without overwrite, fsync the folder.

    Raises FileExistsError when `final` exists (the caller compares digests), else catalogue errors.
    """
    if temporary.parent != final.parent:
        raise ValueError("the temporary file must be in the final folder")
    try:
        fsync_file(temporary)
        _rename_noreplace(temporary, final)
        fsync_dir(final.parent)
    except FileExistsError:
        raise
    except OSError:
        with stored(final):
            raise


def replace(temporary: Path, final: Path) -> None:
    """As `publish`, but an older file of ours under that name is replaced in one step. Raises catalogue errors."""
    with stored(final):
        fsync_file(temporary)
        temporary.replace(final)
        _note("rename", temporary, final)
        fsync_dir(final.parent)


def copy_to_temporary(source: Path, temporary: Path, expected: str) -> None:
    """Copy a file of ours under a temporary name; raises `OutputInvalid` unless the bytes have the digest expected."""
    with stored(temporary):
        hasher = blake3()
        with source.open("rb") as reader, temporary.open("xb") as writer:
            while chunk := reader.read(_CHUNK):
                hasher.update(chunk)
                writer.write(chunk)
        _note("write", temporary)
    if hasher.hexdigest() != expected:
        raise OutputInvalid(f"{source} changed before it was published", path=source)


def commit_folder(temporary: Path, final: Path, *, check: Callable[[], None] = lambda: None) -> None:
    """Make a finished folder visible under its final name: fsync every file and folder in it, then rename.

    An existing `final` (an older result of the same stage) is moved aside first and removed afterwards. `check` is
    called right before the first rename, and may raise: flushing can take so long that the right to do it is gone.
    """
    with stored(final):
        for base, _folders, files in os.walk(temporary, topdown=False):
            for name in files:
                fsync_file(Path(base, name))
            fsync_dir(Path(base))
        aside = _beside(final, "gone")
        check()
        if final.exists():
            final.rename(aside)
            _note("rename", final, aside)
        temporary.rename(final)
        _note("rename", temporary, final)
        fsync_dir(final.parent)
        if aside.exists():
            shutil.rmtree(aside)
            _note("unlink", aside)


def copy_verified(source: Path, target: Path) -> str:
    """Copy a file under a temporary name, fsync, read it back, compare digests, rename without overwrite.

    Returns the BLAKE3 digest. The source is untouched. Raises FileExistsError if `target` exists, `OutputInvalid` if
    the copy differs, and catalogue errors.
    """
    temporary = _beside(target, "part")
    try:
        hasher = blake3()
        with translated(source):
            reader = source.open("rb")
        with reader, stored(target):
            before = os.fstat(reader.fileno())
            with temporary.open("xb") as writer:
                while chunk := reader.read(_CHUNK):
                    hasher.update(chunk)
                    writer.write(chunk)
                writer.flush()
                os.fsync(writer.fileno())
            after = os.fstat(reader.fileno())
        _note("write", temporary)
        _note("fsync", temporary)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise OutputInvalid(f"{source} changed while it was copied", path=source)
        if digest(temporary) != hasher.hexdigest():
            raise OutputInvalid(f"the copy of {source} reads back differently", path=source)
        publish(temporary, target)
        return hasher.hexdigest()
    finally:
        temporary.unlink(missing_ok=True)


def _version(path: Path) -> tuple[int, ...] | None:
    """What tells one version of a file from another; None if there is none."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return None


def move(source: Path, target: Path, *, ours: bool = True) -> None:
    """Move a file to a free name: one rename on the same file system, else verified copy then unlink.

    Raises FileExistsError if `target` exists, `OutputInvalid` if the source changed before it could be removed (then
    nothing was moved), and catalogue errors: what is missing or forbidden is the storage's
    fault, and may be tried again, unless the file is a user's (not `ours`) and its new folder is not to blame.
    """
    try:
        _rename_noreplace(source, target)
    except FileExistsError:
        raise
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            theirs = not ours and os.access(target.parent, os.W_OK | os.X_OK)
            with translated(source) if theirs else stored(source if ours else target):
                raise
        before = _version(source)
        try:
            copy_verified(source, target)
        except (SourceMissing, SourceUnreadable) as failed:
            if ours:
                raise StorageError(failed.detail, path=source) from failed
            raise
        if not target.exists():
            raise StorageError(f"{target} went away", path=target) from exc
        if _version(source) not in {before, None}:  # reading the copy back takes its time: what came since stays
            remove(target, reason="another file has taken the name of the one that was copied")
            raise OutputInvalid(f"{source} changed while it was copied", path=source) from exc
        remove(source, reason=f"moved to {target}", ours=ours)
        return
    with stored(target):
        fsync_dir(target.parent)
        if source.parent != target.parent:
            fsync_dir(source.parent)


def move_folder(source: Path, target: Path) -> None:
    """Move a folder of ours to a free name, on one file system or across. Raises FileExistsError, catalogue errors."""
    try:
        _rename_noreplace(source, target)
    except FileExistsError:
        raise
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            with stored(target):
                raise
        copied = _beside(target, "part")
        with stored(target):
            shutil.copytree(source, copied, symlinks=True)
            _note("write", copied)
        commit_folder(copied, target)
        remove_tree(source, reason=f"moved to {target}")
        return
    with stored(target):
        fsync_dir(target.parent)
        fsync_dir(source.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same bytes: hard link where possible, else verified copy. Raises FileExistsError."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        copy_verified(source, target)
        return
    _note("link", source, target)
    with translated(target):
        fsync_file(target)
        fsync_dir(target.parent)


def remove(path: Path, *, reason: str, ours: bool = True) -> None:
    """Delete one file (a missing one is fine) and flush its folder. `reason` is for the caller's job event.

    A file of `ours` that cannot be deleted is the storage's fault, and may be tried again; a user's is the user's.
    """
    if not reason:
        raise ValueError("a deletion needs a reason")
    with stored(path) if ours else translated(path):
        path.unlink(missing_ok=True)
        _note("unlink", path)
        if path.parent.exists():
            fsync_dir(path.parent)


def remove_tree(path: Path, *, reason: str) -> None:
    """Delete a folder of ours with all in it (a missing one is fine); nobody ever sees a part of it under its name."""
    if not reason:
        raise ValueError("a deletion needs a reason")
    with stored(path):
        if path.exists():
            gone = _beside(path, "gone")
            path.rename(gone)
            _note("rename", path, gone)
            shutil.rmtree(gone)
            _note("unlink", gone)
            fsync_dir(path.parent)


def remove_empty_folder(path: Path) -> bool:
    """Delete a folder if there is nothing in it. False, with nothing done, if there is or if it may not be deleted.

    Raises `StorageError` if the disk fails: then nobody knows, and it is to be tried again.
    """
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError as exc:
        if exc.errno in _STAYS:
            return False
        with stored(path):
            raise
    _note("unlink", path)
    with stored(path):
        fsync_dir(path.parent)
    return True


def nearest(path: Path) -> Path:
    """`path` if it is there, else the nearest folder above it. Raises `StorageError` if the disk does not say."""
    with stored(path):
        for place in (path, *path.parents):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                place.stat()
                return place
    raise StorageError(f"{path} and every folder above it are gone", path=path)


def free_bytes(path: Path) -> int:
    """Free bytes for an ordinary user on the file system that holds `path`, or will. Raises `StorageError`."""
    with stored(path):
        return shutil.disk_usage(nearest(path)).free


def free_inodes(path: Path) -> int | None:
    """Files that an ordinary user may still make there; None where their number is not fixed. Raises `StorageError`."""
    with stored(path):
        status = os.statvfs(nearest(path))
    return status.f_favail if status.f_files else None
