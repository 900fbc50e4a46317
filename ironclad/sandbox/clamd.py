"""ClamAV's daemon, asked over its Unix socket whether a file is harmful.

An answer has more values than two: a file that was not read whole is neither clean nor infected. The daemon's defaults
make that easy to get wrong: beyond `MaxFileSize` or `MaxScanSize` (100 MB and 400 MB) it says OK to what it never
looked at, unless `AlertExceedsMax` is set. So nothing above `max_bytes` is believed, and `self_test` shows that a known
signature is found in a stream of that very size.

The protocol is `INSTREAM` of clamd(8): chunks, each behind its length as four bytes, big end first, ended by an empty
one. Bytes are sent, not paths: the daemon needs no right to our files, and may live in another container.
"""

from __future__ import annotations

import contextlib
import enum
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ironclad import durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_CHUNK: Final = 1 << 18
_REPLY_BYTES: Final = 1 << 16
_STREAM: Final = "stream: "
# The EICAR test file (eicar.org), in two halves so that no scanner takes this file for it.
_EICAR: Final = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE!$H+H*"


class Verdict(enum.StrEnum):
    """What is known of a file after a scan."""

    CLEAN = "clean"
    INFECTED = "infected"
    BEYOND = "beyond"
    """It is larger than the scanner reads, or holds more: nothing is known, and asking again would not help."""
    UNSCANNED = "unscanned"
    """The scanner failed: nothing is known yet."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The answer for one file."""

    verdict: Verdict
    detail: str = ""
    """The signature's name, or why the file could not be scanned."""


@dataclass(frozen=True, slots=True)
class Clamd:
    """A daemon.

    Args:
        path: its socket.
        seconds: how long one file may take.
        max_bytes: the largest file of which an answer is believed.
    """

    path: Path
    seconds: float = 120.0
    max_bytes: int = 100 << 20

    def scan(self, file: Path, *, check: Callable[[], None] = lambda: None) -> Scan:
        """Ask about a file. `check` is called between chunks and may raise to end it.

        Raises:
            SourceMissing, SourceUnreadable, StorageError: the file cannot be read.
        """
        with durable.translated(file):
            size = file.stat().st_size
            if size > self.max_bytes:
                return Scan(Verdict.BEYOND, f"it has {size} bytes; the scanner reads {self.max_bytes}")
            with file.open("rb") as stream:
                return self._ask(_pieces(file, stream.fileno(), check))

    def version(self) -> str:
        """The daemon's and its signatures' version; raises `OSError` where none answers."""
        with self._connected() as daemon:
            daemon.sendall(b"zVERSION\0")
            return _reply(daemon)

    def self_test(self) -> str:
        """Why the daemon cannot be relied upon; empty if it finds the EICAR signature in a small and a largest file."""
        for size in (len(_EICAR), self.max_bytes):
            found = self._ask(_test_file(size))
            if found.verdict in {Verdict.UNSCANNED, Verdict.BEYOND}:
                return f"a test file of {size} bytes was not scanned: {found.detail}"
            if found.verdict is Verdict.CLEAN:
                return f"it says OK to a test file of {size} bytes that holds the EICAR signature"
        return ""

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
            daemon.settimeout(self.seconds)
            daemon.connect(os.fspath(self.path))
            yield daemon

    def _ask(self, pieces: Iterable[bytes]) -> Scan:
        deadline = time.monotonic() + self.seconds
        try:
            with self._connected() as daemon:
                # A daemon that has seen enough stops reading and says why: its answer counts, not our broken pipe.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    daemon.sendall(b"zINSTREAM\0")
                    for piece in pieces:
                        if time.monotonic() > deadline:
                            return Scan(Verdict.UNSCANNED, f"it took longer than {self.seconds:g} s")
                        daemon.sendall(struct.pack("!L", len(piece)) + piece)
                    daemon.sendall(struct.pack("!L", 0))
                daemon.settimeout(max(0.001, deadline - time.monotonic()))
                return _verdict(_reply(daemon))
        except TimeoutError:
            return Scan(Verdict.UNSCANNED, f"the scanner did not answer within {self.seconds:g} s")
        except OSError as exc:
            return Scan(Verdict.UNSCANNED, f"the scanner at {self.path} does not answer: {exc.strerror or exc}")


def _pieces(file: Path, fd: int, check: Callable[[], None]) -> Iterator[bytes]:
    while True:
        check()
        with durable.translated(file):
            piece = os.read(fd, _CHUNK)
        if not piece:
            return
        yield piece


def _test_file(size: int) -> Iterator[bytes]:
    yield _EICAR
    left = size - len(_EICAR)
    blank = bytes(_CHUNK)
    while left > 0:
        yield blank[:left]
        left -= _CHUNK


def _reply(daemon: socket.socket) -> str:
    reply = bytearray()
    while b"\0" not in reply and len(reply) < _REPLY_BYTES:
        got = daemon.recv(_REPLY_BYTES)
        if not got:
            break
        reply += got
    return reply.partition(b"\0")[0].decode("utf-8", "replace").strip()


def _verdict(reply: str) -> Scan:
    answer = reply.removeprefix(_STREAM)
    if reply.startswith(_STREAM) and answer == "OK":
        return Scan(Verdict.CLEAN)
    if reply.startswith(_STREAM) and answer.endswith(" FOUND"):
        name = answer.removesuffix(" FOUND")
        # With AlertExceedsMax, a limit is told like a virus; it is none.
        return Scan(Verdict.BEYOND if name.startswith("Heuristics.Limits.Exceeded") else Verdict.INFECTED, name)
    if "size limit exceeded" in answer:
        return Scan(Verdict.BEYOND, "it is larger than the scanner's StreamMaxLength")
    return Scan(Verdict.UNSCANNED, answer[:200] or "the scanner gave no answer")
