"""durable.py: each operation completes durably or leaves what was there, and says which effects in which order."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ironclad import durable
from ironclad.errors import (
    DiskFull,
    IroncladError,
    OutputInvalid,
    SourceMissing,
    SourceUnreadable,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHM = Path("/dev/shm")


def ops(effects: list[durable.Effect]) -> list[str]:
    return [effect.op for effect in effects]


def put(path: Path, data: bytes = b"data") -> Path:
    path.write_bytes(data)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def other_device(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    if not SHM.is_dir() or SHM.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    folder = Path(tempfile.mkdtemp(prefix="ironclad-", dir=SHM))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """`fail("fsync", errno.EIO)` makes a call of `os` fail from now on."""

    def begin(name: str, code: int) -> None:
        def failing(*_args: Any, **_kwargs: Any) -> Any:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, name, failing)

    return begin


# --- errors in the catalogue's words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "source", "ours"),
    [
        (errno.ENOENT, SourceMissing, StorageError),
        (errno.EACCES, SourceUnreadable, StorageError),
        (errno.EPERM, SourceUnreadable, StorageError),
        (errno.ENOSPC, DiskFull, DiskFull),
        (errno.EDQUOT, DiskFull, DiskFull),
        (errno.EIO, StorageError, StorageError),
        (errno.EROFS, StorageError, StorageError),
        (errno.ENAMETOOLONG, StorageError, StorageError),
    ],
)
def test_an_oserror_becomes_an_entry(code: int, source: type[IroncladError], ours: type[IroncladError]) -> None:
    for translate, entry in ((durable.translated, source), (durable.stored, ours)):
        with pytest.raises(IroncladError) as caught, translate(Path("/a/b")):
            raise OSError(code, os.strerror(code))
        assert type(caught.value) is entry
        assert caught.value.context["path"] == Path("/a/b")
        assert "/a/b" in str(caught.value)
        assert entry is SourceMissing or os.strerror(code) in str(caught.value)


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(DiskFull, match="mine"), durable.translated(Path("/a")):
        raise DiskFull("mine")
    with pytest.raises(ValueError, match="bug"), durable.stored(Path("/a")):
        raise ValueError("bug")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(
    "call",
    [
        lambda f: durable.write_atomic(f / "new", b"x"),
        lambda f: durable.publish(f / "a", f / "final"),
        lambda f: durable.replace(f / "a", f / "final"),
        lambda f: durable.copy_verified(f / "a", f / "copy"),
        lambda f: durable.commit_folder(f / "folder", f / "done"),
        lambda f: durable.make_dirs(f / "x" / "y"),
        lambda f: durable.link_or_copy(f / "a", f / "linked"),
        lambda f: durable.move(f / "a", f / "moved"),
    ],
    ids=["write_atomic", "publish", "replace", "copy_verified", "commit_folder", "make_dirs", "link_or_copy", "move"],
)
def test_a_flush_that_fails_is_told(
    tmp_path: Path, fail: Callable[[str, int], None], call: Callable[[Path], Any], code: int
) -> None:
    put(tmp_path / "a")
    (tmp_path / "folder").mkdir()
    put(tmp_path / "folder" / "b")
    fail("fsync", code)
    with pytest.raises(DiskFull if code == errno.ENOSPC else StorageError):
        call(tmp_path)
    assert not [name for name in names(tmp_path) if name.startswith(".")]  # no half file is left behind


def test_the_source_is_never_at_risk(tmp_path: Path, fail: Callable[[str, int], None]) -> None:
    source = put(tmp_path / "a", b"precious")
    fail("fsync", errno.EIO)
    for call in (durable.copy_verified, durable.move, durable.link_or_copy):
        with pytest.raises(StorageError):
            call(source, tmp_path / "target")
        survivor = source if source.exists() else tmp_path / "target"
        assert survivor.read_bytes() == b"precious"
        if survivor != source:
            survivor.rename(source)
        (tmp_path / "target").unlink(missing_ok=True)


# --- small files -----------------------------------------------------------------------------------------------------


def test_an_atomic_write_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with durable.recording() as effects:
        durable.write_atomic(path, b"one")
    assert ops(effects) == ["write", "fsync", "rename", "fsync_dir"]
    assert (effects[2].target, effects[3].path) == (path, tmp_path)
    durable.write_atomic(path, b"two")
    assert (path.read_bytes(), names(tmp_path)) == (b"two", ["file"])


def test_an_atomic_write_that_fails_leaves_the_old_bytes(tmp_path: Path, fail: Callable[[str, int], None]) -> None:
    path = put(tmp_path / "file", b"old")
    fail("replace", errno.ENOSPC)
    with pytest.raises(DiskFull):
        durable.write_atomic(path, b"new")
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["file"])


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    longest = tmp_path / ("🎵" * 63)  # 252 bytes
    durable.write_atomic(longest, b"x")
    durable.copy_verified(longest, tmp_path / ("é" * 127))
    assert len(names(tmp_path)) == 2


def test_threads_may_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 1000 for number in range(8)]
    threads = [threading.Thread(target=durable.write_atomic, args=(path, data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["file"]


def test_writing_into_a_missing_folder_is_our_storages_fault(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        durable.write_atomic(tmp_path / "none" / "file", b"x")


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.lists(st.binary(max_size=3000), min_size=1, max_size=4))
def test_what_was_written_last_is_read(tmp_path: Path, data: list[bytes]) -> None:
    path = tmp_path / "file"
    for content in data:
        durable.write_atomic(path, content)
    assert path.read_bytes() == data[-1]
    assert durable.digest(path) == blake3(data[-1]).hexdigest()
    assert names(tmp_path) == ["file"]


# --- folders ---------------------------------------------------------------------------------------------------------


def test_new_folders_are_flushed_in_their_parents(tmp_path: Path) -> None:
    with durable.recording() as effects:
        durable.make_dirs(tmp_path / "a" / "b")
    assert [(effect.op, effect.path) for effect in effects] == [
        ("mkdir", tmp_path / "a"), ("fsync_dir", tmp_path),
        ("mkdir", tmp_path / "a" / "b"), ("fsync_dir", tmp_path / "a"),
    ]  # fmt: skip
    with durable.recording() as effects:
        durable.make_dirs(tmp_path / "a" / "b")
    assert effects == []


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(StorageError, match="a"):
            durable.make_dirs(path)


def test_a_link_to_nowhere_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="not a folder"):
        durable.make_dirs(tmp_path / "link")


def test_folders_made_by_two_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    threads = [threading.Thread(target=durable.make_dirs, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.is_dir()


def test_a_finished_folder_in_its_order(tmp_path: Path) -> None:
    temporary, final = tmp_path / "stage.tmp", tmp_path / "stage"
    (temporary / "sub").mkdir(parents=True)
    put(temporary / "a")
    put(temporary / "sub" / "b")
    with durable.recording() as effects:
        durable.commit_folder(temporary, final)
    rename = ops(effects).index("rename")
    flushed = {effect.path for effect in effects[:rename]}
    assert flushed == {temporary, temporary / "sub", temporary / "a", temporary / "sub" / "b"}
    assert [(effect.op, effect.path) for effect in effects[rename:]] == [("rename", temporary), ("fsync_dir", tmp_path)]
    assert (final / "sub" / "b").read_bytes() == b"data"


def test_an_older_folder_gives_way(tmp_path: Path) -> None:
    final = tmp_path / "stage"
    for number in range(3):
        temporary = tmp_path / f"stage.{number}.tmp"
        temporary.mkdir()
        put(temporary / f"file-{number}")
        durable.commit_folder(temporary, final)
    assert names(tmp_path) == ["stage"]
    assert names(final) == ["file-2"]


def test_a_folder_left_aside_by_a_crash_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container every process has the same number."""
    for left in (f"stage.old.{os.getpid()}", "stage"):
        (tmp_path / left).mkdir()
        put(tmp_path / left / "x")
    (tmp_path / "new").mkdir()
    durable.commit_folder(tmp_path / "new", tmp_path / "stage")
    assert names(tmp_path / "stage") == []


