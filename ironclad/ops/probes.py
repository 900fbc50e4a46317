"""What a service needs, looked at every few seconds: disk, open files, Prefect, the engine, the GPU.

A probe is a plain function that says how something is; it never waits longer than its own time-out. What it says goes
to the service's health board, and a change of it into the table `health_event`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ironclad import durable, log
from ironclad.errors import DiskFull, IroncladError, PrefectUnavailable, StorageError
from ironclad.ops import fronts
from ironclad.ops.disk import space
from ironclad.ops.health import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.config import Settings
    from ironclad.engines.choice import Engine
    from ironclad.ops.health import HealthBoard

EVERY_SECONDS: Final = 5.0
STORAGE: Final = "storage"
PREFECT: Final = "prefect api"
"""Components that several services have."""
_FEW_INODES: Final = 10_000
_FULL: Final = 0.8
_PREFECT_SECONDS: Final = 2.0
_PREFECT_REMEDY: Final = (
    "The queue waits, and goes on by itself. See `ironclad run prefect`, logs/prefect.jsonl and prefect.api_url."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How something is."""

    status: Status
    detail: str = ""
    remedy: str = ""


GOOD: Final = Verdict(Status.OK)


class Prober:
    """Runs probes in a thread of its own until stopped. Start it when the service begins; it reports at once.

    Args:
        health: where.
        probes: by the name of their component.
        every_seconds: between two rounds.
    """

    def __init__(
        self, health: HealthBoard, probes: Mapping[str, Callable[[], Verdict]], every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._health = health
        self._probes = probes
        self._every = every_seconds

    def run(self, stopping: threading.Event) -> None:
        """Probe until `stopping`."""
        while True:
            for name, probe in self._probes.items():
                self._health.report(name, *_of(name, probe))
            if stopping.wait(self._every):
                return

    def start(self, stopping: threading.Event) -> None:
        """Probe in a thread until `stopping`."""
        threading.Thread(target=self.run, args=(stopping,), name="probes", daemon=True).start()


def _of(name: str, probe: Callable[[], Verdict]) -> tuple[Status, str, str]:
    try:
        verdict = probe()
    except IroncladError as exc:
        verdict = Verdict(Status.FAILED, exc.detail or exc.what(), exc.hint)
    except Exception as exc:  # noqa: BLE001 - a probe that breaks is a finding, not the end of probing
        log.get().exception("probe_failed", probe=name)
        verdict = Verdict(Status.DEGRADED, f"cannot be told: {type(exc).__name__}: {exc}", "Please report this.")
    return verdict.status, verdict.detail, verdict.remedy


class DiskProbe:
    """The data folder can be written and has room; the floor with the same hysteresis as the switch of the queue."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._low = False

    def __call__(self) -> Verdict:
        """Look at it."""
        layout = self._settings.layout
        try:
            for folder in (layout.work, layout.archive, layout.output):
                if folder.exists() and (problem := _unwritable(folder)):
                    return Verdict(Status.FAILED, f"{folder} {problem}", StorageError.hint)
            found = space(layout, self._settings.disk.min_free_bytes)
            inodes = durable.free_inodes(found.path)
        except OSError as exc:
            return Verdict(Status.FAILED, f"{layout.root}: {exc.strerror}", StorageError.hint)
        self._low = found.low(was_low=self._low)
        if self._low:
            detail = f"{found.path} has {found.free_bytes} bytes free, fewer than {found.floor_bytes}"
            return Verdict(Status.DEGRADED, detail, DiskFull.hint)
        if inodes is not None and inodes < _FEW_INODES:
            remedy = "Delete many small files, or use a file system with more inodes."
            return Verdict(Status.DEGRADED, f"{found.path} has room for {inodes} more files", remedy)
        return GOOD


def _unwritable(folder: Path) -> str | None:
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "is on a file system that is read-only"
    return None if os.access(folder, os.W_OK | os.X_OK) else "may not be written by this user"


def descriptors() -> Verdict:
    """How many files this process has open, of those that it may."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    if used > _FULL * limit:
        remedy = "Raise the limit: LimitNOFILE= in the unit, or ulimit -n; then restart the service."
        return Verdict(Status.DEGRADED, f"{used} of {limit} files are open", remedy)
    return GOOD


class PrefectProbe:
    """The Prefect API answers.

    Args:
        settings: where it is.
        otherwise: how bad it is if not.
    """

    def __init__(self, settings: Settings, otherwise: Status) -> None:
        self._settings = settings
        self._otherwise = otherwise
        self._ping: Callable[[], None] | None = None

    def __call__(self) -> Verdict:
        """Ask."""
        try:
            if self._ping is None:
                self._ping = fronts.load("prefect-executor").pinger(self._settings, _PREFECT_SECONDS)
            self._ping()
        except PrefectUnavailable as exc:
            return Verdict(self._otherwise, exc.detail, _PREFECT_REMEDY)
        return GOOD


class EngineProbe:
    """The settings' engine has its environment and its model, with the bytes that it is pinned to.

    A model's bytes are read again only when its files look changed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: Engine | None = None
        self._good: object = None

    def __call__(self) -> Verdict:
        """Look. Raises the catalogue's errors, which say what to do."""
        from ironclad.engines import choice, environments  # noqa: PLC0415 - loads the plugins, in workers only

        layout = self._settings.layout
        if self._engine is None:
            chosen = choice.choose(self._settings)
            self._engine = choice.of_job(layout, chosen.engine, chosen.parameters)
        environments.required(layout, self._engine.spec)
        now = _fingerprint(layout.models / self._engine.spec.name / self._engine.model)
        if now is None or now != self._good:
            self._good = None
            # Anew: an import may have changed what the store has.
            choice.ready(layout, choice.of_job(layout, self._engine.spec.name, {choice.MODEL: self._engine.model}))
            self._good = now
        return Verdict(Status.OK, f"{self._engine.spec.name} {self._engine.spec.version}")


def _fingerprint(folder: Path) -> object:
    """What changes when a file below does; None if there is nothing."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.rglob("*")):
            status = path.stat()
            found.append((str(path), status.st_size, status.st_mtime_ns, status.st_ino))
    return found or None


class GpuProbe:
    """A GPU pool has a GPU, and its work reaches it: a job that silently runs on the CPU takes a hundred times as long.

    Args:
        running: jobs that the worker has at hand.
        memory: GPU memory of the worker's engine hosts, in bytes; None: there is no GPU to ask.
        patience: rounds with work and without memory on the GPU before that is an alarm.
    """

    def __init__(self, running: Callable[[], int], memory: Callable[[], int | None], patience: int = 20) -> None:
        self._running = running
        self._memory = memory
        self._patience = patience
        self._idle = 0

    def __call__(self) -> Verdict:
        """Look."""
        memory = self._memory()
        if memory is None:
            remedy = "Check `nvidia-smi` as the Ironclad user, the driver, and DeviceAllow= of the unit."
            return Verdict(Status.FAILED, "a GPU is configured, and none can be seen", remedy)
        self._idle = self._idle + 1 if self._running() and not memory else 0
        if self._idle > self._patience:
            remedy = "`ironclad doctor` says whether the engine's environment can use the GPU; install it again here."
            return Verdict(Status.DEGRADED, "a GPU is configured, work runs, and nothing is on the GPU", remedy)
        return GOOD
