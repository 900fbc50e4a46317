"""Health as a table with history: every change once, with its time, outages of the database included."""

from __future__ import annotations

import json
import os
import queue
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from ironclad.ops import health_log, heartbeat
from ironclad.ops.health import HealthBoard, Status
from ironclad.ops.health_log import CHANNEL, HealthLog
from ironclad.ops.heartbeat import Heartbeat, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.db.session import Database


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def log() -> HealthLog:
    return HealthLog("watch@here/1")


@pytest.fixture
def board(log: HealthLog) -> HealthBoard:
    return HealthBoard(log.note)


def changes(database: Database) -> list[tuple[str, str | None, str]]:
    with database.session() as session:
        return [(one.component, one.from_status, one.to_status) for one in reversed(health_log.history(session))]


def current(database: Database) -> set[tuple[str, str]]:
    with database.session() as session:
        return {(one.service, one.component) for one in health_log.current(session)}


def test_changes_become_rows_and_events_once(
    database: Database, connection: psycopg.Connection, board: HealthBoard, log: HealthLog
) -> None:
    board.ok("disk")
    board.failed("database", "away", "start it")
    log.write(connection)
    board.ok("database")
    board.ok("database")
    log.write(connection)
    log.write(connection)
    assert changes(database) == [("database", None, "failed"), ("database", "failed", "ok")]
    with database.session() as session:
        current = {one.component: one.status for one in health_log.current(session)}
        (last, first) = health_log.history(session)
    assert current == {"disk": "ok", "database": "ok"}
    assert (first.detail, first.remedy, first.service) == ("away", "start it", "watch@here/1")
    assert first.at <= last.at


def test_a_restart_in_the_same_state_is_no_change(
    database: Database, connection: psycopg.Connection, board: HealthBoard, log: HealthLog
) -> None:
    board.degraded("disk", "low")
    log.write(connection)
    again = HealthLog("watch@here/1")
    HealthBoard(again.note).degraded("disk", "low")
    again.write(connection)
    assert changes(database) == [("disk", None, "degraded")]


def test_what_a_killed_process_left_and_nobody_has_any_more_is_forgotten(
    database: Database, connection: psycopg.Connection, board: HealthBoard, log: HealthLog
) -> None:
    board.degraded("root 1", "low")
    board.degraded("root 2", "away")
    log.write(connection)
    other = HealthLog("watch@there/1")
    HealthBoard(other.note).degraded("root 2", "away")
    other.write(connection)
    now = 1000.0
    again = HealthLog("watch@here/1", monotonic=lambda: now)
    HealthBoard(again.note).degraded("root 1", "low")
    again.write(connection)
    assert len(current(database)) == 3  # what is not reported yet may still be
    now += 300
    again.write(connection)
    assert current(database) == {("watch@here/1", "root 1"), ("watch@there/1", "root 2")}


def test_what_happened_while_the_database_was_away_is_written_later_with_its_time(
    database: Database, board: HealthBoard, log: HealthLog
) -> None:
    clock = iter([1000.0, 2000.0, 3000.0])
    board = HealthBoard(log.note, clock=lambda: next(clock))
    board.ok("database")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        log.write(connection)
    board.failed("database", "away")
    with pytest.raises(psycopg.Error):
        log.write(connection)  # it is closed, as a server that is away
    board.ok("database")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        log.write(connection)
    with database.session() as session:
        found = [(one.to_status, one.at.timestamp()) for one in health_log.history(session)]
    assert found == [("ok", 3000.0), ("failed", 2000.0)]


def test_listeners_hear_of_each_change(
    database: Database, connection: psycopg.Connection, board: HealthBoard, log: HealthLog
) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        board.failed("prefect", "away")
        log.write(connection)
        (notice,) = listener.notifies(timeout=60, stop_after=1)
    told = json.loads(notice.payload)
    assert (told["service"], told["component"], told["from"], told["to"]) == ("watch@here/1", "prefect", None, "failed")


def test_a_heartbeat_carries_them_and_a_clean_stop_forgets_what_is_current(
    database: Database, board: HealthBoard, log: HealthLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_CONNECT_SECONDS", 60)  # it gives up soon, on a busy machine, too
    board.failed("engine", "no model", "get it")
    beaten: queue.Queue[str | None] = queue.Queue()
    row = Row("watch@here/1", "watch", None, {"pid": os.getpid()})
    heart = Heartbeat(database.dsn, lambda: row, beaten.put, log, seconds=60)
    heart.start()
    assert beaten.get(timeout=60) is None
    with database.session() as session:
        (one,) = health_log.current(session)
    assert (one.component, one.status, one.silent) == ("engine", "failed", False)
    heart.stop()
    with database.session() as session:
        assert health_log.current(session) == []
        assert len(health_log.history(session)) == 1


def test_a_service_that_fell_silent_is_marked(database: Database, connection: psycopg.Connection) -> None:
    log = HealthLog("gone@there/1")
    HealthBoard(log.note).ok("disk")
    log.write(connection)
    with database.session() as session:
        assert [one.silent for one in health_log.current(session)] == [True]


def test_old_changes_go(database: Database, connection: psycopg.Connection, board: HealthBoard, log: HealthLog) -> None:
    board.failed("disk", "x")
    board.ok("disk")
    log.write(connection)
    with database.session() as session:
        session.execute(sa.text("UPDATE health_event SET at = at - interval '91 days' WHERE to_status = 'failed'"))
    with database.session() as session:
        assert health_log.prune(session) == 1
    assert changes(database) == [("disk", "failed", "ok")]


def test_writers_in_many_threads_lose_nothing(
    database: Database, connection: psycopg.Connection, board: HealthBoard, log: HealthLog
) -> None:
    def flutter(name: str) -> None:
        for status in (Status.FAILED, Status.OK) * 10:
            board.report(name, status)

    threads = [threading.Thread(target=flutter, args=(f"c{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        log.write(connection)
    log.write(connection)
    assert len(changes(database)) == 4 * 20