# --- publish, replace ------------------------------------------------------------------------------------------------


def test_a_publication_in_its_order(tmp_path: Path) -> None:
    temporary, final = put(tmp_path / ".x.part"), tmp_path / "song.flac"
    with durable.recording() as effects:
        durable.publish(temporary, final)
    assert [(effect.op, effect.path, effect.target) for effect in effects] == [
        ("fsync", temporary, None), ("rename", temporary, final), ("fsync_dir", tmp_path, None),
    ]  # fmt: skip
    assert names(tmp_path) == ["song.flac"]


def test_a_publication_overwrites_nothing(tmp_path: Path) -> None:
    temporary, final = put(tmp_path / ".x.part", b"new"), put(tmp_path / "song.flac", b"old")
    with pytest.raises(FileExistsError):
        durable.publish(temporary, final)
    assert (temporary.read_bytes(), final.read_bytes()) == (b"new", b"old")


def test_a_publication_stays_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="final folder"):
        durable.publish(tmp_path / "a", tmp_path / "sub" / "a")


def test_nothing_to_publish_is_our_storages_fault(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        durable.publish(tmp_path / "none", tmp_path / "final")


def test_a_replacement_is_one_step(tmp_path: Path) -> None:
    temporary, final = put(tmp_path / ".x.part", b"new"), put(tmp_path / "song.flac", b"old")
    with durable.recording() as effects:
        durable.replace(temporary, final)
    assert ops(effects) == ["fsync", "rename", "fsync_dir"]
    assert (final.read_bytes(), names(tmp_path)) == (b"new", ["song.flac"])


class NoRename:
    """A C library whose renameat2 does not know the flag (some FUSE and network file systems)."""

    def __init__(self, code: int) -> None:
        self._code = code

    def renameat2(self, *_arguments: Any) -> int:
        durable.ctypes.set_errno(self._code)
        return -1


@pytest.fixture
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable.ctypes, "CDLL", lambda *_a, **_k: NoRename(errno.EINVAL))


