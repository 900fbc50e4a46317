"""What failed, grouped so that a thousand failures with one cause are one line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.errors import CATALOGUE, Unexpected

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlmodel import Session

_DETAIL_LIMIT: Final = 300


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed and quarantined jobs with one error at one place."""

    code: str
    stage: str
    fingerprint: str
    """Tells unexpected errors apart by where they happened; empty for errors of the catalogue."""
    jobs: int
    first_at: datetime | None
    last_at: datetime | None
    detail: str
    """What the last one said."""
    example: UUID

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it this group."""
        return (self.code, self.stage, self.fingerprint)

    def to_dict(self) -> dict[str, Any]:
        """The group with what the catalogue says of it."""
        return {**asdict(self), "what": self.what, "hint": self.hint, "links": self.links, "kind": self.kind}

    @property
    def what(self) -> str:
        """What happened, from the catalogue."""
        return CATALOGUE.get(self.code, Unexpected).what()

    @property
    def hint(self) -> str:
        """What to do, from the catalogue."""
        return CATALOGUE.get(self.code, Unexpected).hint

    @property
    def links(self) -> tuple[str, ...]:
        """Pages of the documents that say more, from the catalogue."""
        return CATALOGUE.get(self.code, Unexpected).links

    @property
    def kind(self) -> str:
        """Whose fault it is, for the retry policy (input, engine, resource …)."""
        return CATALOGUE.get(self.code, Unexpected).kind.value


# Walks the index on state: only failed jobs are read, however many others there are.
_GROUPS = sa.text(
    "SELECT coalesce(error_code, 'E_UNEXPECTED') AS code, stage, "
    "coalesce(error->'context'->>'fingerprint', '') AS fingerprint, count(*) AS jobs, "
    "min(finished_at) AS first_at, max(finished_at) AS last_at, "
    "left((array_agg(error->>'detail' ORDER BY job_uuid DESC))[1], :length) AS detail, "
    "(array_agg(job_uuid ORDER BY job_uuid DESC))[1] AS example "
    "FROM job WHERE state IN ('failed', 'quarantined') GROUP BY 1, 2, 3 ORDER BY jobs DESC, code, stage, fingerprint"
)
_JOBS = sa.text(
    "SELECT job_uuid FROM job WHERE state IN ('failed', 'quarantined') "
    "AND coalesce(error_code, 'E_UNEXPECTED') = :code AND stage = :stage "
    "AND coalesce(error->'context'->>'fingerprint', '') = :fingerprint AND job_uuid > :after "
    "ORDER BY job_uuid LIMIT :limit"
)
_FIRST: Final = "00000000-0000-0000-0000-000000000000"


def groups(session: Session) -> tuple[FailureGroup, ...]:
    """Every group, largest first."""
    rows = session.execute(_GROUPS, {"length": _DETAIL_LIMIT})
    return tuple(
        FailureGroup(
            code=row.code, stage=row.stage, fingerprint=row.fingerprint, jobs=row.jobs, first_at=row.first_at,
            last_at=row.last_at, detail=row.detail or "", example=row.example,
        )
        for row in rows
    )  # fmt: skip


def members(
    session: Session, key: tuple[str, str, str], *, after: UUID | None = None, limit: int = 500
) -> tuple[UUID, ...]:
    """The jobs of a group, oldest first, so that they keep their order when they go back to the queue."""
    code, stage, fingerprint = key
    rows = session.scalars(
        _JOBS,
        {"code": code, "stage": stage, "fingerprint": fingerprint, "after": str(after or _FIRST), "limit": limit},
    )
    return tuple(rows)
