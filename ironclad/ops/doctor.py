"""`ironclad doctor`: looks at everything that Ironclad needs, and says what to do. Never raises, never hangs."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import IroncladError
from ironclad.ops.checks import audio, backups, host, notify, online, services
from ironclad.ops.checks.outcome import Level, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ironclad.config import Settings
    from ironclad.ops.checks.outcome import Outcome

_AT_A_TIME = 2
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at."""

    name: str
    run: Callable[[Settings], Sequence[Outcome]]
    seconds: float = 10.0
    """How long it may take."""
    deep: bool = False
    """Whether it looks at what work depends on while it goes on; `ironclad health` runs these."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, for people (`detail`, `remedy`) and programs."""

    name: str
    status: Level
    detail: str
    remedy: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "name": self.name, "status": self.status.value, "detail": self.detail, "remedy": self.remedy,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip


CHECKS: Final[tuple[Check, ...]] = (
    Check("python", host.python),
    Check("packages", host.packages),
    Check("settings", host.settings),
    Check("data folder", host.data_folder, 30.0),
    Check("file systems", host.file_systems),
    Check("disk", host.disk, deep=True),
    Check("inodes", host.inodes, deep=True),
    Check("file descriptors", host.descriptors, deep=True),
    Check("open files", host.open_files, deep=True),
    Check("clock", host.clock, deep=True),
    Check("inotify", services.inotify),
    Check("watch root", services.watch_roots, 20.0, deep=True),
    Check("ports", services.ports),
    Check("decoder", audio.decoder, 60.0, deep=True),
    Check("fingerprints", audio.fingerprints, 60.0),
    Check("engine", audio.engines, 120.0, deep=True),
    Check("gpu", audio.gpu, 20.0, deep=True),
    Check("postgres", services.postgres, 90.0, deep=True),
    Check("prefect", services.prefect, 30.0, deep=True),
    Check("workers", services.workers, 20.0, deep=True),
    Check("certificate", host.certificate, 20.0, deep=True),
    Check("musicbrainz", online.musicbrainz, 30.0, deep=True),
    Check("virus scanner", online.virus_scanner, 60.0, deep=True),
    Check("backup", backups.backups, deep=True),
    Check("notifier", notify.channels, 60.0, deep=True),
    Check("service", services.services, 60.0),
    Check("pool", services.pools, 20.0),
    Check("all hosts", services.other_hosts, 20.0),
)
"""Every check, in the order in which findings are shown."""
DEEP: Final[tuple[Check, ...]] = tuple(check for check in CHECKS if check.deep)
"""Those of `ironclad health`."""


def diagnose(settings: Settings, checks: Sequence[Check] = CHECKS) -> Generator[Finding]:
    """Run the checks, some at a time, and yield what they find in their order, each as soon as it is known.

    A check that takes too long is reported as failed and left behind in its thread, with a new one in its place.
    Where nobody wants the rest (the pipe is gone, Ctrl-C), nothing more is begun, and what has begun gets a moment to
    put away what it made.
    """
    running = [_Running(check) for check in checks]
    todo: queue.SimpleQueue[_Running] = queue.SimpleQueue()
    for one in running:
        todo.put(one)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                todo.get_nowait().run(settings)

    for _ in range(_AT_A_TIME):
        threading.Thread(target=work, name="doctor", daemon=True).start()
    for place, one in enumerate(running):
        try:
            outcomes, seconds = one.result()
            if outcomes is None:
                threading.Thread(target=work, name="doctor", daemon=True).start()
                hint = "What it asks hangs; the other findings may tell why."
                outcomes = [fail(f"no answer within {seconds:g} s", hint)]
            for outcome in outcomes:
                name = f"{one.check.name} {outcome.about}" if outcome.about else one.check.name
                yield Finding(name, outcome.level, outcome.detail, outcome.remedy, seconds)
        except (GeneratorExit, KeyboardInterrupt):
            _end(running[place:], todo)
            raise


def _end(running: Sequence[_Running], todo: queue.SimpleQueue[_Running]) -> None:
    """Begin nothing more, and wait a while for what has begun."""
    never = []
    with contextlib.suppress(queue.Empty):
        while True:
            never.append(todo.get_nowait())
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for one in running:
        if one not in never:
            one.ended(deadline - time.monotonic())


class _Running:
    """One check, run by one thread and waited for by another."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self._began: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._result: queue.SimpleQueue[tuple[Sequence[Outcome], float]] = queue.SimpleQueue()
        self._ended = threading.Event()

    def run(self, settings: Settings) -> None:
        """Run the check; whatever it meets is what it found."""
        began = time.monotonic()
        self._began.put(began)
        try:
            outcomes = self.check.run(settings)
        except IroncladError as exc:
            outcomes = [fail(str(exc), exc.hint)]
        except BaseException as exc:  # noqa: BLE001 - doctor never raises
            outcomes = [fail(f"{type(exc).__name__}: {exc}", "This is unexpected; please report it.")]
        self._result.put((outcomes, time.monotonic() - began))
        self._ended.set()

    def ended(self, seconds: float) -> bool:
        """Wait so long for the end of a check that has begun; whether it came."""
        return self._ended.wait(max(0.0, seconds))

    def result(self) -> tuple[Sequence[Outcome] | None, float]:
        """The outcomes and how long it took; no outcomes if it takes too long.

        Checks begin in their order, so one that has not begun waits only for earlier ones, which have a result.
        """
        began = self._began.get()
        try:
            return self._result.get(timeout=max(0.0, began + self.check.seconds - time.monotonic()))
        except queue.Empty:
            return None, self.check.seconds
