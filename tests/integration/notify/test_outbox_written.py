"""What operators should hear of is written with the change itself, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from ironclad.errors import AlreadyRunning, DiskFull, IroncladError, NotAudio
from ironclad.jobs import control, lease, notices
from ironclad.jobs.states import JobState
from ironclad.ops import backup, housekeeper
from ironclad.ops.disk import DiskFloor, Space
from ironclad.ops.health import HealthBoard
from ironclad.ops.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from ironclad.config import Settings
    from ironclad.db.session import Database


def written(database: Database) -> list[Any]:
    with database.session() as session:
        return list(session.execute(sa.text("SELECT * FROM notice ORDER BY id")))


def ask_for_success(database: Database) -> None:
    with database.session() as session:
        control.set_switch(session, notices.SWITCH, {"succeeded": True})


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.QUARANTINED])
def test_a_failure_is_in_the_outbox(
    database: Database, put: Callable[..., UUID], finish: Callable[..., None], state: JobState
) -> None:
    job = put("song")
    finish(job, state, NotAudio("a web page"))
    (notice,) = written(database)
    assert (notice.kind, notice.alert, notice.status, notice.severity) == (
        "job_failed", f"job:{job}", "firing", "error",
    )  # fmt: skip
    assert notice.labels["code"] == "E_NOT_AUDIO"
    assert notice.labels["state"] == state
    assert notice.labels["error_kind"] == "input"
    assert notice.data["hint"] == NotAudio.hint
    assert notice.data["detail"] == "a web page"
    assert notice.routed_at is None


def test_what_is_rolled_back_is_not_told(database: Database, put: Callable[..., UUID]) -> None:
    job = put("song")
    with database.session() as session:
        claim = lease.claim(session, job, 1, worker="w", lease_seconds=30)
    assert claim is not None
    with pytest.raises(RuntimeError), database.session() as session:  # noqa: PT012 - the transaction is the point
        lease.finish(session, claim.fence, JobState.FAILED, actor="w", error=NotAudio())
        assert session.scalar(sa.text("SELECT count(*) FROM notice")) == 1
        raise RuntimeError
    assert written(database) == []


def test_a_job_that_went_through_says_nothing_unless_asked_for(
    database: Database, put: Callable[..., UUID], finish: Callable[..., None]
) -> None:
    finish(put("one"))
    assert written(database) == []
    ask_for_success(database)
    finish(put("two"))
    (notice,) = written(database)
    assert (notice.kind, notice.status, notice.severity) == ("job_succeeded", "note", "info")


def test_a_failed_job_that_is_over_after_all_resolves_its_alert(
    database: Database, put: Callable[..., UUID], finish: Callable[..., None]
) -> None:
    job = put("song")
    finish(job, JobState.FAILED, NotAudio())
    with database.session() as session:
        control.retry(session, job, actor="cli", pools=frozenset({"cpu"}))
        control.cancel(session, job, actor="cli")
    assert [(notice.alert, notice.status) for notice in written(database)] == [
        (f"job:{job}", "firing"), (f"job:{job}", "resolved"),
    ]  # fmt: skip


def test_a_cancelled_job_that_never_failed_is_no_news(database: Database, put: Callable[..., UUID]) -> None:
    job = put("song")
    with database.session() as session:
        control.cancel(session, job, actor="cli")
    assert written(database) == []


def test_a_file_name_that_is_no_text_does_not_stop_the_failure(
    database: Database, put: Callable[..., UUID], finish: Callable[..., None]
) -> None:
    job = put("song")
    with database.session() as session:
        session.execute(
            sa.text("UPDATE job SET title = :title WHERE job_uuid = :job"), {"title": "x" * 5000, "job": job}
        )
    finish(job, JobState.FAILED, NotAudio("\udcff\x00"))
    (notice,) = written(database)
    assert len(notice.data["name"]) == 200


def test_the_disk_floor_fires_and_resolves(database: Database, settings: Settings) -> None:
    free = [10**9]
    clock = iter(range(0, 1000, 10))
    floor = DiskFloor(
        settings, database, HealthBoard(), Metrics("dispatch", process=False),
        measure=lambda layout, limit: Space(layout.root, free[0], limit), clock=lambda: float(next(clock)),
    )  # fmt: skip
    for now in (10**9, 1, 1, 10**9, 10**9):
        free[0] = now
        floor.step()
    found = written(database)
    assert [(notice.kind, notice.status) for notice in found] == [("disk_low", "firing"), ("disk_low", "resolved")]
    assert found[0].data["code"] == DiskFull.code


def test_the_notifier_is_woken_when_the_change_is_there(
    database: Database, put: Callable[..., UUID], finish: Callable[..., None]
) -> None:
    job = put("song")
    with psycopg.connect(database.dsn, autocommit=True) as listener:
        listener.execute(f"LISTEN {notices.CHANNEL}")
        finish(job, JobState.FAILED, NotAudio())
        assert [note.payload for note in listener.notifies(timeout=60, stop_after=1)] == ["{}"]


def test_kinds_of_plugins_are_warnings_by_default(database: Database) -> None:
    with database.session() as session:
        notices.publish(session, notices.Notice("press_hot", "press:1", data={"detail": "90 °C"}))
    (notice,) = written(database)
    assert notice.severity == "warning"


def test_a_backup_that_waits_for_a_drill_has_not_failed(database: Database, settings: Settings) -> None:
    settings.layout.create()
    with backup.alone(settings), pytest.raises(AlreadyRunning):
        housekeeper.tidy(database, settings)
    assert backup.due(settings)
    housekeeper.tidy(database, settings)
    assert not backup.due(settings)
    assert [one.kind for one in written(database)] == []


def test_a_backup_that_fails_is_told_and_so_is_the_next_good_one(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.layout.create()
    monkeypatch.setenv("PATH", "/nonexistent")
    settings.layout.backups.rmdir()
    settings.layout.backups.write_text("in the way")
    with pytest.raises((IroncladError, OSError)):
        housekeeper.tidy(database, settings)
    (notice,) = written(database)
    assert (notice.kind, notice.alert, notice.status) == ("backup_failed", "backup", "firing")
    with database.session() as session:
        assert notices.resolve(session, "backup", detail="made")
        assert not notices.resolve(session, "backup", detail="made")
    assert [one.status for one in written(database)] == ["firing", "resolved"]
