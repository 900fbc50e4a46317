"""A cancel that is asked for while an attempt gives its job back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ironclad.engines.hosts import LocalHosts
from ironclad.engines.pool import HostPool
from ironclad.jobs import control
from ironclad.jobs.states import JobState
from ironclad.stages.runner import Attempt

if TYPE_CHECKING:
    from ironclad.config import Settings
    from ironclad.db.session import Database


@pytest.mark.parametrize("asked", [True, False])
def test_a_hand_off_says_where_the_job_went(
    database: Database, settings: Settings, claims: Any, asked: bool  # noqa: FBT001 - a table's column
) -> None:  # fmt: skip
    claim = claims()
    attempt = Attempt(database, settings, claim, "test", LocalHosts(HostPool()))
    if asked:
        with database.session() as session:
            control.cancel(session, claim.job.job_uuid, actor="user:ana")
    assert attempt._end(JobState.QUEUED, None, pool="gpu", handoff=True) == ("cancelled" if asked else "queued")
