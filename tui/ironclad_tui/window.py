"""The part of an endless list that is in memory: pages come at its ends, and far ones are let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ironclad.jobs.listing import JobRow, Sort, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

PAGE: Final = 100
KEEP: Final = 600
"""Rows that are kept: a screen and enough around it to scroll without waiting."""


class Window:
    """Some rows in a row, and whether there are more above or below."""

    def __init__(self) -> None:
        self.page = PAGE
        self.rows: tuple[JobRow, ...] = ()
        self.more_above = False
        self.more_below = False

    @property
    def at_top(self) -> bool:
        """Whether the list's first row is here: then new jobs can be seen coming in."""
        return not self.more_above

    @property
    def refresh_limit(self) -> int:
        """How many rows to read to see what is here anew."""
        return max(self.page, len(self.rows))

    def set_top(self, rows: Sequence[JobRow], limit: int) -> None:
        """The list's first rows, of which `limit` were asked for."""
        self.rows = tuple(rows)
        self.more_above, self.more_below = False, len(rows) >= limit

    def set_end(self, rows: Sequence[JobRow], limit: int) -> None:
        """The list's last rows."""
        self.rows = tuple(rows)
        self.more_above, self.more_below = len(rows) >= limit, False

    def holds_edge(self, side: int) -> bool:
        """Whether the very first (-1) or last (1) row is here."""
        return not (self.more_below if side > 0 else self.more_above)

    def key_beyond(self, side: int, sort: Sort) -> tuple[Any, ...] | None:
        """What to go on from at an end; None if there is nothing beyond."""
        if self.holds_edge(side) or not self.rows:
            return None
        return key_of(self.rows[-1 if side > 0 else 0], sort)

    def extend(self, side: int, rows: Sequence[JobRow], limit: int) -> None:
        """A page beyond an end, of which `limit` rows were asked for; the other end may be let go."""
        known = {row.job_uuid for row in self.rows}
        new = tuple(row for row in rows if row.job_uuid not in known)
        if side > 0:
            whole = self.rows + new
            self.more_below = len(rows) >= limit
            self.more_above = self.more_above or len(whole) > KEEP
            self.rows = whole[-KEEP:]
        else:
            whole = new + self.rows
            self.more_above = len(rows) >= limit
            self.more_below = self.more_below or len(whole) > KEEP
            self.rows = whole[:KEEP]

    def update(self, ids: Sequence[UUID], rows: Sequence[JobRow]) -> None:
        """Rows as they are now; those of `ids` that did not come back are no longer there."""
        fresh = {row.job_uuid: row for row in rows}
        gone = set(ids) - set(fresh)
        self.rows = tuple(fresh.get(row.job_uuid, row) for row in self.rows if row.job_uuid not in gone)
