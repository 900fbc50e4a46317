"""A child's output: JSON lines in a file of its own, rotated by size, and the last lines in memory."""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 16 << 20
KEEP: Final = 3
_TAIL_LINES = 40
_LONGEST_LINE = 64 << 10


class ChildLog:
    """Takes bytes as they come out of a pipe. A log that cannot be written never stops anything: it has gaps.

    Args:
        path: the file (`logs/NAME.jsonl`); older ones get `.1`, `.2` … appended.
        service: for lines that are not JSON (tracebacks, libraries' prints), which are wrapped.
        max_bytes: size at which a new file is begun.
        keep: older files that are kept.
    """

    def __init__(self, path: Path, service: str, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        self._path = path
        self._named = {"service": service, "host": socket.gethostname()}
        self._max_bytes = max_bytes
        self._keep = keep
        self._pending = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._fd: int | None = None
        self._size = 0

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._tail)

    def clear_tail(self) -> None:
        """Forget the lines of an earlier process."""
        self._tail.clear()

    def write(self, data: bytes) -> None:
        """Take some output."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > _LONGEST_LINE:
            lines.append(self._pending)
            self._pending = b""
        if lines:
            self._append(b"".join(self._formatted(line) for line in lines if line.strip()))

    def flush(self) -> None:
        """The process ended: what it left without a newline is a line, too."""
        if self._pending:
            self.write(b"\n")

    def close(self) -> None:
        """Close the file."""
        self.flush()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _formatted(self, line: bytes) -> bytes:
        text = line.decode("utf-8", "replace").rstrip("\r")
        self._tail.append(text)
        if text.startswith("{") and text.endswith("}"):
            return line + b"\n"
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return json.dumps({"event": text, "level": "output", **self._named, "at": at}).encode() + b"\n"

    def _append(self, data: bytes) -> None:
        try:
            if self._fd is not None and self._size + len(data) > self._max_bytes:
                self._rotate()
            if self._fd is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o640)
                self._size = os.fstat(self._fd).st_size
            self._size += os.write(self._fd, data)
        except OSError:
            return

    def _rotate(self) -> None:
        # Logs are ours and replaceable, so this is no matter for durable.py.
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._keep + 1))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)
