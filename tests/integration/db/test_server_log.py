"""The embedded server's log stays within bounds while the server writes."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

import psycopg
import pytest

from ironclad.config import load
from ironclad.db import serverlog
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.ops.housekeeper import Housekeeper

if TYPE_CHECKING:
    from pathlib import Path


def logs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("server.log*")}


def test_older_logs_move_on_and_the_oldest_goes(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / "server.log").write_bytes(b"%d" % number * 20)
        assert serverlog.rotate(tmp_path, max_bytes=10, keep=3)
    assert logs(tmp_path) == {
        "server.log": b"", "server.log.1": b"5" * 20, "server.log.2": b"4" * 20, "server.log.3": b"3" * 20,
    }  # fmt: skip


def test_a_small_one_and_none_are_left_alone(tmp_path: Path) -> None:
    assert not serverlog.rotate(tmp_path)
    (tmp_path / "server.log").write_bytes(b"x" * 10)
    assert not serverlog.rotate(tmp_path, max_bytes=10)
    assert logs(tmp_path) == {"server.log": b"x" * 10}


def test_a_log_that_cannot_be_copied_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "server.log").write_bytes(b"x" * 20)
    monkeypatch.setattr("shutil.copyfile", full)
    assert not serverlog.rotate(tmp_path, max_bytes=10)
    assert logs(tmp_path)["server.log"] == b"x" * 20


def test_the_server_goes_on_writing_into_the_file_that_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path / "data")})
    server = EmbeddedServer(settings.layout.postgres, {"fsync": "off"})
    server.start()
    database = Database(server.url())
    try:
        log = server.folder / "server.log"
        inode = log.stat().st_ino

        def complain(word: str) -> None:
            with psycopg.connect(database.dsn, autocommit=True) as connection, pytest.raises(psycopg.Error):
                connection.execute(f'SELECT "{word}"')  # type: ignore[call-overload]  # a statement of ours

        complain("before_the_cut")
        monkeypatch.setattr(serverlog.rotate, "__kwdefaults__", {"max_bytes": 10, "keep": 3})
        Housekeeper(database, settings).step()
        assert log.stat().st_size == 0
        assert b"before_the_cut" in (server.folder / "server.log.1").read_bytes()
        complain("after_the_cut")
        text = log.read_bytes()
        assert b"after_the_cut" in text
        assert b"\0" not in text  # written at the new end, not where the old one was
        assert log.stat().st_ino == inode
        assert os.access(log, os.W_OK)
    finally:
        database.close()
        server.stop()
        server.release()
