"""`ironclad health`: what services say, deep checks, and the history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ironclad.ops import directory, looking
from ironclad.ops.endpoint import Endpoint
from ironclad.ops.health import HealthBoard
from ironclad.ops.health_log import HealthLog
from ironclad.ops.metrics import Metrics
from ironclad.ops.reports import Reports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.config import Settings
    from ironclad.db.session import Database


@pytest.fixture
def board(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[HealthBoard]:
    """The board of a service that answers, however slow the machine is."""
    monkeypatch.setattr(looking, "_SECONDS", 60.0)
    board = HealthBoard()
    board.set_ready(ready=True)
    reports = Reports("watch", board, Metrics("watch", process=False))
    endpoint = Endpoint("127.0.0.1", 0, reports.paths())
    announced = directory.announce(settings.layout.run, "watch", "127.0.0.1", endpoint.port)
    yield board
    directory.withdraw(settings.layout.run, announced)
    endpoint.close()


def test_what_services_say(run: Callable[..., Any], board: HealthBoard) -> None:
    board.ok("database")
    board.degraded("disk", "almost full", "Free some space.")
    done = run("health", "--quick")
    assert done.exit_code == 0, done.output
    assert "degraded  watch, disk" in done.stdout
    assert "What to do: Free some space." in done.stdout
    board.failed("database", "away", "Start it.")
    done = run("health", "--quick", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["ok"]) == (1, False)
    assert [(one["service"], one["component"], one["status"]) for one in told["components"]] == [
        ("watch", "database", "failed"), ("watch", "disk", "degraded"),
    ]  # fmt: skip


def test_nothing_runs(run: Callable[..., Any]) -> None:
    done = run("health", "--quick")
    assert done.exit_code == 0
    assert "ironclad up" in done.stderr + done.stdout


def test_deep_checks_with_remedies(run: Callable[..., Any], board: HealthBoard) -> None:
    board.ok("database")
    told = json.loads(run("health", "--json").stdout)
    names = {finding["name"] for finding in told["findings"]}
    expected = (
        "postgres", "postgres schema", "postgres latency", "prefect", "workers", "engine center", "gpu", "decoder",
        "disk", "inodes", "clock", "musicbrainz", "notifier", "file descriptors", "open files",
    )  # fmt: skip
    assert set(expected) <= names
    assert any(name.startswith("certificate") for name in names)
    assert any(name.startswith("watch root") for name in names)
    assert all(finding["remedy"] for finding in told["findings"] if finding["status"] != "ok")
    (schema,) = (finding for finding in told["findings"] if finding["name"] == "postgres schema")
    assert schema["status"] == "ok"


def test_history(run: Callable[..., Any], database: Database) -> None:
    log = HealthLog("watch@here/1")
    board = HealthBoard(log.note)
    board.failed("disk", "full", "Free some.")
    board.ok("disk")
    board.degraded("prefect", "slow")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        log.write(connection)
    told = json.loads(run("health", "--history", "10", "--json").stdout)["history"]
    assert [(one["component"], one["from"], one["to"]) for one in told] == [
        ("prefect", None, "degraded"), ("disk", "failed", "ok"), ("disk", None, "failed"),
    ]  # fmt: skip
    done = run("health", "--history", "10", "--component", "disk")
    assert "prefect" not in done.stdout
    assert done.stdout.count("watch@here/1") == 2
