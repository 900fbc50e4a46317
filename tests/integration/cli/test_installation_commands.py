"""status, pause, resume, why, db and doctor on a real database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ironclad.cli.commands import db, doctor, pause, status, why
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.errors import NotAudio
from ironclad.jobs import control
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from typer.testing import Result

    from ironclad.config import Settings
    from ironclad.db.session import Database

    Run = Callable[..., Result]


def overview(run: Run) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(run("status", "--json").stdout)
    return data


def test_status_counts_and_has_its_documented_keys(
    run: Run, put: Callable[..., UUID], finish: Callable[..., None], database: Database
) -> None:
    put("a")
    finish(put("b"), JobState.FAILED, NotAudio())
    with database.session() as session:
        control.declare_pools(session, {"cpu": 2})
        session.execute(
            sa.text(
                "INSERT INTO worker (name, kind, host, pid, data) VALUES "
                "('watch@here/1', 'watch', 'here', 1, '{\"status\": \"degraded\"}'), "
                "('dispatch@here/1', 'dispatch', 'here', 2, '{}')"
            )
        )
        session.execute(
            sa.text("UPDATE worker SET seen_at = ironclad_now() - interval '5 minutes' WHERE kind = 'dispatch'")
        )
    data = overview(run)
    assert set(data) == set(status.JSON["status"])
    assert data["states"]["queued"] == data["states"]["failed"] == 1
    assert data["pools"][0]["waiting"] == 1
    assert {one["kind"]: one["alive"] for one in data["services"]} == {"watch": True, "dispatch": False}
    lines = run("status").stdout.splitlines()
    assert lines[0] == "jobs  1 queued, 1 failed"
    rows = {line.split()[0]: line.split() for line in lines[1:]}
    assert rows["watch"][3] == "degraded"
    assert rows["dispatch"][3] == "missing"
    assert rows["cpu"][1:5] == ["2", "0", "0", "1"]


def test_status_says_what_keeps_work_from_starting(run: Run, database: Database) -> None:
    assert "No service is running" in run("status").stdout
    run("pause")
    with database.session() as session:
        control.set_switch(session, control.DISK, {"low": True})
    shown = run("status").stdout
    assert "The pipeline is paused" in shown
    assert "disk is almost full" in shown
    assert overview(run)["paused"] is overview(run)["disk_low"] is True


def test_pause_and_resume_everything_or_one_pool(run: Run, database: Database) -> None:
    def reason() -> str | None:
        with database.session() as session:
            return control.pause_reason(session, "cpu")

    paused = json.loads(run("pause", "--json").stdout)
    assert paused == {"pool": None, "paused": True}
    assert set(paused) == set(pause.JSON["pause"])
    assert reason() == "the pipeline is paused"
    assert run("resume").stdout == "The pipeline is open.\n"
    assert reason() is None
    assert run("pause", "--pool", "cpu").exit_code == 0
    assert reason() == "pool cpu is paused"
    assert json.loads(run("resume", "--pool", "cpu", "--json").stdout) == {"pool": "cpu", "paused": False}
    assert reason() is None
    assert run("pause", "--pool", "tpu").exit_code == 2


def test_why_tells_of_a_job_and_of_a_stranger(run: Run, put: Callable[..., UUID], tmp_path: Path) -> None:
    job = put("Blue")
    data = json.loads(run("why", tmp_path / "music" / "Blue.mp3", "--json").stdout)
    assert set(why.JSON["why"]) - {"…"} <= set(data)
    assert (data["verdict"], data["job_uuid"]) == ("claimed", str(job))
    shown = run("why", tmp_path / "music" / "Blue.mp3").stdout
    assert f"ironclad jobs show {str(job)[-8:]}" in shown
    (tmp_path / "other.mp3").write_bytes(b"music")
    assert "outside" in run("why", tmp_path / "other.mp3").stdout


def test_why_of_a_file_that_never_was_ends_with_5(run: Run, settings: Settings) -> None:
    result = run("why", settings.layout.input / "none.mp3")
    assert result.exit_code == 5
    assert "missing" in result.stdout


def test_db_commands(run: Run) -> None:
    assert run("db", "check").exit_code == 0
    assert json.loads(run("db", "current", "--json").stdout) == {"current": schema.HEAD, "head": schema.HEAD}
    down = run("db", "downgrade", "base", "--yes", "--json")
    assert json.loads(down.stdout) == {"current": None, "head": schema.HEAD}
    assert set(json.loads(down.stdout)) == set(db.JSON["db downgrade"])
    check = run("db", "check")
    assert check.exit_code == 3
    assert "E_SCHEMA" in check.stderr
    up = run("db", "upgrade")
    assert up.stdout == f"The database went from nothing to {schema.HEAD}.\n"
    assert run("db", "upgrade").stdout == f"The database is at {schema.HEAD}.\n"
    assert "this version needs" in run("db", "current").stdout


def test_a_downgrade_must_be_meant(run: Run) -> None:
    result = run("db", "downgrade", "base")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert run("db", "check").exit_code == 0


def test_an_embedded_database_is_made_by_upgrade_and_stops_with_the_command(run: Run, settings: Settings) -> None:
    server = EmbeddedServer(settings.layout.postgres)
    result = run("db", "upgrade", IRONCLAD_DATABASE_URL=None)
    assert result.exit_code == 0, result.stderr
    assert server.pid() is None
    assert run("jobs", "list", IRONCLAD_DATABASE_URL=None).exit_code == 0
    assert server.pid() is None


def test_a_database_that_does_not_answer_ends_with_4(run: Run, tmp_path: Path) -> None:
    result = run("status", "--json", IRONCLAD_DATABASE_URL=f"postgresql://x@/x?host={tmp_path}")
    assert result.exit_code == 4
    assert json.loads(result.stderr)["error"]["code"] == "E_DATABASE"


def test_a_database_url_that_is_none_is_a_wrong_setting(run: Run) -> None:
    result = run("status", IRONCLAD_DATABASE_URL="nonsense:hunter2")
    assert result.exit_code == 3
    assert "database_url" in result.stderr
    assert "hunter2" not in result.stderr
    assert run("status", IRONCLAD_DATABASE_URL="sqlite:///x").exit_code == 3


def test_doctor_finds_what_is_wrong(run: Run) -> None:
    result = run("doctor", "--json", IRONCLAD_ENGINE__NAME="nope")
    data = json.loads(result.stdout)
    assert set(data) == set(doctor.JSON["doctor"])
    assert result.exit_code == 1
    assert data["ok"] is False
    failed = [one["detail"] for one in data["findings"] if one["status"] == "fail"]
    assert failed == ["engine.name is nope, installed: center"]


def test_doctor_for_people(run: Run) -> None:
    result = run("doctor")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert any(line.startswith("ok    python: ") for line in lines)
    assert any(line.startswith("      What to do: ") for line in lines)
    assert " 0 failed" in lines[-1]
