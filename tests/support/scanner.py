"""Virus scanners for tests: the real clamd with one signature of its own, and a socket that answers what it is told."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ironclad.sandbox import clamd

if TYPE_CHECKING:
    from collections.abc import Iterator

EICAR = clamd._EICAR  # one place that puts it together, so that no scanner takes a file of ours for a virus
DEADLINE = 60.0


def program() -> str | None:
    """Where clamd is, if it is installed."""
    return shutil.which("clamd", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")


@contextlib.contextmanager
def running(**options: str) -> Iterator[Path]:
    """The socket of a real clamd that knows the EICAR signature and nothing else; `options` go into clamd.conf."""
    found = program()
    assert found is not None
    # Of its own: clamd gives up root for an account that cannot enter a private folder.
    with tempfile.TemporaryDirectory(prefix="clam") as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "db").mkdir()
        (folder / "db" / "test.ndb").write_text(f"Eicar-Test:0:0:{EICAR.hex()}\n", encoding="ascii")
        settings = {"LocalSocket": str(folder / "s"), "DatabaseDirectory": str(folder / "db"), "Foreground": "yes"}
        lines = "".join(f"{key} {value}\n" for key, value in {**settings, **options}.items())
        (folder / "clamd.conf").write_text(lines, encoding="utf-8")
        with (folder / "log").open("w", encoding="utf-8") as log:
            daemon = subprocess.Popen([found, "-c", folder / "clamd.conf"], stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + DEADLINE
            while not _answers(folder / "s"):
                assert daemon.poll() is None, (folder / "log").read_text(encoding="utf-8")
                assert time.monotonic() < deadline, (folder / "log").read_text(encoding="utf-8")
                time.sleep(0.05)
            yield folder / "s"
        finally:
            daemon.terminate()
            daemon.wait(DEADLINE)


@contextlib.contextmanager
def saying(reply: bytes, *, reads: int | None = None, hangs: bool = False) -> Iterator[Path]:
    """A socket that answers `reply` to each stream, after reading it all or only so many bytes of it.

    `hangs`: it reads and never answers.
    """
    released = threading.Event()
    with tempfile.TemporaryDirectory(prefix="scan") as name, socket.socket(socket.AF_UNIX) as server:
        path = Path(name, "s")
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client, contextlib.suppress(OSError):
                    _read(client, reads)
                    if hangs:
                        released.wait(DEADLINE)
                    client.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            released.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)


def _read(client: socket.socket, most: int | None) -> None:
    stream = client.makefile("rb")
    if most is not None:
        stream.read(most)
        return
    command = b"".join(iter(lambda: stream.read(1), b"\0"))
    if command == b"zINSTREAM":
        while length := int.from_bytes(stream.read(4), "big"):
            stream.read(length)


def _answers(path: Path) -> bool:
    """Whether somebody listens there: a socket is in its folder a moment before."""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(path))
        return True
    return False
