"""A worker that comes back from the dead changes nothing: every write of an attempt is fenced."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.errors import EngineFailed, LeaseLost
from ironclad.jobs import history, lease
from ironclad.jobs.ids import uuid7
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from sqlmodel import Session

Write = Callable[["Session", lease.Fence, Any], Any]
ARTIFACT = uuid7()

WRITES: dict[str, Write] = {
    "heartbeat": lambda s, f, _: lease.heartbeat(s, f, lease_seconds=30, progress=0.9),
    "assert_held": lambda s, f, _: lease.assert_held(s, f),
    "stage_started": lambda s, f, _: history.stage_started(s, f, "separate"),
    "stage_progress": lambda s, f, _: history.stage_progress(s, f, "validate", 0.9, "zombie"),
    "stage_ended": lambda s, f, _: history.stage_ended(
        s, f, "validate", reused=False, data={"z": 1}, following="organize", facts={"title": "Zombie"}
    ),
    "note": lambda s, f, _: history.note(s, f, "zombie", "validate", z=1),
    "intend": lambda s, f, _: history.intend(s, f, kind="vocals", path="/z", size=1, blake3="z", receipt=None),
    "published": lambda s, f, _: history.published(s, f, ARTIFACT, "/intended"),
    "finish": lambda s, f, _: lease.finish(s, f, JobState.SUCCEEDED, actor="zombie"),
    "hand_off": lambda s, f, _: lease.finish(s, f, JobState.QUEUED, actor="zombie", pool="gpu"),
    "fail": lambda s, f, bench: lease.fail(s, f, EngineFailed("z"), actor="zombie", settings=bench.settings.jobs),
}  # fmt: skip

TABLES = ("job", "job_event", "attempt", "stage_run", "artifact")


def snapshot(bench: Any) -> list[list[Any]]:
    return [[row[0] for row in bench.rows(f"SELECT {table}::text FROM {table} ORDER BY 1")] for table in TABLES]


def working(bench: Any) -> lease.Fence:
    """A running attempt with a stage at work and a file about to be published."""
    fence: lease.Fence = bench.claim(bench.job("queued"), run_id="r1").fence
    with bench.session() as session:
        history.stage_started(session, fence, "validate")
        history.intend(session, fence, kind="instrumental", path="/intended", size=1, blake3="b", receipt=None)
    bench.rows("UPDATE artifact SET artifact_uuid = :id", id=ARTIFACT)
    return fence


def refused(bench: Any, write: Write, fence: lease.Fence, database: Any = None) -> None:
    before = snapshot(bench)
    with (database or bench.database).session() as session, pytest.raises(LeaseLost):
        write(session, fence, bench)
    assert snapshot(bench) == before


@pytest.mark.parametrize("name", WRITES)
def test_the_write_is_accepted_while_the_lease_lives(bench: Any, name: str) -> None:
    fence = working(bench)
    before = snapshot(bench)
    with bench.session() as session:
        WRITES[name](session, fence, bench)
    assert (snapshot(bench) == before) == (name == "assert_held")


@pytest.mark.parametrize("name", WRITES)
def test_the_write_is_refused_after_the_lease_ran_out(bench: Any, name: str) -> None:
    fence = working(bench)
    refused(bench, WRITES[name], fence, bench.later(31))


@pytest.mark.parametrize("name", WRITES)
def test_the_write_is_refused_after_the_reaper_came(bench: Any, name: str) -> None:
    fence = working(bench)
    bench.reap(after=31)
    refused(bench, WRITES[name], fence)


@pytest.mark.parametrize("name", WRITES)
def test_the_write_is_refused_while_the_next_attempt_works(bench: Any, name: str) -> None:
    fence = working(bench)
    bench.reap(after=31)
    bench.claim(fence.job_uuid, run_id="r2")
    refused(bench, WRITES[name], fence)


@pytest.mark.parametrize("name", WRITES)
def test_the_write_is_refused_after_the_attempt_ended(bench: Any, name: str) -> None:
    fence = working(bench)
    with bench.session() as session:
        lease.finish(session, fence, JobState.SUCCEEDED, actor="worker")
    refused(bench, WRITES[name], fence)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("wrong", ["token", "attempt", "job"])
def test_the_whole_fence_counts(bench: Any, name: str, wrong: str) -> None:
    fence = working(bench)
    other = {
        "token": lease.Fence(fence.job_uuid, fence.attempt, uuid7()),
        "attempt": lease.Fence(fence.job_uuid, fence.attempt + 1, fence.token),
        "job": lease.Fence(bench.job("running"), fence.attempt, fence.token),
    }[wrong]
    refused(bench, WRITES[name], other)


def test_an_artifact_of_another_attempt_cannot_be_published(bench: Any) -> None:
    fence = working(bench)
    bench.reap(after=31)
    second = bench.claim(fence.job_uuid).fence
    refused(bench, WRITES["published"], second)
    stranger = bench.claim(bench.job("queued")).fence
    refused(bench, WRITES["published"], stranger)


def test_a_superseded_intent_cannot_be_published(bench: Any) -> None:
    fence = working(bench)
    with bench.session() as session:
        history.intend(session, fence, kind="instrumental", path="/better", size=1, blake3="b", receipt=None)
    refused(bench, WRITES["published"], fence)
