"""Pages of jobs for lists that scroll over hundreds of thousands: keyset pages, each a short walk along an index."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad.db.tables import Artifact, Job
from ironclad.errors import CATALOGUE
from ironclad.jobs.search import TEXT, Filter, Term

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlmodel import Session

_JOB: Final[Any] = Job.__table__  # type: ignore[attr-defined]  # SQLModel adds it
_ARTIFACT: Final[Any] = Artifact.__table__  # type: ignore[attr-defined]  # likewise
NAME_LIMIT: Final = 300
"""Characters of a title, artist or path that a list carries: tags may hold megabytes."""
COUNT_LIMIT: Final = 10_000
_EXISTING: Final = sa.text(
    "SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE EXISTS (SELECT 1 FROM job WHERE job_uuid = "
    "CASE WHEN name ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN CAST(name AS uuid) END)"
)


class Sort(enum.StrEnum):
    """The orders of a list. Each follows an index, so that any page is as fast as the first."""

    NEWEST = "newest"
    OLDEST = "oldest"
    FINISHED = "finished"
    """Last finished first; only jobs that are settled."""
    STATE = "state"
    USER = "user"


@dataclass(frozen=True, slots=True)
class JobRow:
    """One line of a list."""

    job_uuid: UUID
    state: str
    stage: str
    pool: str
    user_id: str
    engine: str
    name: str
    """`Artist - Title`, or what is known of it."""
    album: str | None
    progress: float
    held: bool
    cancel_requested: bool
    error_code: str | None
    attempt: int
    priority: int
    duration_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime | None
    worker: str | None = None

    @property
    def shown_state(self) -> str:
        """The state as people say it: with what was asked for."""
        if self.cancel_requested:
            return "cancelling"
        return "held" if self.held and self.state in {"queued", "waiting_retry"} else self.state


@dataclass(frozen=True, slots=True)
class Count:
    """How many jobs match; beyond the limit only that there are more."""

    number: int
    exact: bool = True


_ORDER: Final[Mapping[Sort, tuple[tuple[Any, bool], ...]]] = {  # column, descending
    Sort.NEWEST: ((_JOB.c.job_uuid, True),),
    Sort.OLDEST: ((_JOB.c.job_uuid, False),),
    Sort.FINISHED: ((_JOB.c.finished_at, True), (_JOB.c.job_uuid, True)),
    Sort.STATE: ((_JOB.c.state, False), (_JOB.c.job_uuid, False)),
    Sort.USER: ((_JOB.c.user_id, False), (_JOB.c.job_uuid, False)),
}
_COLUMNS: Final = (
    "job_uuid", "state", "stage", "pool", "user_id", "engine", "progress", "held", "cancel_requested", "error_code",
    "attempt", "priority", "duration_seconds", "created_at", "started_at", "finished_at", "not_before", "worker",
)  # fmt: skip


def key_of(row: JobRow, sort: Sort) -> tuple[Any, ...]:
    """Where a row stands in an order: what `page` goes on from."""
    return tuple(getattr(row, column.name) for column, _ in _ORDER[sort])


def page(
    session: Session, wanted: Filter = Filter(), sort: Sort = Sort.NEWEST, *,  # noqa: B008 - frozen
    after: tuple[Any, ...] | None = None, backwards: bool = False, limit: int = 100,
) -> tuple[JobRow, ...]:  # fmt: skip
    """One page of a list.

    Args:
        session: the transaction.
        wanted: which jobs.
        sort: in which order.
        after: the key of the row to go on from (`key_of`); None begins at the top, or backwards at the end.
        backwards: the page before that row; its rows come in the list's order all the same.
        limit: rows at most.
    """
    order = _ORDER[sort]
    descending = order[0][1] is not backwards
    columns = [column for column, _ in order]
    statement = sa.select(
        *(_JOB.c[name] for name in _COLUMNS),
        sa.func.left(_JOB.c.title, NAME_LIMIT).label("title"), sa.func.left(_JOB.c.artist, NAME_LIMIT).label("artist"),
        sa.func.left(_JOB.c.album, NAME_LIMIT).label("album"),
        sa.func.right(_JOB.c.relative_path, NAME_LIMIT).label("path"),
    ).where(*(condition(term) for term in wanted.terms))  # fmt: skip
    if sort is Sort.FINISHED:
        statement = statement.where(_JOB.c.finished_at.is_not(None))
    if after is not None:
        left, right = sa.tuple_(*columns), sa.tuple_(*(sa.literal(value) for value in after))
        statement = statement.where(left < right if descending else left > right)
    ordering = [column.desc() if descending else column.asc() for column in columns]
    found = [_row(row) for row in session.execute(statement.order_by(*ordering).limit(limit))]
    return tuple(reversed(found) if backwards else found)


def count(session: Session, wanted: Filter, *, limit: int = COUNT_LIMIT) -> Count:
    """How many jobs match, counted to `limit`: a list says `10,000+` rather than keep anybody waiting."""
    matching = sa.select(sa.literal(1)).select_from(_JOB).where(*(condition(term) for term in wanted.terms))
    number = int(session.scalar(sa.select(sa.func.count()).select_from(matching.limit(limit + 1).subquery())) or 0)
    return Count(min(number, limit), number <= limit)


def by_id(session: Session, job_uuids: tuple[UUID, ...]) -> tuple[JobRow, ...]:
    """The rows of these jobs that are still there."""
    ids = [str(job) for job in job_uuids]
    return page(session, Filter((Term("uuid", tuple(ids)),)), limit=len(ids)) if ids else ()


def existing(session: Session, names: Sequence[str]) -> set[str]:
    """Which of these names (of folders, say) are the id of a job."""
    return set(session.scalars(_EXISTING, {"names": list(names)}))


def condition(term: Term) -> Any:
    """A term as SQL."""
    anyhow = sa.or_(*(_one(term.field, value) for value in term.values))
    return sa.not_(sa.func.coalesce(anyhow, sa.false())) if term.negated else anyhow


_EQUAL: Final = {"state": "state", "user": "user_id", "engine": "engine", "stage": "stage", "pool": "pool"}
_PART: Final = {"title": ("title",), "artist": ("artist",), "album": ("album",)} | {
    TEXT: ("title", "artist", "album", "source_path")
}


def _one(field: str, value: Any) -> Any:
    if field in _EQUAL:
        return _JOB.c[_EQUAL[field]] == value
    if field in _PART:
        return sa.or_(*(_JOB.c[name].ilike(f"%{_literal(value)}%") for name in _PART[field]))
    return _OTHER[field](value)


def _of_error(value: str) -> Any:
    codes = [code for code, entry in CATALOGUE.items() if entry.kind.value == value]
    return _JOB.c.error_code.in_(codes or [value])


def _of_id(value: str) -> Any:
    text = sa.cast(_JOB.c.job_uuid, sa.Text)
    return sa.or_(text.like(f"{value}%"), text.like(f"%{value}"))


_OTHER: Final[Mapping[str, Callable[[Any], Any]]] = {
    "error": _of_error,
    "held": lambda value: _JOB.c.held.is_(sa.true() if value else sa.false()),
    "since": lambda value: _JOB.c.created_at >= value,
    "until": lambda value: _JOB.c.created_at < value,
    "uuid": lambda value: _JOB.c.job_uuid == value,
    "id": _of_id,
}


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _row(row: Any) -> JobRow:
    values = {name: getattr(row, name) for name in _COLUMNS}
    name = " - ".join(part for part in (row.artist, row.title) if part) or row.path
    return JobRow(**values, name=name, album=row.album)


@dataclass(frozen=True, slots=True)
class Published:
    """A file in the library."""

    artifact_uuid: UUID
    job_uuid: UUID
    kind: str
    path: str
    size: int
    published_at: datetime | None


def published(session: Session, *, before: UUID | None = None, limit: int = 200) -> tuple[Published, ...]:
    """Files of the library, last published first (receipts and covers aside); `before` goes on after that artifact."""
    columns = ("artifact_uuid", "job_uuid", "kind", "path", "size", "published_at")
    statement = (
        sa.select(*(_ARTIFACT.c[name] for name in columns))
        .where(_ARTIFACT.c.state == "published", _ARTIFACT.c.kind.regexp_match("^(receipt|cover):").is_(False))
        .order_by(_ARTIFACT.c.artifact_uuid.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(_ARTIFACT.c.artifact_uuid < before)
    return tuple(Published(*row) for row in session.execute(statement))
