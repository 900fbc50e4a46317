"""Looking at an installation from beside it: services' own health, disk, logs. Changes nothing, never raises."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

from ironclad.ops import directory
from ironclad.ops.health import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from ironclad.layout import Layout

_SECONDS: Final = 2.0
_TAIL_BYTES: Final = 256 << 10
_SEARCH_BYTES: Final = 1 << 20
"""How far back `log` looks, which is asked every few seconds."""
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """One component of a service, as the service tells it."""

    service: str
    component: str
    status: str
    detail: str
    remedy: str
    since: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class FolderSize:
    """A folder of the data folder: what is in it."""

    name: str
    path: str
    files: int
    size: int
    complete: bool
    """False if counting was stopped at its limit."""


@dataclass(frozen=True, slots=True)
class DiskView:
    """The file system of the data folder."""

    path: str
    total: int
    free: int
    floor: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log."""

    at: str
    level: str
    service: str
    job_uuid: str
    event: str
    rest: Mapping[str, Any]


def health(run: Path) -> tuple[ComponentHealth, ...]:
    """What every service announced on this machine says of itself; one that does not answer is `failed`."""
    found: list[ComponentHealth] = []
    for entry in directory.announced(run):
        if not entry.alive:
            found.append(
                ComponentHealth(
                    entry.name, "process", Status.FAILED.value, f"process {entry.pid} has ended",
                    "`ironclad up` restarts it by itself; else start it again.", 0.0,
                )
            )  # fmt: skip
            continue
        found += _answer(entry)
    return tuple(found)


def _answer(entry: directory.Announcement) -> Iterable[ComponentHealth]:
    try:
        data = httpx.get(f"{entry.url}/health", timeout=_SECONDS).json()
        components = [
            ComponentHealth(
                entry.name, str(one["name"]), str(one["status"]), str(one.get("detail", "")),
                str(one.get("remedy", "")), float(one.get("since", 0.0)),
            )
            for one in data["components"]
        ]  # fmt: skip
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as exc:
        detail = f"{entry.url} does not answer: {type(exc).__name__}"
        remedy = f"See logs/{entry.name}.jsonl; `ironclad doctor` tells more."
        return [ComponentHealth(entry.name, "endpoint", Status.FAILED.value, detail, remedy, 0.0)]
    return components or [ComponentHealth(entry.name, "service", str(data.get("status", "ok")), "", "", 0.0)]


def disk(root: Path, floor: int) -> DiskView:
    """The disk under the data folder."""
    try:
        usage = shutil.disk_usage(root)
    except OSError:
        return DiskView(str(root), 0, 0, floor)
    return DiskView(str(root), usage.total, usage.free, floor)


def folders(layout: Layout, *, limit: int = 200_000) -> tuple[FolderSize, ...]:
    """What each folder of the data folder holds; at most `limit` files are looked at in each."""
    names = ("archive", "work", "output", "error", "logs", "cover_art_cache", "orphaned", "backups", "models")
    return tuple(_measured(getattr(layout, name), limit) for name in names)


def _measured(folder: Path, limit: int) -> FolderSize:
    files = size = 0
    for base, _, names in os.walk(folder):
        for name in names:
            if files >= limit:
                return FolderSize(folder.name, str(folder), files, size, complete=False)
            with contextlib.suppress(OSError):
                size += os.lstat(f"{base}/{name}").st_size
            files += 1
    return FolderSize(folder.name, str(folder), files, size, complete=True)


def job_folders(layout: Layout) -> tuple[str, ...]:
    """The names of the folders in work/ and archive/."""
    found: set[str] = set()
    for folder in (layout.work, layout.archive):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            found.update(entry.name for entry in entries if entry.is_dir())
    return tuple(sorted(found))


def tail(
    path: Path, lines: int = 200, keep: Callable[[LogLine], bool] | None = None, *, most_bytes: int = _TAIL_BYTES
) -> tuple[LogLine, ...]:
    """The last lines of a JSON log, oldest first; lines that are no JSON become events of level `output`.

    Args:
        path: the log.
        lines: at most.
        keep: which lines count; every line by default.
        most_bytes: how far back to look for them.
    """
    found: deque[LogLine] = deque()
    try:
        with path.open("rb") as file:
            for raw in _backwards(file, most_bytes):
                if len(found) >= lines:
                    break
                if not raw.strip():
                    continue
                line = parse_line(raw)
                if keep is None or keep(line):
                    found.appendleft(line)
    except OSError:
        return ()
    return tuple(found)


def _backwards(file: BinaryIO, most_bytes: int) -> Iterator[bytes]:
    """The lines of a file, the last one first; read in blocks, so that the end of a large one costs little."""
    end = file.seek(0, os.SEEK_END)
    least = max(0, end - most_bytes)
    rest = b""
    while end > least:
        begin = max(least, end - _TAIL_BYTES)
        file.seek(begin)
        rest, *whole = (file.read(end - begin) + rest).split(b"\n")
        yield from reversed(whole)
        end = begin
    if least == 0:
        yield rest


def worse(line: LogLine, level: str) -> bool:
    """Whether a line has this level or a worse one; a job's own lines have none and count always. "" is any level."""
    return not level or line.level not in _LEVELS or _LEVELS.index(line.level) >= _LEVELS.index(level)


def parse_line(raw: bytes) -> LogLine:
    """A line of a log; one that is no JSON becomes an event of level `output`."""
    text = raw.decode("utf-8", "replace")
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        return LogLine("", "output", "", "", text, {})
    rest = {k: v for k, v in data.items() if k not in {"at", "level", "service", "job_uuid", "event"}}
    return LogLine(
        str(data.get("at", "")), str(data.get("level", "info")), str(data.get("service", "")),
        str(data.get("job_uuid", "")), str(data.get("event", "")), rest,
    )  # fmt: skip


def log(layout: Layout, *, service: str = "", level: str = "", job: str = "", lines: int = 300) -> tuple[LogLine, ...]:
    """The last lines of the services' logs together, oldest first.

    Args:
        layout: the data folder.
        service: of this service only.
        level: of this level or a worse one.
        job: about this job only: its id, or the end of it.
        lines: at most.
    """
    found: list[LogLine] = []

    def wanted(line: LogLine) -> bool:
        return worse(line, level) and (not job or line.job_uuid.endswith(job))

    for path in sorted(layout.logs.glob("*.jsonl")):
        if service and path.stem != service:
            continue
        found += tail(path, lines, wanted, most_bytes=_SEARCH_BYTES)
    return tuple(sorted(found, key=lambda line: line.at)[-lines:])


def log_services(layout: Layout) -> tuple[str, ...]:
    """The services that have a log."""
    return tuple(sorted(path.stem for path in layout.logs.glob("*.jsonl")))
