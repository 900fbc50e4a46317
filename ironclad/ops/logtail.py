"""Reading logs from beside: the lines of a job or a service, and those that are still to come."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ironclad.errors import NotFound
from ironclad.ops import logfile, looking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from ironclad.layout import Layout
    from ironclad.ops.looking import LogLine

_LONGEST: Final = 1 << 20
_AMBIGUOUS: Final = 5


def job_file(layout: Layout, reference: str) -> Path:
    """The log of a job by its id, or the beginning or end of it; needs no database. Raises `NotFound`."""
    wanted = reference.lower()
    folder = layout.logs / "jobs"
    found = [p for p in folder.glob("*.jsonl") if p.stem.startswith(wanted) or p.stem.endswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(f"There is no log of a job {reference} in {folder}; it may not have begun, or was pruned.")
    names = ", ".join(sorted(p.stem for p in found)[:_AMBIGUOUS])
    raise NotFound(f"{reference} may be any of {len(found)} jobs: {names} …")


def service_files(layout: Layout, service: str = "") -> tuple[Path, ...]:
    """The services' logs, or one of them. Raises `NotFound`."""
    files = tuple(sorted(p for p in layout.logs.glob("*.jsonl") if not service or p.stem == service))
    if service and not files:
        known = ", ".join(looking.log_services(layout)) or "none"
        raise NotFound(f"There is no log of {service} in {layout.logs}; there is {known}. Under systemd: journalctl.")
    return files


def last(path: Path, lines: int, level: str) -> list[LogLine]:
    """The last lines of a log that have this level or a worse one, oldest first; also out of its older files."""
    found: list[LogLine] = []
    read = set()
    for one in (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, logfile.KEEP + 1))):
        try:
            status = one.stat()
        except OSError:
            continue
        if status.st_ino in read or len(found) >= lines:
            continue  # it was renamed while we read
        read.add(status.st_ino)
        more = looking.tail(one, lines - len(found), lambda line: looking.worse(line, level), most_bytes=status.st_size)
        found = [*more, *found]
    return found


@dataclass(slots=True)
class Tail:
    """What was appended to a file since the last look; follows it across rotation.

    Args:
        path: the file; it need not be there yet.
        offset: where to begin; its end by default.
    """

    path: Path
    offset: int = -1
    _inode: int = field(default=0, init=False)
    _rest: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        try:
            status = self.path.stat()
        except OSError:
            self.offset = max(0, self.offset)
            return
        self._inode = status.st_ino
        if self.offset < 0:
            self.offset = status.st_size

    def news(self) -> Iterator[LogLine]:
        """The whole lines that came."""
        try:
            file = self.path.open("rb")
        except OSError:
            return
        with file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode:
                yield from self._old()
            if status.st_ino != self._inode or status.st_size < self.offset:
                self._inode, self.offset, self._rest = status.st_ino, 0, b""
            yield from self._read(file)

    def _old(self) -> Iterator[LogLine]:
        """What was written between the last look and the rotation."""
        with contextlib.suppress(OSError), self.path.with_name(f"{self.path.name}.1").open("rb") as file:
            if os.fstat(file.fileno()).st_ino == self._inode:
                yield from self._read(file)

    def _read(self, file: BinaryIO) -> Iterator[LogLine]:
        file.seek(self.offset)
        while data := file.read(_LONGEST):
            self.offset += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from (looking.parse_line(line) for line in lines if line.strip())
