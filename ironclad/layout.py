"""Every path below the data folder, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad import durable

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Layout:
    """The data folder (`pipeline-data/` in the documents) and what is where in it."""

    root: Path

    @property
    def input(self) -> Path:
        """The default watch root; its sub-folders are users."""
        return self.root / "input"

    @property
    def output(self) -> Path:
        """The library."""
        return self.root / "output"

    @property
    def archive(self) -> Path:
        """Originals, by job."""
        return self.root / "archive"

    @property
    def work(self) -> Path:
        """Stage folders and markers, by job."""
        return self.root / "work"

    @property
    def error(self) -> Path:
        """What failed for good: the original, error.json and the log's end."""
        return self.root / "error"

    @property
    def logs(self) -> Path:
        """Service logs, job logs and skipped.json."""
        return self.root / "logs"

    @property
    def uploads(self) -> Path:
        """Songs that arrive through the API, each in a hidden folder until it is claimed."""
        return self.root / "uploads"

    @property
    def cover_art_cache(self) -> Path:
        """Cover art fetched from the network."""
        return self.root / "cover-art-cache"

    @property
    def orphaned(self) -> Path:
        """Files that no job knows."""
        return self.root / "orphaned"

    @property
    def backups(self) -> Path:
        """Database dumps."""
        return self.root / "backups"

    @property
    def models(self) -> Path:
        """The model store."""
        return self.root / "models"

    @property
    def engines(self) -> Path:
        """Private environments of engines."""
        return self.root / "engines"

    @property
    def postgres(self) -> Path:
        """The embedded server's cluster."""
        return self.root / "postgres"

    @property
    def prefect(self) -> Path:
        """Prefect's home."""
        return self.root / "prefect"

    @property
    def run(self) -> Path:
        """Locks, sockets and process ids of running services."""
        return self.root / "run"

    @property
    def skipped(self) -> Path:
        """What was skipped, and why."""
        return self.logs / "skipped.json"

    def archive_of(self, job: UUID) -> Path:
        """The folder that holds one job's original."""
        return self.archive / str(job)

    def work_of(self, job: UUID) -> Path:
        """The folder of one job's stages."""
        return self.work / str(job)

    def error_of(self, job: UUID, code: str) -> Path:
        """The folder of one job that failed for good."""
        return self.error / f"{job}-{code}"

    def job_log(self, job: UUID) -> Path:
        """One job's log, JSON lines."""
        return self.logs / "jobs" / f"{job}.jsonl"

    def create(self) -> None:
        """Make every folder that does not exist yet."""
        for folder in (
            self.input, self.output, self.archive, self.work, self.error, self.logs, self.logs / "jobs",
            self.cover_art_cache, self.orphaned, self.backups, self.models, self.run,
        ):  # fmt: skip
            durable.make_dirs(folder)
