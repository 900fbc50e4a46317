"""Waking a worker on the same host when there is something for it, so that it need not ask often.

A worker binds a datagram socket in the services' run folder; whoever creates a flow run sends one empty datagram to
each worker of the pool. Losing one costs at most one query interval: asking stays the truth, waking is a hint.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIX = ".wake"
_DATAGRAM = 16


def _prefix(pool: str) -> str:
    return f"worker-{pool}-"


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A short name for a folder, as a socket's path may have 107 bytes only."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


class WakeSocket:
    """A worker's end, for an event loop's reader.

    Args:
        folder: the run folder.
        pool: the work pool that is served.
    """

    def __init__(self, folder: Path, pool: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{_prefix(pool)}{os.getpid()}{_SUFFIX}"
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with _short(folder) as short:
            self._socket.bind(f"{short}/{self._path.name}")
        self._path.chmod(0o600)

    def fileno(self) -> int:
        """The descriptor to watch for reading."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Take everything that has arrived."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(_DATAGRAM)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def wake(folder: Path, pool: str) -> int:
    """Wake this host's workers of a pool; returns how many. Never blocks or raises; clears what dead ones left."""
    woken = 0
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as ours, _short(folder) as short:
        for entry in folder.glob(f"{_prefix(pool)}*{_SUFFIX}"):
            if not entry.name.removeprefix(_prefix(pool)).removesuffix(_SUFFIX).isdigit():
                continue  # another pool, whose name begins alike
            try:
                ours.sendto(b"", f"{short}/{entry.name}")
                woken += 1
            except BlockingIOError:
                woken += 1  # its buffer is full of wake-ups
            except ConnectionRefusedError:
                entry.unlink(missing_ok=True)
            except OSError:
                continue
    return woken
