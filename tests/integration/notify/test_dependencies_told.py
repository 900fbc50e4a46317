"""What services miss is told once, however many say so, and so is its end; with a clock that is stepped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ironclad.ops.health import HealthBoard, Status
from ironclad.ops.health_log import HealthLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.db.session import Database

Desk = Any


class Services:
    """Services of made-up hosts that write down how they are, as the heartbeat has them do it."""

    def __init__(self, connection: psycopg.Connection, here: Desk) -> None:
        self._connection = connection
        self._here = here
        self._boards: dict[str, tuple[HealthBoard, HealthLog]] = {}

    def say(self, service: str, component: str, status: str, detail: str = "") -> None:
        if service not in self._boards:
            log = HealthLog(service)
            self._boards[service] = (HealthBoard(log.note), log)
        board, log = self._boards[service]
        board.report(component, Status(status), detail, "put it right" if status != "ok" else "")
        log.write(self._connection)
        self.beat(service)

    def beat(self, service: str) -> None:
        board, _ = self._boards[service]
        name, _, host = service.partition("@")
        self._here.rows(
            "INSERT INTO worker (name, kind, host, pid, seen_at, data) VALUES (:service, :name, :host, 1, :now, "
            "jsonb_build_object('status', CAST(:status AS text))) ON CONFLICT (name) DO UPDATE SET "
            "seen_at = EXCLUDED.seen_at, data = EXCLUDED.data",
            service=service, name=name, host=host.partition("/")[0], now=self._here.now, status=board.worst.value,
        )  # fmt: skip

    def wait(self, seconds: float) -> list[Any]:
        """All report while the time goes by; the messages that were made meanwhile."""
        told: list[Any] = []
        while seconds > 0:
            step = min(30.0, seconds)
            for service in self._boards:
                self.beat(service)
            told += self._here.plan(step)
            seconds -= step
        return told


@pytest.fixture
def services(database: Database) -> Iterator[Callable[[Desk], Services]]:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        yield lambda here: Services(connection, here)


@pytest.fixture
def here(desk: Callable[..., Desk]) -> Desk:
    return desk(silent_seconds=60)


@pytest.fixture
def box(services: Callable[[Desk], Services], here: Desk) -> Services:
    """A machine on which all is well, and whose start the notifier does not take for news any more."""
    made = services(here)
    for service in ("prefect@box/1", "dispatch@box/1", "worker-cpu@box/1", "watch@box/1"):
        made.say(service, "file descriptors", "ok")
    assert made.wait(90) == []
    return made


def test_three_services_that_miss_prefect_are_one_message_and_one_more_when_it_is_back(box: Services) -> None:
    box.say("dispatch@box/1", "prefect api", "degraded", "timeout")
    box.say("worker-cpu@box/1", "prefect api", "failed", "timeout")
    box.say("worker-cpu@box/1", "worker-cpu", "failed", "it does not do its work at the moment")
    box.say("worker-gpu@other/1", "prefect api", "failed", "timeout")
    (message,) = box.wait(60)
    assert (message.title, message.severity, message.events) == (
        "[CRITICAL] Something that Ironclad needs does not work (prefect)", "critical", 1,
    )  # fmt: skip
    assert "prefect: timeout (says dispatch, worker-cpu, worker-gpu)" in message.body["text"]
    for service in ("dispatch@box/1", "worker-cpu@box/1", "worker-gpu@other/1"):
        box.say(service, "prefect api", "ok")
    box.say("worker-cpu@box/1", "worker-cpu", "ok")
    assert [one.title[:10] for one in box.wait(600)] == ["[RESOLVED]"]
    assert box.wait(600) == []


def test_what_is_missing_twice_is_one_message(box: Services) -> None:
    box.say("watch@box/1", "root 1", "degraded", "/music: it is not mounted")
    box.say("worker-cpu@box/1", "engine", "failed", "the model is gone")
    (message,) = box.wait(60)
    assert (message.events, message.severity) == (2, "critical")
    assert "root 1 on box: /music: it is not mounted (says watch)" in message.body["text"]
    assert "engine on box: the model is gone (says worker-cpu)" in message.body["text"]
    box.say("watch@box/1", "root 1", "ok")
    (message,) = box.wait(300)
    assert "[CRITICAL]" in message.title  # the engine is gone still
    assert "well again" in message.title


@pytest.mark.parametrize(
    ("component", "status", "severity"),
    [
        ("root 1", "degraded", "error"), ("root 1 events", "degraded", "warning"), ("gpu", "degraded", "error"),
        ("gpu", "failed", "critical"), ("storage", "failed", "critical"), ("prefect api", "degraded", "critical"),
        ("certificate api", "degraded", "warning"), ("file descriptors", "degraded", "warning"),
        ("something of a plugin", "failed", "critical"),
    ],
)  # fmt: skip
def test_how_bad_it_is(box: Services, component: str, status: str, severity: str) -> None:
    box.say("watch@box/1", component, status, "so it is")
    (message,) = box.wait(60)
    assert message.severity == severity


@pytest.mark.parametrize("component", ["database", "disk", "channel ops", "channels", "watch"])
def test_what_is_told_otherwise_is_not_told_twice(box: Services, here: Desk, component: str) -> None:
    box.say("watch@box/1", component, "degraded", "so it is")
    assert box.wait(600) == []
    assert here.rows("SELECT 1 FROM notice WHERE kind = 'dependency_down'") == []


def test_what_gets_worse_is_told_again(box: Services) -> None:
    box.say("watch@box/1", "storage", "degraded", "few inodes")
    assert [one.severity for one in box.wait(60)] == ["warning"]
    box.say("watch@box/1", "storage", "failed", "read-only")
    assert [one.severity for one in box.wait(600)] == ["critical"]
    box.say("watch@box/1", "storage", "degraded", "few inodes")
    assert box.wait(600) == []


def test_what_is_over_within_the_wait_is_not_told(box: Services) -> None:
    box.say("worker-cpu@box/1", "prefect api", "failed", "slow")
    assert box.wait(20) == []
    box.say("worker-cpu@box/1", "prefect api", "ok")
    assert box.wait(600) == []


def test_a_machine_that_starts_is_given_time(services: Callable[[Desk], Services], here: Desk) -> None:
    box = services(here)
    box.say("worker-cpu@box/1", "prefect api", "failed", "not started yet")
    assert box.wait(50) == []
    assert here.rows("SELECT 1 FROM notice") == []
    assert len(box.wait(90)) == 1


def test_jobs_that_fail_for_it_and_the_lost_service_itself_are_held_back(box: Services, here: Desk) -> None:
    box.say("worker-cpu@box/1", "prefect api", "failed", "timeout")
    assert len(box.wait(60)) == 1
    here.publish(labels={"error_kind": "dependency"})
    here.rows("UPDATE worker SET seen_at = seen_at - interval '1 hour' WHERE kind = 'prefect'")
    assert here.plan(20) == []
    lost = here.rows("SELECT labels FROM notice WHERE kind = 'service_lost'")
    assert [row.labels["dependency"] for row in lost] == ["prefect"]
    for service in ("dispatch@box/1", "worker-cpu@box/1", "watch@box/1"):
        box.beat(service)
    assert here.plan(30) == []
    here.publish(alert="job:other", labels={"error_kind": "engine"})
    assert [one.events for one in here.plan()] == [1]


def test_a_full_disk_explains_the_storage_that_is_short_of_room(box: Services, here: Desk) -> None:
    here.publish("disk_low", "disk", labels={"code": "E_DISK_FULL"})
    box.say("worker-cpu@box/1", "storage", "degraded", "5 bytes free")
    assert [one.title.split(" ")[2] for one in box.wait(120)] == ["disk"]
    here.publish("disk_low", "disk", "resolved")
    box.say("worker-cpu@box/1", "storage", "ok")
    assert [one.title[:10] for one in box.wait(600)] == ["[RESOLVED]"]


def test_a_service_that_stops_cleanly_takes_its_troubles_with_it(box: Services, here: Desk) -> None:
    box.say("watch@box/1", "root 1", "degraded", "/music is not mounted")
    assert len(box.wait(60)) == 1
    here.rows("DELETE FROM worker WHERE kind = 'watch'")
    here.rows("DELETE FROM health WHERE service = 'watch@box/1'")
    assert [one.title[:10] for one in here.plan(300)] == ["[RESOLVED]"]
