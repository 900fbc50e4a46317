"""The recorder: history written, read back, and shown as it was at any moment."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from cockpit import Cockpit, cockpit

from ironclad.errors import BadRequest, EngineDied, NotFound, Paused
from ironclad.jobs import lease, recording, submit, transition
from ironclad.jobs.listing import Sort
from ironclad.jobs.recording import RecordedEvent, RecordedJob, Recording
from ironclad.jobs.search import parse
from ironclad.jobs.states import JobState
from ironclad_tui.replay import RecordedSource, at_time, recorded, write

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database

BEGIN = datetime(2026, 3, 4, 3, 0, 0, tzinfo=UTC)
ONE, TWO = UUID("019ca000-0000-7000-8000-000000000001"), UUID("019ca000-0000-7000-8000-000000000002")


def minute(number: float) -> datetime:
    return BEGIN + timedelta(minutes=number)


def history() -> Recording:
    """Two jobs: one succeeds, one fails at 03:12."""
    error = EngineDied("signal 9").to_dict()
    steps: list[tuple[float, UUID, str, str | None, str | None, dict[str, Any]]] = [
        (0, ONE, "received", "received", None, {}), (1, ONE, "queued", "queued", None, {}),
        (2, ONE, "claimed", "running", "validate", {}), (3, ONE, "stage_started", None, "validate", {}),
        (4, ONE, "stage_done", None, "validate", {}), (5, ONE, "stage_started", None, "separate", {}),
        (6, TWO, "received", "received", None, {}), (7, TWO, "queued", "queued", None, {}),
        (7.5, TWO, "held", None, None, {}), (7.7, TWO, "released", None, None, {}),
        (8, TWO, "claimed", "running", "separate", {}), (8.5, TWO, "stage_started", None, "separate", {}),
        (9, TWO, "cancel_requested", None, "separate", {}),
        (10, ONE, "succeeded", "succeeded", "organize", {}),
        (12, TWO, "failed", "failed", "separate", {"error": error}),
    ]  # fmt: skip
    jobs = [
        RecordedJob(ONE, "ana", "center", "cpu", "Ana - Blue", "Colours", 180.0, minute(0)),
        RecordedJob(TWO, "ben", "center", "cpu", "Ben - Red", None, 60.0, minute(6)),
    ]
    events = [
        RecordedEvent(i, job, minute(at), kind, state, int(state is not None and at > 1), stage, "worker:w1", data)
        for i, (at, job, kind, state, stage, data) in enumerate(steps, 1)
    ]
    return Recording(jobs, reversed(events))


def test_a_moment_is_as_it_was() -> None:
    found = history()
    assert found.moment(minute(-1)) == {}
    assert {job: one.state for job, one in found.moment(minute(1)).items()} == {ONE: "queued"}
    at_seven = found.moment(minute(7.6))
    assert (at_seven[ONE].state, at_seven[ONE].stage, at_seven[ONE].worker) == ("running", "separate", "w1")
    assert at_seven[TWO].held
    at_nine = found.moment(minute(9))
    assert (at_nine[TWO].held, at_nine[TWO].cancel_requested) == (False, True)
    end = found.moment(minute(99))
    assert (end[ONE].state, end[ONE].finished_at, end[ONE].worker) == ("succeeded", minute(10), None)
    assert end[TWO].error is not None
    assert end[TWO].error["code"] == "E_ENGINE_DIED"
    assert not end[TWO].cancel_requested


def test_stepping_goes_from_event_to_event() -> None:
    found = history()
    assert (found.begin, found.end) == (minute(0), minute(12))
    assert found.beside(minute(0), -1) == minute(0)
    assert found.beside(minute(1), -1) == minute(0)
    assert found.beside(minute(1), 1) == minute(2)
    assert found.beside(minute(12), 1) == minute(12)
    assert len(found.of(TWO, minute(8))) == 5


def test_a_recording_is_the_same_after_a_file() -> None:
    found = history()
    again = recording.read(list(recording.lines(found)))
    assert (again.jobs, again.events) == (found.jobs, found.events)
    assert Recording([], []).begin is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("x", "Line 1"),
        ('{"format": "other"}', "not a recording"),
        ('{"format": "ironclad-recording", "version": 9}', "version 9"),
        ('{"format": "ironclad-recording", "version": 1}\n{"job_uuid": "x"}', "Line 2"),
        ('{"format": "ironclad-recording", "version": 1}\n{"kind": "x"}', "Line 2"),
        ('{"format": "ironclad-recording", "version": 1}\n7', "Line 2"),
    ],
)
def test_a_broken_recording_is_named_by_its_line(text: str, part: str) -> None:
    with pytest.raises(BadRequest, match=part):
        recording.read(io.StringIO(text))


def test_the_cockpit_moves_through_time() -> None:
    async def visit(driver: Cockpit) -> None:
        assert "read-only · history at 2026-03-04 03:12:00 UTC" in driver.frame()
        assert "✗ 1 job failed in the last 15 minutes." in driver.frame()
        await driver.press("left")
        assert "at 2026-03-04 03:10:00 UTC" in driver.frame()
        assert "Ben - Red" in driver.frame()
        await driver.press("shift+left")
        assert "at 2026-03-04 03:09:00 UTC" in driver.frame()
        assert "⊘ cancel" in driver.frame()
        assert "Ana - Blue" in driver.frame()
        await driver.press("2", "right")
        assert "✓ succeeded" in driver.frame()
        await driver.press("shift+right", "shift+right", "3")
        assert "E_ENGINE_DIED" in driver.frame()
        await driver.press("enter")
        assert "signal 9" in driver.frame()
        assert "separate   ✗ failed" in driver.frame()
        await driver.press("r")
        assert any("happened has happened" in toast for toast in driver.toasts())
        await driver.press("escape", "slash")

    cockpit(RecordedSource(history(), None, "history"), visit)


def test_the_arrow_keys_still_edit_the_filter() -> None:
    source = RecordedSource(history(), None, "history")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "slash")
        await driver.type("user:na")
        await driver.press("left", "left")
        await driver.type("a")
        await driver.press("enter")
        assert "filter user:ana" in driver.frame()
        assert source.now() == minute(12)

    cockpit(source, visit)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", [TWO, ONE]), ("state:failed", [TWO]), ("-state:failed", [ONE]), ("user:ana", [ONE]), ("colours", [ONE]),
        ("error:engine", [TWO]), ("error:E_ENGINE_DIED", [TWO]), ("error:input", []), ("held:no", [TWO, ONE]),
        ("since:2026-03-04T03:05", [TWO]), ("until:2026-03-04T03:05", [ONE]), (f"id:{str(ONE)[-4:]}", [ONE]),
        ("engine:center pool:cpu stage:separate", [TWO]),
    ],
)  # fmt: skip
def test_filters_work_on_recordings(text: str, wanted: list[UUID]) -> None:
    source = RecordedSource(history(), None, "history")
    rows = source.jobs(parse(text), Sort.NEWEST)
    assert [row.job_uuid for row in rows] == wanted
    assert source.count(parse(text)).number == len(wanted)


def test_pages_of_a_recording() -> None:
    source = RecordedSource(history(), None, "history")
    first = source.jobs(parse(""), Sort.OLDEST, limit=1)
    second = source.jobs(parse(""), Sort.OLDEST, after=(first[0].job_uuid,), limit=1)
    assert [row.job_uuid for row in (*first, *second)] == [ONE, TWO]
    assert source.jobs(parse(""), Sort.OLDEST, after=(TWO,), backwards=True) == first
    assert source.jobs(parse(""), Sort.FINISHED, backwards=True, limit=1) == first
    assert source.rows((TWO, UUID(int=1))) == second


def test_what_was_not_recorded_is_empty_and_what_was_not_there_is_not_found() -> None:
    source = RecordedSource(history(), minute(1), "history")
    assert (source.health(), source.engines(), source.settings(), source.log("", ""), source.log_services()) == (
        (),
    ) * 5
    assert (source.library().files, source.maintenance().folders, source.job_log(ONE)) == ((), (), ())
    with pytest.raises(NotFound):
        source.job(TWO)
    with pytest.raises(Paused):
        source.pause(None, paused=True)


def test_history_of_a_real_database(database: Database, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "song.flac"
    file.write_bytes(b"x")
    with database.session() as session:
        new = submit.NewJob(user_id="ana", source=file, stat=file.stat(), relative_path="song.flac")
        job = submit.receive(session, new, settings).job_uuid
        submit.claimed(session, job, "hash")
    with database.session() as session:
        claim = lease.claim(session, job, 1, worker="w1", lease_seconds=30)
        assert claim is not None
    with database.session() as session:
        lease.finish(session, claim.fence, JobState.FAILED, actor="worker:w1", error=EngineDied("signal 9"))
    path = tmp_path / "day.jsonl"
    write(database, path)
    with pytest.raises(BadRequest, match="cannot be written"):
        write(database, path)
    for source in (recorded(path), at_time(database, "0s")):
        (row,) = source.jobs(parse(""), Sort.NEWEST)
        assert (row.job_uuid, row.state, row.error_code, row.name) == (job, "failed", "E_ENGINE_DIED", "song")
        (group,) = source.failures()
        assert source.members(group.key) == (job,)
        detail = source.job(job)
        assert [event.kind for event in detail.events] == ["received", "queued", "claimed", "failed"]
        assert detail.attempts[0].worker == "w1"
    assert at_time(database, "2h").glance().states["failed"] == 0
    with database.session() as session:
        assert transition.load(session, job).state == "failed"
    for wrong in ("yesterday", "", "99999999w"):
        with pytest.raises(BadRequest, match="is no time"):
            at_time(database, wrong)
    with pytest.raises(BadRequest, match="cannot be read"):
        recorded(tmp_path / "missing")
