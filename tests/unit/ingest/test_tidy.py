from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ironclad.ingest.tidy import QUIET_SECONDS, Tidy


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "ana" / "Artist" / "Album"
    folder.mkdir(parents=True)
    return folder


def test_emptied_folders_go_after_an_hour_but_the_users_stays(tmp_path: Path, album: Path) -> None:
    tidy = Tidy(tmp_path, keep_first=True)
    tidy.emptied("ana/Artist/Album/1.mp3")
    later = album.stat().st_mtime + QUIET_SECONDS
    assert tidy.run(later - 1) == []
    assert album.exists()
    assert tidy.run(later) == ["ana/Artist/Album"]
    # The artist's folder has just changed, so its own hour begins.
    again = (tmp_path / "ana" / "Artist").stat().st_mtime + QUIET_SECONDS
    assert tidy.run(again) == ["ana/Artist"]
    assert (tmp_path / "ana").exists()
    assert tidy.run(again * 2) == []


def test_a_folder_with_anything_in_it_stays(tmp_path: Path, album: Path) -> None:
    (album / "cover.jpg").write_bytes(b"x")
    tidy = Tidy(tmp_path, keep_first=True)
    tidy.emptied("ana/Artist/Album/1.mp3")
    assert tidy.run(album.stat().st_mtime + 2 * QUIET_SECONDS) == []
    assert album.exists()


def test_folders_that_nobody_took_anything_from_stay(tmp_path: Path, album: Path) -> None:
    tidy = Tidy(tmp_path, keep_first=True)
    tidy.emptied("ana/1.mp3")
    assert tidy.run(album.stat().st_mtime + 2 * QUIET_SECONDS) == []
    assert album.exists()


def test_with_a_user_of_its_own_the_roots_folders_are_albums(tmp_path: Path, album: Path) -> None:
    album.rmdir()
    tidy = Tidy(tmp_path, keep_first=False)
    tidy.emptied("ana/Artist/1.mp3")
    far = album.parent.stat().st_mtime + 10 * QUIET_SECONDS
    assert tidy.run(far) == ["ana/Artist", "ana"]
    assert tmp_path.exists()


def test_a_folder_that_is_gone_is_forgotten(tmp_path: Path, album: Path) -> None:
    tidy = Tidy(tmp_path, keep_first=True)
    tidy.emptied("ana/Artist/Album/1.mp3")
    album.rmdir()
    far = album.parent.stat().st_mtime + QUIET_SECONDS
    assert tidy.run(far) == ["ana/Artist"]


def test_a_disk_that_fails_is_asked_again_later(tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rmdir(_path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    tidy = Tidy(tmp_path, keep_first=True)
    tidy.emptied("ana/Artist/Album/1.mp3")
    later = album.stat().st_mtime + 2 * QUIET_SECONDS
    with monkeypatch.context() as broken:
        broken.setattr(Path, "rmdir", rmdir)
        assert tidy.run(later) == []
    assert tidy.run(later) == ["ana/Artist/Album", "ana/Artist"]