def test_a_simple_file_system_publishes_by_a_link(tmp_path: Path, simple: None) -> None:
    temporary, final = put(tmp_path / ".x.part"), tmp_path / "final"
    with durable.recording() as effects:
        durable.publish(temporary, final)
    assert ops(effects) == ["fsync", "link", "unlink", "fsync_dir"]
    assert names(tmp_path) == ["final"]
    with pytest.raises(FileExistsError):
        durable.publish(put(tmp_path / ".y.part", b"new"), final)
    assert final.read_bytes() == b"data"


def test_the_simplest_one_by_a_rename_after_a_look(
    tmp_path: Path, simple: None, fail: Callable[[str, int], None]
) -> None:
    fail("link", errno.EPERM)
    temporary, final = put(tmp_path / ".x.part"), tmp_path / "final"
    with durable.recording() as effects:
        durable.publish(temporary, final)
    assert ops(effects) == ["fsync", "rename", "fsync_dir"]
    with pytest.raises(FileExistsError):
        durable.publish(put(tmp_path / ".y.part", b"new"), final)
    assert final.read_bytes() == b"data"


def test_an_old_c_library_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable.ctypes, "CDLL", lambda *_a, **_k: object())
    durable.publish(put(tmp_path / ".x.part"), tmp_path / "final")
    assert names(tmp_path) == ["final"]


# --- copies and moves ------------------------------------------------------------------------------------------------


