"""Which services there are, where each answers, and how they find each other: `run/NAME.json`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from ironclad import durable, processes
from ironclad.errors import AlreadyRunning, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ironclad.config import Settings

SUPERVISOR: Final = "supervisor"
WORKER_PREFIX: Final = "worker-"

OFFSETS: Final[Mapping[str, int]] = {
    SUPERVISOR: 0,
    "watch": 1,
    "dispatch": 2,
    "worker-cpu": 3,
    "worker-gpu": 4,
    "prefect": 5,
    "notify": 6,
    "api": 7,
    "postgres": 8,
}
"""Port of each service's health and metrics endpoint, counted from services.base_port."""

_OTHER_POOLS = 16  # workers of further pools come after room for new services, in the order of their names


def worker(pool: str) -> str:
    """The name of the worker service of a pool."""
    return f"{WORKER_PREFIX}{pool}"


def port_of(name: str, settings: Settings) -> int:
    """The port of a service's endpoint; 0 (any free one) where `services.base_port` is 0. Raises `NotFound`."""
    offset = OFFSETS.get(name)
    if offset is None:
        others = sorted(worker(pool) for pool in settings.pools if worker(pool) not in OFFSETS)
        if name not in others:
            known = ", ".join([*OFFSETS, *others])
            raise NotFound(f"There is no service {name}; there is {known}.")
        offset = _OTHER_POOLS + others.index(name)
    base = settings.services.base_port
    return base + offset if base else 0


def hold(run: Path, name: str) -> int:
    """Lock `run/NAME.lock` for as long as the returned descriptor is open: one such service on a data folder.

    Raises `AlreadyRunning` with the holder's process id.
    """
    fd = os.open(run / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise AlreadyRunning(f"{name} runs as process {holder or 'unknown'}.", pid=holder) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where a running service is; the content of `run/NAME.json`."""

    name: str
    pid: int
    identity: str
    host: str
    port: int
    supervisor: int | None = None
    """The process id of the `ironclad up` that started it."""

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return processes.identity(self.pid) == self.identity

    @property
    def url(self) -> str:
        """The endpoint's address as seen from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def announce(run: Path, name: str, host: str, port: int, supervisor: int | None = None) -> Announcement:
    """Write this process's `run/NAME.json`."""
    pid = os.getpid()
    announcement = Announcement(name, pid, processes.identity(pid) or "", host, port, supervisor)
    durable.make_dirs(run)
    durable.write_atomic(run / f"{name}.json", json.dumps(asdict(announcement)).encode())
    return announcement


def withdraw(run: Path, announcement: Announcement) -> None:
    """Remove `run/NAME.json`, unless a successor has written its own already."""
    if find(run, announcement.name) == announcement:
        durable.remove(run / f"{announcement.name}.json", reason="the service stopped")


def find(run: Path, name: str) -> Announcement | None:
    """The last announcement of a service, whether it still runs or not."""
    try:
        data = json.loads((run / f"{name}.json").read_text(encoding="utf-8"))
        return Announcement(**data)
    except (OSError, ValueError, TypeError):
        return None


def announced(run: Path) -> list[Announcement]:
    """Every announcement in the run folder, in the order of the services' names."""
    found: list[Announcement] = []
    with contextlib.suppress(OSError):
        for path in sorted(run.glob("*.json")):
            announcement = find(run, path.stem)
            if announcement is not None:
                found.append(announcement)
    return found
