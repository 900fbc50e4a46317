"""What the tests of the ingest share: settings with short times, a running watcher, and waiting with a deadline."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from sqlmodel import col, select

from ironclad.db.tables import Job
from ironclad.ingest.feed import EventFeed
from ironclad.ingest.watcher import Watcher
from ironclad.jobs.submit import NewJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ironclad.config import Settings, WatchRoot
    from ironclad.db.session import Database

T = TypeVar("T")
DEADLINE = 60.0


@dataclass
class Watching:
    """A watcher that runs in this process."""

    database: Database
    settings: Settings
    watcher: Watcher = field(init=False)
    stopping: threading.Event = field(default_factory=threading.Event)
    ready: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.watcher = Watcher(self.database, self.settings)
        self.thread = threading.Thread(target=self.watcher.run, args=(self.stopping, self.ready.set))
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


@dataclass
class Bench:
    """A database, settings, and what tests ask of them."""

    database: Database
    settings: Settings
    running: list[Watching] = field(default_factory=list)

    @property
    def input(self) -> Path:
        return self.settings.layout.input

    def configure(self, *roots: WatchRoot, **ingest: Any) -> None:
        """Other ingest settings from now on."""
        changes = {**ingest, **({"roots": roots} if roots else {})}
        self.settings = self.settings.model_copy(
            update={"ingest": self.settings.ingest.model_copy(update=changes)},
        )

    def watch(self) -> Watching:
        """Start a watcher and wait until it is ready."""
        watching = Watching(self.database, self.settings)
        self.running.append(watching)
        assert watching.ready.wait(DEADLINE)
        return watching

    def drop(self, name: str, content: bytes = b"music", root: Path | None = None) -> Path:
        """Write a file into the input folder in one go."""
        path = (root or self.input) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    @contextlib.contextmanager
    def writing(self, name: str, content: bytes = b"music") -> Iterator[Path]:
        """A file that a program has open for writing: it is not taken in here, however long this takes."""
        path = self.input / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            yield path

    def new(self, path: Path, mode: str = "move", **more: Any) -> NewJob:
        """What the watcher would hand over for a file."""
        return NewJob(
            user_id="ana", source=path, relative_path=path.name, stat=path.lstat(),
            watch_root=str(self.input), ingest_mode=mode, **more,
        )  # fmt: skip

    def jobs(self, *states: str) -> Sequence[Job]:
        """All jobs (in some states), oldest first."""
        with self.database.session() as session:
            statement = select(Job).order_by(col(Job.job_uuid))
            if states:
                statement = statement.where(col(Job.state).in_(states))
            return session.exec(statement).all()

    def until_jobs(self, count: int, *states: str) -> Sequence[Job]:
        """The jobs, once there are so many in these states (by default: those that the ingest leaves jobs in)."""
        wanted = states or ("queued", "skipped", "failed")

        def enough() -> Sequence[Job] | None:
            found = self.jobs(*wanted)
            return found if len(found) >= count else None

        return self.until(enough)

    def until(self, call: Callable[[], T | None]) -> T:
        """What `call` returns, once that is true."""
        deadline = time.monotonic() + DEADLINE
        while not (value := call()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)
        return value

    def archived(self, job: Job) -> Path:
        """Where a job's original is."""
        return self.settings.layout.archive_of(job.job_uuid) / job.archive_name


@pytest.fixture
def bench(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The database and settings with times short enough for tests."""
    # A machine that stands still for some seconds has neither a file system without events nor a root out of reach.
    monkeypatch.setattr(EventFeed.probe, "__defaults__", (DEADLINE,))
    monkeypatch.setattr("ironclad.ingest.watcher._FIRST_LISTING_SECONDS", DEADLINE)
    bench = Bench(database, settings)
    bench.configure(stability_seconds=0.4, rescan_seconds=60.0, poll_seconds=0.2)
    yield bench
    for watching in bench.running:
        watching.stop()


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


@pytest.fixture
def bound_by_permissions() -> Iterator[None]:
    """File permissions count for this thread (and those it starts), even when root runs the tests."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = _CapabilityHeader(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words, then high words
    assert libc.capget(ctypes.byref(header), sets) == 0
    before = sets[0]
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(ctypes.byref(header), sets) == 0
    yield
    sets[0] = before
    assert libc.capset(ctypes.byref(header), sets) == 0
