"""`ironclad tui` and `ironclad top` as a shell sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ironclad.errors import NotAudio
from ironclad.jobs import control, lease, submit
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database


def ironclad(environment: dict[str, str], *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("IRONCLAD_")}
    done = subprocess.run(
        [sys.executable, "-m", "ironclad.cli.main", *arguments], env={**base, **environment}, text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def failed(database: Database, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "\x1b[31msong.flac"
    file.write_bytes(b"x")
    with database.session() as session:
        control.declare_pools(session, {"cpu": 2})
        new = submit.NewJob(user_id="ana", source=file, stat=file.stat(), relative_path=file.name)
        job = submit.receive(session, new, settings).job_uuid
        submit.claimed(session, job, "hash")
    with database.session() as session:
        claim = lease.claim(session, job, 1, worker="w1", lease_seconds=30)
        assert claim is not None
        lease.finish(session, claim.fence, JobState.FAILED, actor="worker:w1", error=NotAudio("\x1b[31mtext"))


@pytest.mark.usefixtures("failed")
def test_top_says_everything_as_text(environment: dict[str, str]) -> None:
    done = ironclad(environment, "top")
    lines = done.stdout.splitlines()
    assert lines[0] == "PROBLEM: 1 job failed in the last 15 minutes."
    assert "jobs: 1 failed" in lines
    assert any(line.split()[:4] == ["cpu", "open", "2", "0"] for line in lines)
    assert any(line.startswith("1       E_NOT_AUDIO") for line in lines)
    assert "\x1b" not in done.stdout
    assert "\\x1b[31mtext" in done.stdout


@pytest.mark.usefixtures("failed")
def test_top_says_the_same_as_json(environment: dict[str, str]) -> None:
    data = json.loads(ironclad(environment, "top", "--json").stdout)
    assert data["problem"] == {
        "severity": "bad", "text": "1 job failed in the last 15 minutes.", "where": "failures",
    }  # fmt: skip
    assert data["states"]["failed"] == 1
    assert data["failures"][0]["code"] == "E_NOT_AUDIO"
    assert data["pools"][0]["name"] == "cpu"
    assert len(data["succeeded"]) == len(data["failed"]) == 60
    assert data["disk"]["free"] > 0
    assert data["events"][0]["kind"] == "failed"


def test_top_watches_until_told(environment: dict[str, str], database: Database) -> None:
    base = {name: value for name, value in os.environ.items() if not name.startswith("IRONCLAD_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "ironclad.cli.main", "top", "--watch", "--json"], env={**base, **environment},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["paused"] is False
        with database.session() as session:
            control.pause(session, None, paused=True, actor="test")
        for line in process.stdout:
            if json.loads(line)["paused"]:
                break
    finally:
        process.terminate()
        process.communicate()


def test_the_cockpit_wants_a_terminal(environment: dict[str, str]) -> None:
    done = ironclad(environment, "tui", code=2)
    assert "E_BAD_REQUEST" in done.stderr
    assert "ironclad top" in done.stderr


def test_options_that_exclude_each_other(environment: dict[str, str]) -> None:
    assert "exclude each other" in ironclad(environment, "tui", "--at", "2h", "--serve", ":1", code=2).stderr


def test_serving_others_needs_a_token(environment: dict[str, str]) -> None:
    assert "set a token" in ironclad(environment, "tui", "--serve", "0.0.0.0:0", code=2).stderr


@pytest.mark.usefixtures("failed")
def test_history_is_written_to_a_file(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    ironclad(environment, "tui", "--record", str(path))
    head, job, *events = path.read_text().splitlines()
    assert json.loads(head) == {"format": "ironclad-recording", "version": 1, "jobs": 1}
    assert json.loads(job)["user_id"] == "ana"
    assert [json.loads(event)["kind"] for event in events] == ["received", "queued", "claimed", "failed"]


def test_the_command_line_stays_light() -> None:
    code = (
        "import sys; from ironclad.cli import main; from ironclad.cli.commands import tui; "
        "assert not {'textual', 'sqlalchemy', 'aiohttp', 'ironclad_tui'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
