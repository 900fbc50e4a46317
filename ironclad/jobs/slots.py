"""How many jobs a pool runs at a time, as an operator changed it while everything runs.

The number of the settings is each worker's own. One that was changed is the pool's: it is kept in the database until it
is taken back, the dispatcher hands out no more than that, and each worker takes up to as many at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ironclad.errors import BadRequest
from ironclad.jobs import control

if TYPE_CHECKING:
    from sqlmodel import Session

MOST: Final = 1024
CHANGED: Final = "SELECT (value->>'slots')::int AS slots FROM control WHERE name = 'slots:' || %(pool)s::text"
"""What a worker asks, as psycopg has it; no row: the settings' number."""


@dataclass(frozen=True, slots=True)
class Slots:
    """A pool's slots."""

    number: int
    changed: bool
    """By an operator; else it is the settings' number."""


def now(session: Session, pool: str, declared: int) -> Slots:
    """What is in force for a pool of which the settings say `declared`; its row is put right if it says otherwise."""
    row = session.execute(
        sa.text(
            "SELECT (SELECT slots FROM pool WHERE name = :pool) AS shown, "
            "(SELECT (value->>'slots')::int FROM control WHERE name = 'slots:' || CAST(:pool AS text)) AS changed"
        ),
        {"pool": pool},
    ).one()
    number = declared if row.changed is None else int(row.changed)
    if row.shown != number:
        control.declare_pools(session, {pool: declared})
    return Slots(number, row.changed is not None)


def shown(session: Session, pool: str) -> Slots:
    """What was in force when the dispatcher looked last. Raises `BadRequest` for no such pool."""
    known: dict[str, int] = {row.name: row.slots for row in session.execute(sa.text("SELECT name, slots FROM pool"))}
    if pool not in known:
        raise BadRequest(f"There is no pool {pool}; there is {', '.join(sorted(known)) or 'none yet'}.")
    return Slots(known[pool], bool(control.switch(session, f"slots:{pool}")))


def change(session: Session, pool: str, number: int | None, *, actor: str) -> Slots:
    """Run so many jobs of a pool at a time, or (None) as many as the settings say. Raises `BadRequest`.

    Running jobs finish, so after a smaller number it takes them until it holds.
    """
    if number is not None and not 1 <= number <= MOST:
        raise BadRequest(f"{number} is not between 1 and {MOST}; to run none, pause the pool.")
    before = int(control.switch(session, f"slots:{pool}").get("declared", shown(session, pool).number))
    if number is None:
        session.execute(sa.text("UPDATE pool SET slots = :slots WHERE name = :pool"), {"pool": pool, "slots": before})
        session.execute(sa.text("DELETE FROM control WHERE name = 'slots:' || CAST(:pool AS text)"), {"pool": pool})
        control.told(session, pool)
        return Slots(before, changed=False)
    session.execute(sa.text("UPDATE pool SET slots = :slots WHERE name = :pool"), {"pool": pool, "slots": number})
    control.set_switch(session, f"slots:{pool}", {"slots": number, "declared": before, "by": actor})
    return Slots(number, changed=True)
