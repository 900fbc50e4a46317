"""The preparing tasks in their own processes, and doctor on real installations."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from ironclad.config import load
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.ops import directory
from ironclad.ops.checks import services
from ironclad.ops.checks.outcome import Level
from ironclad.ops.doctor import diagnose
from ironclad.ops.plan import task_command
from ironclad.ops.service import EXIT_CONFIG, EXIT_TEMPORARY, SUPERVISOR_VARIABLE, ServiceRuntime

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings


def task(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        task_command(name), env={**os.environ, **environment}, capture_output=True, text=True, timeout=90, check=False
    )


def test_the_tasks_make_a_database_for_whoever_holds_it(tmp_path: Path) -> None:
    environment = {"IRONCLAD_DATA_DIR": str(tmp_path / "data")}
    settings = load(environ=environment)
    holder = EmbeddedServer(settings.layout.postgres)
    holder.hold()
    assert task("postgres", environment).returncode == 0
    pid = holder.pid()
    assert pid is not None
    assert task("schema", environment).returncode == 0
    assert holder.pid() == pid  # the task's end did not stop it
    database = Database(holder.url())
    assert schema.current(database) == schema.HEAD
    database.close()
    findings = {f.name: f for f in diagnose(settings) if f.name.startswith("postgres")}
    assert [findings[name].status for name in ("postgres", "postgres schema")] == [Level.OK, Level.OK]
    holder.release()
    assert holder.pid() is None


def test_a_schema_of_another_version_needs_an_operator(environment: dict[str, str], database: Database) -> None:
    schema.downgrade(database, "base")
    with database.session() as session:
        session.connection().exec_driver_sql("INSERT INTO alembic_version VALUES ('9999')")
    done = task("schema", environment)
    assert done.returncode == EXIT_CONFIG
    assert "E_SCHEMA" in done.stderr


@pytest.mark.parametrize("name", ["nonsense"])
def test_an_unknown_task(tmp_path: Path, name: str) -> None:
    assert task(name, {"IRONCLAD_DATA_DIR": str(tmp_path)}).returncode == EXIT_CONFIG


def test_a_task_of_a_dead_supervisor_does_nothing(tmp_path: Path) -> None:
    environment = {"IRONCLAD_DATA_DIR": str(tmp_path / "data"), SUPERVISOR_VARIABLE: "1"}
    assert task("postgres", environment).returncode == EXIT_TEMPORARY
    assert not (tmp_path / "data").exists()


def test_doctor_on_an_installation_that_does_not_run(settings: Settings) -> None:
    findings = list(diagnose(settings))
    failed = [finding for finding in findings if finding.status is Level.FAIL]
    assert failed == []
    assert all(finding.remedy for finding in findings if finding.status is not Level.OK)
    by_name = {finding.name: finding for finding in findings}
    assert by_name["postgres schema"].status is Level.OK
    assert by_name["decoder"].status is Level.OK
    assert by_name["engine center"].status is Level.OK
    assert by_name["service watch"].status is Level.WARN


def test_a_database_that_is_away_is_a_failure_with_a_remedy(plain_settings: Settings) -> None:
    by_name = {finding.name: finding for finding in diagnose(plain_settings)}
    for name in ("postgres", "all hosts"):
        assert by_name[name].status is Level.FAIL
        assert by_name[name].remedy


def test_services_that_run_are_found_and_asked(settings: Settings) -> None:
    with ServiceRuntime("watch", settings, heartbeat=False) as runtime:
        runtime.ready()
        outcomes = {outcome.about: outcome for outcome in services.services(settings)}
        assert outcomes["watch"].level is Level.OK
        assert outcomes["dispatch"].level is Level.WARN
        runtime.health.degraded("root 1", "it is polled", "a remedy")
        (watch,) = [outcome for outcome in services.services(settings) if outcome.about == "watch"]
        assert (watch.level, watch.remedy) == (Level.WARN, "a remedy")
        runtime.health.failed("database", "it is away", "another")
        (watch,) = [outcome for outcome in services.services(settings) if outcome.about == "watch"]
        assert watch.level is Level.FAIL


def test_a_port_taken_by_a_stranger_is_found_one_of_ours_is_not(settings: Settings) -> None:
    with ServiceRuntime("watch", settings, heartbeat=False) as runtime:
        port = int(runtime.url.rpartition(":")[2])
        base = port - directory.OFFSETS["watch"]
        fixed = settings.model_copy(
            update={"services": settings.services.model_copy(update={"base_port": base})}
        )  # fmt: skip
        (outcome,) = services.ports(fixed)
        assert f"watch: 127.0.0.1:{port}" not in outcome.detail
        directory.withdraw(settings.layout.run, runtime._announcement)
        (outcome,) = services.ports(fixed)
        assert f"watch: 127.0.0.1:{port}" in outcome.detail
        assert outcome.level is Level.FAIL


def test_the_apis_port_is_looked_at_where_the_api_is_wanted(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        for enabled, level in ((True, Level.FAIL), (False, Level.OK)):
            api = settings.api.model_copy(update={"enabled": enabled, "port": port})
            (outcome,) = services.ports(settings.model_copy(update={"api": api}))
            assert outcome.level is level
            assert (f"api clients: 127.0.0.1:{port}" in outcome.detail) is enabled


def test_watch_roots_are_looked_at_one_by_one(settings: Settings, tmp_path: Path) -> None:
    roots = ({"path": str(tmp_path)}, {"path": str(tmp_path / "missing")})
    loaded = load({"ingest": {"roots": roots}}, environ={"IRONCLAD_DATA_DIR": str(settings.layout.root)})
    assert [outcome.level for outcome in services.watch_roots(loaded)] == [Level.OK, Level.FAIL]
