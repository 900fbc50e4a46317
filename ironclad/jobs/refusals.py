"""Jobs that the executor refuses to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ironclad import log
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load, move

if TYPE_CHECKING:
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.errors import PrefectRefused

_MOST: Final = 3
"""So many jobs in a row may fail for it; then it is the executor's fault, and all wait."""
_SECONDS: Final = 600.0
"""How long a refusal counts: three jobs that are really to blame hold up the others no longer."""


class Refusals:
    """The refusals since the executor last took a job."""

    def __init__(self) -> None:
        self._at: list[float] = []

    def is_the_jobs_own(self, now: float) -> bool:
        """Whether a refusal at `now` (monotonic seconds) is laid to the job; it is counted then."""
        self._at = [at for at in self._at if now - at < _SECONDS]
        if len(self._at) >= _MOST:
            return False
        self._at.append(now)
        return True

    def forget(self) -> None:
        """The executor has taken a job."""
        self._at.clear()


def refused(session: Session, job_uuid: UUID, dispatch_seq: int, error: PrefectRefused) -> None:
    """Fail a job whose dispatch was refused, unless it was cancelled or dispatched anew meanwhile."""
    job = load(session, job_uuid, lock=True)
    if job.state != JobState.QUEUED or job.dispatch_seq != dispatch_seq or job.dispatched_at is None:
        return
    log.get(component="dispatch").error("job_refused", job_uuid=str(job_uuid), error=str(error))
    move(
        session, job, JobState.FAILED, actor="dispatch",
        sets={
            "error_code": error.code, "error": error.to_dict(), "finished_at": sa.func.ironclad_now(),
            "dispatched_at": None, "run_id": None,
        },
        data={"error": error.to_dict()},
    )  # fmt: skip
