from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ironclad.ingest.look import Sight, look, open_for_writing

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_that_nobody_writes_is_ready(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"abc")
    with path.open("rb"):
        found = look(path)
    assert found.sight is Sight.READY
    assert found.status is not None
    assert found.status.st_size == 3


def test_a_file_that_is_open_for_writing_is_busy_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    with path.open("wb") as file:
        file.write(b"abc")
        file.flush()
        assert look(path).sight is Sight.BUSY
    assert look(path).sight is Sight.READY


def test_the_look_leaves_nothing_behind_that_stops_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"abc")
    fd = os.open(path, os.O_RDONLY)
    try:
        assert not open_for_writing(fd)
        with path.open("ab") as file:  # would block for the lease-break time if the lease were still held
            file.write(b"d")
        with path.open("ab"):
            assert open_for_writing(fd)
    finally:
        os.close(fd)


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    assert look(tmp_path / "none").sight is Sight.MISSING
    (tmp_path / "file").touch()
    assert look(tmp_path / "file" / "below").sight is Sight.MISSING
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert look(tmp_path / "link").sight is Sight.OTHER
    assert look(tmp_path).sight is Sight.OTHER
    os.mkfifo(tmp_path / "pipe")
    assert look(tmp_path / "pipe").sight is Sight.OTHER  # and does not wait for a writer


def test_a_storage_error_is_told(tmp_path: Path) -> None:
    found = look(tmp_path / ("x" * 300))
    assert found.sight is Sight.FAILED
    assert found.error is not None
    assert found.error.code == "E_STORAGE"
