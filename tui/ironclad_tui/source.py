"""Where the screens get everything from: a live installation, or a recording of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from ironclad.audio.sketch import Sketch
    from ironclad.errors import IroncladError
    from ironclad.jobs.failures import FailureGroup
    from ironclad.jobs.feed import Notice
    from ironclad.jobs.listing import Count, JobRow, Published, Sort
    from ironclad.jobs.overview import Glance
    from ironclad.jobs.query import JobDetail
    from ironclad.jobs.search import Filter
    from ironclad.metadata.raster import Raster
    from ironclad.notify.query import MessageView
    from ironclad.ops.looking import ComponentHealth, DiskView, FolderSize, LogLine


@dataclass(frozen=True, slots=True)
class EngineView:
    """One engine, or a plugin that does not load (`error`)."""

    name: str
    default: bool
    plugin: str
    status: str
    error: str
    data: dict[str, Any]
    """What the engine declares (`EngineSpec.to_dict`); `environment` is its private one (None: not built), and each
    model has `stored`: whether it is in the store (None: it has no weights), and `official`."""


@dataclass(frozen=True, slots=True)
class LibraryView:
    """The library: what was published last, and what media servers would get wrong."""

    files: tuple[Published, ...]
    problems: tuple[tuple[str, str, str, str], ...]
    """Severity, rule, server and message of each."""


@dataclass(frozen=True, slots=True)
class MaintenanceView:
    """What uses the disk, and what belongs to no job."""

    disk: DiskView
    folders: tuple[FolderSize, ...]
    orphans: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a look at the folders found: what, where and why, and what to do about it."""

    kind: str
    path: str
    reason: str
    todo: str = ""
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SettingView:
    """One setting."""

    path: str
    value: str
    origin: str
    help: str


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an action on jobs."""

    done: tuple[UUID, ...]
    failed: tuple[tuple[UUID, IroncladError], ...] = ()


class Source(Protocol):
    """Everything the screens ask for. Called in background threads; raises errors of the catalogue."""

    @property
    def label(self) -> str:
        """What is looked at: the data folder, or the recording."""

    @property
    def root(self) -> str:
        """The data folder, which paths are shown without; empty if there is none."""

    @property
    def read_only(self) -> bool:
        """Whether nothing can be done, only looked at."""

    def now(self) -> datetime:
        """The clock for everything that is said to be so long ago."""

    def listen(self, stopping: threading.Event) -> Iterable[Notice | None]:
        """What happens, as it happens."""

    def glance(self) -> Glance:
        """The whole installation."""

    def disk(self) -> DiskView:
        """The disk of the data folder."""

    def jobs(
        self, wanted: Filter, sort: Sort, *, after: tuple[Any, ...] | None = None, backwards: bool = False,
        limit: int = 100,
    ) -> tuple[JobRow, ...]:  # fmt: skip
        """A page of jobs."""

    def rows(self, job_uuids: tuple[UUID, ...]) -> tuple[JobRow, ...]:
        """These jobs' rows."""

    def count(self, wanted: Filter) -> Count:
        """How many jobs match."""

    def job(self, job_uuid: UUID) -> JobDetail:
        """Everything about one job. Raises `NotFound`."""

    def job_log(self, job_uuid: UUID) -> tuple[LogLine, ...]:
        """The end of one job's log."""

    def sketches(self, job_uuid: UUID) -> tuple[tuple[str, Sketch], ...]:
        """The job's original and what was published of it, as far as they are on this machine, decoded and measured."""

    def art(self, job_uuid: UUID) -> Raster | None:
        """The job's front cover, small; None if it has none."""

    def bundle(self, job_uuid: UUID) -> str:
        """Write the diagnostic bundle of a job; returns its path."""

    def failures(self) -> tuple[FailureGroup, ...]:
        """Failed jobs by their cause."""

    def members(self, key: tuple[str, str, str]) -> tuple[UUID, ...]:
        """All jobs of one group of failures."""

    def health(self) -> tuple[ComponentHealth, ...]:
        """What the services on this machine say of themselves."""

    def letters(self) -> tuple[MessageView, ...]:
        """Notifications that were given up, the newest first."""

    def engines(self) -> tuple[EngineView, ...]:
        """The engines."""

    def check_engine(self, name: str) -> dict[str, Any]:
        """Try an engine and its models (`ironclad.engines.checking.check`): takes seconds."""

    def library(self) -> LibraryView:
        """The library."""

    def lint(self) -> tuple[int, tuple[tuple[str, str, str, str], ...]]:
        """Read every file of the library: how many there are, and all problems."""

    def maintenance(self) -> MaintenanceView:
        """Disk and leftovers."""

    def prunable(self) -> tuple[Finding, ...]:
        """What pruning would delete now."""

    def orphans(self) -> tuple[Finding, ...]:
        """Files without jobs, jobs without files, leftovers."""

    def settings(self) -> tuple[SettingView, ...]:
        """The settings in force."""

    def log(self, service: str, level: str, job: str = "") -> tuple[LogLine, ...]:
        """The end of the services' logs; of one job by the end of its id."""

    def log_services(self) -> tuple[str, ...]:
        """The services that have a log."""

    def act(self, action: str, job_uuids: Sequence[UUID], **options: Any) -> Done:
        """`retry`, `cancel`, `hold`, `release` or `replay` (stage, engine) for each job, each on its own."""

    def settle(self, action: str, letters: Sequence[UUID]) -> int:
        """`resend` or `drop` notifications that were given up; returns how many."""

    def pause(self, pool: str | None, *, paused: bool) -> None:
        """Pause or resume a pool, or (None) the pipeline."""

    def set_slots(self, pool: str, number: int | None) -> int | None:
        """Run so many jobs of a pool at a time, or (None) as many as the settings say; returns what was set before."""
