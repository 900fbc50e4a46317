"""What became of a file: state, outputs, error; for `process`, `submit --wait` and the demo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ironclad.jobs import query
from ironclad.jobs.query import name_of
from ironclad.jobs.states import SETTLED, JobState
from ironclad.jobs.submit import display

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.errors import IroncladError

__all__ = ["JSON", "REFUSED", "Output", "Result", "name_of", "of", "refused", "summary"]

REFUSED: Final = "refused"
"""The state of a file that never became a job."""
_BESIDE: Final = ("receipt:", "cover:")
"""Begin the kinds of what lies beside a result."""

JSON: Final = {
    "jobs": "One entry for each file: file, job_uuid, state, outputs (kind, path, size, blake3), error, seconds.",
    "succeeded": "How many succeeded.",
    "skipped": "How many were skipped: there was nothing to do.",
    "failed": "How many did not succeed for any other reason.",
}


@dataclass(frozen=True, slots=True)
class Output:
    """A file in the library. `kind` is the stem."""

    kind: str
    path: str
    size: int
    blake3: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"kind": self.kind, "path": self.path, "size": self.size, "blake3": self.blake3}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file."""

    file: str
    job_uuid: UUID | None
    state: str
    title: str
    outputs: tuple[Output, ...] = ()
    error: dict[str, Any] | None = None
    seconds: float | None = None
    """From the first attempt's start to the end."""

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state == REFUSED or JobState(self.state) in SETTLED

    @property
    def good(self) -> bool:
        """Whether it is as the user wants it: done, or there was nothing to do."""
        return self.state in {JobState.SUCCEEDED, JobState.SKIPPED}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "file": self.file, "job_uuid": None if self.job_uuid is None else str(self.job_uuid), "state": self.state,
            "outputs": [output.to_dict() for output in self.outputs], "error": self.error, "seconds": self.seconds,
        }  # fmt: skip


def of(session: Session, job_uuid: UUID) -> Result:
    """A job's result as it is now. A duplicate's outputs are those of the job that it repeats."""
    detail = query.detail(session, job_uuid, events=0)
    job, artifacts = detail.job, detail.artifacts
    if job.error_code == "E_DUPLICATE" and job.error is not None:
        other = (job.error.get("context") or {}).get("job")
        if other:
            artifacts = query.detail(session, query.find(session, str(other)), events=0).artifacts
    seconds = None
    if job.started_at is not None and job.finished_at is not None:
        seconds = round((job.finished_at - job.started_at).total_seconds(), 3)
    return Result(
        file=job.source_path, job_uuid=job.job_uuid, state=job.state, title=name_of(job), error=job.error,
        seconds=seconds,
        outputs=tuple(
            Output(one.kind, one.path, one.size, one.blake3)
            for one in artifacts
            if one.state == "published" and not one.kind.startswith(_BESIDE)
        ),
    )  # fmt: skip


def refused(path: Path, error: IroncladError) -> Result:
    """A file that could not even become a job."""
    return Result(file=display(path), job_uuid=None, state=REFUSED, title=display(path.name), error=error.to_dict())


def summary(results: Iterable[Result]) -> dict[str, Any]:
    """All results as JSON-ready data."""
    results = list(results)
    return {
        "jobs": [result.to_dict() for result in results],
        "succeeded": sum(result.state == JobState.SUCCEEDED for result in results),
        "skipped": sum(result.state == JobState.SKIPPED for result in results),
        "failed": sum(not result.good for result in results),
    }
