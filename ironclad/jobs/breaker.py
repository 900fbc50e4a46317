"""The poison breaker: a file that keeps failing in the same way is set aside, whoever retries it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ironclad.jobs import retry
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from sqlmodel import Session

    from ironclad.config import JobSettings
    from ironclad.db.tables import Job
    from ironclad.errors import IroncladError
    from ironclad.jobs.retry import Verdict

# Failures of the same bytes, in whatever job, since they last went through.
_SAME: Final = sa.text(
    "WITH file AS MATERIALIZED (SELECT job_uuid FROM job WHERE content_hash = :content) "
    "SELECT count(*) FROM job_event WHERE job_uuid IN (SELECT job_uuid FROM file) "
    "AND kind IN ('waiting_retry', 'failed', 'quarantined') AND stage = :stage AND data->'error'->>'code' = :code "
    "AND coalesce(data->'error'->'context'->>'fingerprint', '') = :fingerprint "
    "AND id > coalesce((SELECT max(id) FROM job_event WHERE job_uuid IN (SELECT job_uuid FROM file) "
    "                   AND kind = 'succeeded'), 0)"
)


def judged(session: Session, job: Job, error: IroncladError, verdict: Verdict, settings: JobSettings) -> Verdict:
    """The verdict on a failed attempt, or `quarantined` where the file has failed so too often.

    Only failures that count against a job count here: a full disk or a dead network says nothing about the file.
    """
    if job.content_hash is None or not retry.counts(error) or verdict.state is JobState.CANCELLED:
        return verdict
    before = session.scalar(
        _SAME,
        {
            "content": job.content_hash, "stage": job.stage, "code": error.code,
            "fingerprint": str(error.context.get("fingerprint", "")),
        },
    )  # fmt: skip
    if int(before or 0) + 1 < settings.quarantine_after:
        return verdict
    return replace(verdict, state=JobState.QUARANTINED, delay_seconds=0.0)
