"""What a check of the library finds is told: a published file that is not what was published, and when it is again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ironclad.db import jsonb
from ironclad.jobs import notices
from ironclad.jobs.notices import Notice
from ironclad.library.receipt import sidecar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ironclad.db.session import Database
    from ironclad.library.verify import Check, Subset

_PREFIX: Final = "drift:"
_HINT: Final = (
    "If nobody changed it on purpose, look at the disk; `ironclad jobs replay JOB --from organize` publishes the track "
    "anew."
)
# Of each file that was ever told: the last word.
_FIRING: Final = sa.text(
    "SELECT alert FROM (SELECT DISTINCT ON (alert) alert, status FROM notice WHERE kind = 'drift' "
    "ORDER BY alert, id DESC) AS last WHERE status = 'firing'"
)
_JOB: Final = sa.text("SELECT job_uuid FROM artifact WHERE path = :path AND state = 'published' LIMIT 1")


def told(
    checks: Iterable[Check], database: Database, library: Path, root: Path, subset: Subset | None = None
) -> Iterator[Check]:
    """Pass the checks on, and publish what became worse or better since the last ones.

    Args:
        checks: of `check_library`.
        database: where the outbox is.
        library: only files of it are told of.
        root: what is checked; if it is the whole library, what is no longer part of it is over.
        subset: which part of it.
    """
    with database.session() as session:
        firing = set(session.scalars(_FIRING))
    seen = set()
    for check in checks:
        if check.path.is_relative_to(library):
            alert = jsonb.text(f"{_PREFIX}{check.path.relative_to(library)}")
            seen.add(alert)
            if check.verdict.good == (alert in firing):
                _publish(database, check, alert)
        yield check
    if root == library:
        for alert in firing - seen:
            track = library / alert.removeprefix(_PREFIX)
            if subset is None or subset.holds(sidecar(track).relative_to(library).as_posix()):
                with database.session() as session:
                    notices.resolve(session, alert, detail="It is no longer part of the library.")


def _publish(database: Database, check: Check, alert: str) -> None:
    with database.session() as session:
        if check.verdict.good:
            notices.resolve(session, alert, detail="It is what was published.")
            return
        job = session.scalar(_JOB, {"path": str(check.path)})
        data = {
            "name": alert.removeprefix(_PREFIX), "detail": f"{check.verdict.value}: {check.detail}".rstrip(": "),
            "hint": _HINT, **({"job_uuid": str(job)} if job else {}),
        }  # fmt: skip
        notices.publish(session, Notice("drift", alert, labels={"verdict": check.verdict.value}, data=data))