def test_a_copy_is_compared_and_the_source_kept(tmp_path: Path) -> None:
    source = put(tmp_path / "a", b"x" * 3_000_000)
    with durable.recording() as effects:
        found = durable.copy_verified(source, tmp_path / "b")
    assert found == blake3(source.read_bytes()).hexdigest()
    assert ops(effects) == ["write", "fsync", "fsync", "rename", "fsync_dir"]
    assert names(tmp_path) == ["a", "b"]
    with pytest.raises(FileExistsError):
        durable.copy_verified(source, tmp_path / "b")
    assert names(tmp_path) == ["a", "b"]


def test_a_copy_that_reads_back_differently_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "digest", lambda _path: "another")
    with pytest.raises(OutputInvalid, match="reads back differently"):
        durable.copy_verified(put(tmp_path / "a"), tmp_path / "b")
    assert names(tmp_path) == ["a"]


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(tmp_path / "a")
    flush = os.fsync

    def fsync(fd: int) -> None:
        put(source, b"longer than before")
        flush(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OutputInvalid, match="changed while"):
        durable.copy_verified(source, tmp_path / "b")
    assert names(tmp_path) == ["a"]


def test_whose_fault_a_failed_copy_is(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        durable.copy_verified(tmp_path / "none", tmp_path / "b")
    with pytest.raises(StorageError):
        durable.copy_verified(put(tmp_path / "a"), tmp_path / "none" / "b")


def test_a_copy_for_publication_must_be_what_was_made(tmp_path: Path) -> None:
    source = put(tmp_path / "a")
    digest = blake3(b"data").hexdigest()
    durable.copy_to_temporary(source, tmp_path / ".t", digest)
    assert (tmp_path / ".t").read_bytes() == b"data"
    with pytest.raises(StorageError):
        durable.copy_to_temporary(source, tmp_path / ".t", digest)  # a left-over is never written over
    with pytest.raises(OutputInvalid, match="changed before"):
        durable.copy_to_temporary(source, tmp_path / ".u", "another")


def test_a_move_is_one_rename(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    source, target = put(tmp_path / "in" / "a"), tmp_path / "out" / "b"
    with durable.recording() as effects:
        durable.move(source, target)
    assert [(effect.op, effect.path) for effect in effects] == [
        ("rename", source), ("fsync_dir", tmp_path / "out"), ("fsync_dir", tmp_path / "in"),
    ]  # fmt: skip
    assert target.read_bytes() == b"data"
    with pytest.raises(FileExistsError):
        durable.move(put(source, b"new"), target)
    assert (source.read_bytes(), target.read_bytes()) == (b"new", b"data")


def test_a_move_to_another_device_copies_then_deletes(tmp_path: Path, other_device: Path) -> None:
    source, target = put(tmp_path / "a", b"x" * 100_000), other_device / "b"
    with durable.recording() as effects:
        durable.move(source, target)
    assert ops(effects) == ["write", "fsync", "fsync", "rename", "fsync_dir", "unlink", "fsync_dir"]
    assert (source.exists(), target.read_bytes()) == (False, b"x" * 100_000)
    put(source, b"new")
    with pytest.raises(FileExistsError):
        durable.move(source, target)
    assert (source.read_bytes(), names(other_device)) == (b"new", ["b"])


@pytest.mark.parametrize("how", ["written", "replaced"])
def test_what_comes_under_the_name_while_a_copy_is_read_back_stays(
    tmp_path: Path, other_device: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    source, target = put(tmp_path / "a"), other_device / "b"
    read_back = durable.digest

    def late(path: Path) -> str:
        put(source, b"the next one") if how == "written" else put(tmp_path / "c", b"the next one").replace(source)
        return read_back(path)

    monkeypatch.setattr(durable, "digest", late)
    with pytest.raises(OutputInvalid, match="changed while"):
        durable.move(source, target, ours=False)
    assert (source.read_bytes(), names(other_device)) == (b"the next one", [])


def test_a_source_whose_copy_was_taken_away_stays(
    tmp_path: Path, other_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = put(tmp_path / "a"), other_device / "b"
    publish = durable.publish

    def taken(temporary: Path, final: Path) -> None:
        publish(temporary, final)
        final.unlink()

    monkeypatch.setattr(durable, "publish", taken)
    with pytest.raises(StorageError, match="went away"):
        durable.move(source, target)
    assert source.read_bytes() == b"data"


def test_a_source_that_went_away_after_it_was_copied_was_moved(
    tmp_path: Path, other_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = put(tmp_path / "a"), other_device / "b"
    publish = durable.publish

    def taken(temporary: Path, final: Path) -> None:
        publish(temporary, final)
        source.unlink()

    monkeypatch.setattr(durable, "publish", taken)
    durable.move(source, target)
    assert target.read_bytes() == b"data"


def test_a_link_to_another_device_is_a_copy(tmp_path: Path, other_device: Path) -> None:
    source = put(tmp_path / "a")
    durable.link_or_copy(source, other_device / "b")
    assert (other_device / "b").read_bytes() == source.read_bytes() == b"data"


def test_whose_fault_a_failed_move_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceMissing):
        durable.move(tmp_path / "none", tmp_path / "b", ours=False)
    with pytest.raises(StorageError):
        durable.move(tmp_path / "none", tmp_path / "b")
    source = put(tmp_path / "a")
    for ours in (True, False):
        with pytest.raises(StorageError):
            durable.move(source, tmp_path / "none" / "b", ours=ours)

    def forbidden(_source: Path, _target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(durable, "_rename_noreplace", forbidden)
    with pytest.raises(SourceUnreadable):
        durable.move(source, tmp_path / "b", ours=False)
    with pytest.raises(StorageError):  # an attempt is tried again; its job does not end for it
        durable.move(source, tmp_path / "b")
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    with pytest.raises(StorageError):
        durable.move(source, tmp_path / "b", ours=False)


def test_a_copy_of_ours_that_cannot_be_read_is_the_storages_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(_source: Path, _target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(durable, "_rename_noreplace", across)
    with pytest.raises(SourceMissing):
        durable.move(tmp_path / "none", tmp_path / "b", ours=False)
    with pytest.raises(StorageError) as told:
        durable.move(tmp_path / "none", tmp_path / "b")
    assert told.value.retryable


def test_a_link_is_a_second_name(tmp_path: Path) -> None:
    source = put(tmp_path / "a")
    with durable.recording() as effects:
        durable.link_or_copy(source, tmp_path / "b")
    assert ops(effects) == ["link", "fsync", "fsync_dir"]
    assert (tmp_path / "b").samefile(source)
    with pytest.raises(FileExistsError):
        durable.link_or_copy(source, tmp_path / "b")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.binary(max_size=5000), way=st.sampled_from(["copy", "move", "link"]), occupied=st.booleans())
def test_bytes_arrive_or_nothing_changes(tmp_path: Path, data: bytes, way: str, occupied: bool) -> None:  # noqa: FBT001 - drawn
    for left in tmp_path.iterdir():
        left.unlink()
    source, target = put(tmp_path / "source", data), tmp_path / "target"
    if occupied:
        put(target, b"older")
    call = {"copy": durable.copy_verified, "move": durable.move, "link": durable.link_or_copy}[way]
    if occupied:
        with pytest.raises(FileExistsError):
            call(source, target)
        assert (source.read_bytes(), target.read_bytes()) == (data, b"older")
    else:
        call(source, target)
        assert target.read_bytes() == data
        assert source.exists() == (way != "move")
    assert set(names(tmp_path)) <= {"source", "target"}


# --- removal ---------------------------------------------------------------------------------------------------------


def test_a_removal_needs_a_reason_and_is_flushed(tmp_path: Path) -> None:
    path = put(tmp_path / "a")
    for remove in (durable.remove, durable.remove_tree):
        with pytest.raises(ValueError, match="reason"):
            remove(path, reason="")
    with durable.recording() as effects:
        durable.remove(path, reason="test")
    assert [(effect.op, effect.path) for effect in effects] == [("unlink", path), ("fsync_dir", tmp_path)]
    durable.remove(path, reason="again")
    durable.remove(tmp_path / "none" / "a", reason="not even its folder")


def test_a_tree_is_removed_whole(tmp_path: Path) -> None:
    (tmp_path / "t" / "sub").mkdir(parents=True)
    put(tmp_path / "t" / "sub" / "a")
    with durable.recording() as effects:
        durable.remove_tree(tmp_path / "t", reason="test")
    assert (ops(effects)[-2:], names(tmp_path)) == (["unlink", "fsync_dir"], [])
    durable.remove_tree(tmp_path / "t", reason="again")


def test_only_an_empty_folder_is_removed(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    put(tmp_path / "full" / "a")
    (tmp_path / "empty").mkdir()
    assert not durable.remove_empty_folder(tmp_path / "full")
    assert durable.remove_empty_folder(tmp_path / "empty")
    assert durable.remove_empty_folder(tmp_path / "empty")
    assert names(tmp_path) == ["full"]


@pytest.mark.parametrize(
    ("code", "known"), [(errno.EACCES, True), (errno.EBUSY, True), (errno.EIO, False), (errno.ESTALE, False)]
)
def test_a_folder_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, *, known: bool
) -> None:
    def rmdir(_path: Path) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(Path, "rmdir", rmdir)
    if known:
        assert not durable.remove_empty_folder(tmp_path / "empty")
    else:
        with pytest.raises(StorageError):
            durable.remove_empty_folder(tmp_path / "empty")


# --- looking ---------------------------------------------------------------------------------------------------------


def test_a_digest_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        durable.digest(tmp_path / "none")
    with pytest.raises(StorageError):
        durable.digest(tmp_path)


def test_a_folder_that_cannot_be_flushed_is_tolerated(tmp_path: Path, fail: Callable[[str, int], None]) -> None:
    fail("fsync", errno.EINVAL)
    durable.fsync_dir(tmp_path)
    fail("fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        durable.fsync_dir(tmp_path)


def test_free_space_of_what_will_be_there(tmp_path: Path) -> None:
    before = shutil.disk_usage(tmp_path).free
    found = durable.free_bytes(tmp_path / "not" / "yet")
    after = shutil.disk_usage(tmp_path).free  # others write and delete meanwhile
    assert min(before, after) - (1 << 30) < found < max(before, after) + (1 << 30)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("ask", [durable.free_bytes, durable.free_inodes])
def test_a_disk_that_does_not_say_how_full_it_is(
    tmp_path: Path, fail: Callable[[str, int], None], code: int, ask: Callable[[Path], object]
) -> None:
    fail("statvfs", code)
    with pytest.raises(StorageError, match=os.strerror(code)) as raised:
        ask(tmp_path / "not" / "yet")
    assert raised.value.context["path"] == tmp_path / "not" / "yet"


def test_what_cannot_be_looked_at_is_not_taken_for_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the free space of the disk below a dead mount would be told for the mount's."""
    file, mount = put(tmp_path / "file"), tmp_path / "mount"
    mount.mkdir()
    assert durable.nearest(mount / "a" / "b") == mount
    assert durable.nearest(file / "a") == file
    stat = Path.stat

    def failing(path: Path, **how: Any) -> os.stat_result:
        if path == mount:
            raise OSError(errno.EIO, "the disk is away")
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", failing)
    for work in (durable.nearest, durable.free_bytes, durable.make_dirs):
        with pytest.raises(StorageError, match="the disk is away"):
            work(mount / "a")
    assert list(mount.iterdir()) == []


def test_effects_are_recorded_only_inside(tmp_path: Path) -> None:
    with durable.recording() as effects:
        pass
    durable.write_atomic(tmp_path / "a", b"x")
    assert effects == []
