"""What the database knows of the files in the library: how they were made, and the tags they were made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import sqlalchemy as sa

from ironclad.jobs.transition import load
from ironclad.library.naming import track_name
from ironclad.metadata.candidate import Candidate
from ironclad.metadata.derive import path_fields
from ironclad.metadata.model import TrackTags
from ironclad.stages import online
from ironclad.stages.tagging import RESULT, derivation_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.tables import Job
    from ironclad.library.naming import TrackName
    from ironclad.metadata.derive import Derivation

_PAGE: Final = 500
_FILES: Final = sa.text(
    "SELECT a.artifact_uuid, a.job_uuid, a.kind, a.path, a.blake3, a.receipt, m.data AS metadata, s.data AS separated "
    "FROM (SELECT * FROM artifact WHERE state = 'published' AND kind !~ '^(receipt|cover):' "
    "AND artifact_uuid > :after AND (CAST(:job AS uuid) IS NULL OR job_uuid = :job) "
    "ORDER BY artifact_uuid LIMIT :page) a "
    "LEFT JOIN LATERAL (SELECT data FROM stage_run WHERE job_uuid = a.job_uuid AND stage = 'metadata' "
    "AND attempt <= a.attempt AND state IN ('done', 'reused') ORDER BY attempt DESC LIMIT 1) m ON true "
    "LEFT JOIN LATERAL (SELECT data FROM stage_run WHERE job_uuid = a.job_uuid AND stage = 'separate' "
    "AND attempt <= a.attempt AND state IN ('done', 'reused') ORDER BY attempt DESC LIMIT 1) s ON true "
    "ORDER BY a.artifact_uuid"
)
PENDING: Final = sa.text(
    "SELECT r.job_uuid FROM stage_run r JOIN job j USING (job_uuid) WHERE j.state = 'succeeded' AND "
    "r.stage = 'metadata' AND (r.data->'lookup'->>'status' = 'unavailable' OR r.data->>'cover' = 'unavailable') "
    "AND NOT EXISTS (SELECT 1 FROM stage_run later WHERE later.job_uuid = r.job_uuid AND later.stage = 'metadata' "
    "AND later.attempt > r.attempt AND later.state IN ('done', 'reused')) ORDER BY r.job_uuid"
)


@dataclass(frozen=True, slots=True)
class Known:
    """One published file of a job."""

    job: Job
    artifact_uuid: UUID
    kind: str
    path: Path
    blake3: str
    receipt: Mapping[str, Any]
    metadata: Mapping[str, Any] | None
    """What the stage metadata left; None if it is not on record."""
    separated: Mapping[str, Any] | None

    @property
    def complete(self) -> bool:
        """Whether it is known what the file was made from."""
        return self.metadata is not None and self.separated is not None

    def tags(self) -> TrackTags:
        """The source's tags, completed as they are now: what was chosen since counts."""
        return finished(self.job, self.metadata or {})

    def derivation(self, settings: Settings) -> Derivation:
        """How it was made."""
        result = str(self.receipt.get(RESULT, ""))
        return derivation_of(self.job, settings, self.separated or {}, self.kind, result=result)

    def name(self, settings: Settings) -> TrackName:
        """The fields of a path template."""
        fields = path_fields(self.tags(), self.derivation(settings))
        return track_name(fields | {"format": self.path.suffix.lstrip("."), "user": self.job.user_id})


def finished(job: Job, metadata: Mapping[str, Any]) -> TrackTags:
    """The tags that the stage metadata found, or those that follow from the candidate chosen since."""
    chosen = job.options.get(online.CHOSEN)
    if chosen is None or "read" not in metadata:
        return TrackTags.from_dict(metadata["reading"]["tags"])
    read = TrackTags.from_dict(metadata["read"])
    return online.completed(read, PurePath(job.relative_path), Candidate.from_dict(chosen))[0]


def files(session: Session, job_uuid: UUID | None = None) -> Iterator[Known]:
    """The published files of a job, or of all jobs, in the order of their publishing."""
    after = UUID(int=0)
    jobs: dict[UUID, Job] = {}
    while True:
        rows: Sequence[Any] = session.execute(_FILES, {"after": after, "job": job_uuid, "page": _PAGE}).all()
        for row in rows:
            if row.job_uuid not in jobs:
                jobs[row.job_uuid] = load(session, row.job_uuid)
            yield Known(
                jobs[row.job_uuid], row.artifact_uuid, row.kind, Path(row.path), row.blake3, row.receipt or {},
                row.metadata, row.separated,
            )  # fmt: skip
        if len(rows) < _PAGE:
            return
        after = rows[-1].artifact_uuid


def pending(session: Session) -> list[UUID]:
    """Succeeded jobs whose tags or cover wait for a service that did not answer, oldest first."""
    return [UUID(str(job)) for job in session.scalars(PENDING)]
