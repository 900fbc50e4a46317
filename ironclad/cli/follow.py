"""Following jobs until they are settled, told by the database; a look now and then in case a notification got lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from ironclad.cli import results
from ironclad.jobs.feed import EVENT, PROGRESS, Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.cli.display import Bars, Plain
    from ironclad.cli.results import Result
    from ironclad.db.session import Database
    from ironclad.jobs.feed import Notice

_TICK_SECONDS: Final = 1.0


def follow(
    database: Database, find: Callable[[Session], Sequence[UUID]], expected: int, shown: Bars | Plain, *,
    check: Callable[[], None] = lambda: None,
) -> dict[UUID, Result]:  # fmt: skip
    """Wait until `expected` jobs are there and settled; returns their results.

    Args:
        database: where they are.
        find: the jobs there are so far.
        expected: how many there will be.
        shown: told of the progress.
        check: called at least once a second; what it raises ends the waiting.
    """
    jobs: dict[UUID, Result] = {}
    stopping = threading.Event()
    notices = Feed(database.dsn, (EVENT, PROGRESS)).listen(stopping, tick_seconds=_TICK_SECONDS)
    while len(jobs) < expected or not all(result.settled for result in jobs.values()):
        notice = next(notices)
        check()
        if notice is not None and notice.channel == PROGRESS:
            _progress(notice, jobs, shown)
            continue
        for job_uuid, result in _news(database, find, expected, jobs, notice).items():
            settled_now = result.settled and not (job_uuid in jobs and jobs[job_uuid].settled)
            jobs[job_uuid] = result
            if settled_now:
                shown.finished(result)
    stopping.set()
    return jobs


def _progress(notice: Notice, jobs: dict[UUID, Result], shown: Bars | Plain) -> None:
    name = str(notice.data.get("job"))
    for job_uuid, result in jobs.items():
        if str(job_uuid) == name and not result.settled:
            shown.stage(name, result.title, str(notice.data["stage"]))
            shown.progress(name, float(notice.data["progress"]))


def _news(
    database: Database, find: Callable[[Session], Sequence[UUID]], expected: int, jobs: dict[UUID, Result],
    notice: Notice | None,
) -> dict[UUID, Result]:  # fmt: skip
    """What a notice is about; without one, or after a new connection, everything that is not settled."""
    about = None if notice is None else notice.data.get("job")
    with database.session() as session:
        known = list(jobs) if len(jobs) == expected else list(find(session))
        asked = [job for job in known if job not in jobs or (not jobs[job].settled and about in {None, str(job)})]
        return {job: results.of(session, job) for job in asked}
