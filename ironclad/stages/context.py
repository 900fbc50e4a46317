"""What a stage is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.db.tables import Job
    from ironclad.engines.hosts import Hosts
    from ironclad.errors import IroncladError
    from ironclad.jobs.states import JobState
    from ironclad.layout import Layout
    from ironclad.log import JobLog


@dataclass(frozen=True, slots=True)
class StageOutput:
    """A finished stage: its folder, the facts in its marker, and a digest of all it made."""

    folder: Path
    data: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class StageContext:
    """Everything a stage may use. A stage writes into `folder` and `partial` and nowhere else (organize publishes)."""

    job: Job
    settings: Settings
    layout: Layout
    source: Path
    """The original, read only."""
    folder: Path
    """Empty, the stage's own; becomes visible under its final name when the stage returns."""
    partial: Path
    """A folder that need not exist: what an interrupted attempt left there for the next one to go on with."""
    outputs: Mapping[str, StageOutput]
    """The stages before this one, by name."""
    progress: Callable[[float, str | None], None]
    """Report a fraction (0..1) and, if it says more, a message."""
    check: Callable[[], None]
    """Raises `Cancelled`, `LeaseLost` or `Drained` when the attempt must end; call it at least once a second."""
    library: Publisher
    """Publishes files and records them; for organize."""
    log: JobLog
    note: Callable[[str, Mapping[str, Any]], None]
    """Write an event into the job's history: `note(kind, data)`."""
    hosts: Hosts
    """Engines at work."""
    database: Database
    """For what all workers share (a rate, a cache) and to look things up; facts about the job go into the result."""

    def fraction(self, value: float) -> None:
        """Report progress without a message."""
        self.progress(value, None)


@dataclass(frozen=True, slots=True)
class Published:
    """A file in the library."""

    path: Path
    kind: str
    blake3: str


@dataclass(frozen=True, slots=True)
class Publisher:
    """How organize reaches the library: `put(kind, file, wanted, receipt)` returns the file's final path."""

    put: Callable[[str, Path, Callable[[int], Path], Mapping[str, Any] | None], Published]


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage found out.

    `data` goes into the marker, `facts` into the job's row. `settle` ends the job here (skipped) because of `error`.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    settle: JobState | None = None
    error: IroncladError | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the pipeline.

    `depends` names the stages whose outputs are its input; `parameters` gives what else its result depends on.
    """

    name: str
    version: int
    """Raised when the code changes in a way that changes results: older markers do not match any more."""
    run: Callable[[StageContext], StageResult]
    parameters: Callable[[Job, Settings], Mapping[str, Any]]
    depends: tuple[str, ...] = ()
    keep: bool = True
    """Whether its folder may be used again; organize has nothing to reuse."""
