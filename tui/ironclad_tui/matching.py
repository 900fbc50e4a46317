"""Whether a row of the list of jobs fits a filter, where no database can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import CATALOGUE, Unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.jobs.listing import JobRow
    from ironclad.jobs.search import Term


def holds(row: JobRow, term: Term) -> bool:
    """Whether a term of the filter holds for a row."""
    return any(_one(row, term.field, value) for value in term.values) is not term.negated


_FIELDS: Final[Mapping[str, Callable[[JobRow, Any], bool]]] = {
    "state": lambda row, value: bool(row.state == value),
    "user": lambda row, value: bool(row.user_id == value),
    "engine": lambda row, value: bool(row.engine == value),
    "stage": lambda row, value: bool(row.stage == value),
    "pool": lambda row, value: bool(row.pool == value),
    "since": lambda row, value: bool(row.created_at >= value),
    "until": lambda row, value: bool(row.created_at < value),
    "held": lambda row, value: row.held is value,
    "error": lambda row, value: row.error_code is not None and _is_error(row.error_code, value),
    "id": lambda row, value: str(row.job_uuid).startswith(value) or str(row.job_uuid).endswith(value),
}


def _is_error(code: str, value: str) -> bool:
    return value in (code, CATALOGUE.get(code, Unexpected).kind.value)


def _one(row: JobRow, field: str, value: Any) -> bool:
    if field in _FIELDS:
        return _FIELDS[field](row, value)
    return str(value).casefold() in f"{row.name} {row.album or ''}".casefold()
