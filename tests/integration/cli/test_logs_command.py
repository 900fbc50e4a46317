"""`ironclad logs`: a job's lines, a service's, what is still to come, without a database."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from command_line import run_command

from ironclad import log
from ironclad.config import load
from ironclad.errors import NotFound
from ironclad.ops import logtail, looking
from ironclad.ops.logtail import Tail

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.layout import Layout

JOB = "0192aaaa-0000-7000-8000-00000000beef"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"IRONCLAD_DATA_DIR": str(tmp_path)}


@pytest.fixture
def layout(environ: dict[str, str]) -> Layout:
    layout = load(environ=environ).layout
    layout.create()
    return layout


def write(path: Path, *lines: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def line(at: int, event: str, **more: Any) -> dict[str, Any]:
    return {"at": f"2026-01-01T00:00:{at:02d}Z", "level": "info", "event": event, "service": "watch", **more}


def test_services_together_in_the_order_of_time(layout: Layout, environ: dict[str, str]) -> None:
    write(layout.logs / "watch.jsonl", line(1, "first"), line(4, "fourth", level="error"))
    write(layout.logs / "dispatch.jsonl", line(2, "second", service="dispatch"), line(3, "third", service="dispatch"))
    done = run_command(environ, "logs")
    assert [row.split()[4] for row in done.stdout.splitlines()] == ["first", "second", "third", "fourth"]
    assert "third" not in run_command(environ, "logs", "--service", "watch").stdout
    assert run_command(environ, "logs", "--level", "error").stdout.split()[4] == "fourth"
    told = [json.loads(row) for row in run_command(environ, "logs", "-n", "2", "--json").stdout.splitlines()]
    assert [one["event"] for one in told] == ["third", "fourth"]


def test_what_is_worse_is_found_however_much_was_written_since(layout: Layout, environ: dict[str, str]) -> None:
    path = layout.logs / "watch.jsonl"
    write(path.with_name("watch.jsonl.1"), line(1, "rotated", level="error"))
    write(path, line(2, "broken", level="error"))
    write(path, *(line(3, f"fine-{number}", pad="x" * 1000) for number in range(700)))  # more than two blocks
    found = run_command(environ, "logs", "--level", "error").stdout.splitlines()
    assert [row.split()[4] for row in found] == ["rotated", "broken"]
    assert run_command(environ, "logs", "--level", "error", "-n", "1").stdout.split()[4] == "broken"
    assert len(run_command(environ, "logs", "-n", "701").stdout.splitlines()) == 701
    assert len(run_command(environ, "logs", "-n", "1000").stdout.splitlines()) == 702
    assert [one.event for one in looking.log(layout, level="error")] == ["broken"]


def test_a_job_by_any_end_of_its_id(layout: Layout, environ: dict[str, str]) -> None:
    job = log.JobLog(layout.job_log(JOB), "worker-cpu")  # type: ignore[arg-type]  # only its text is used
    job.write(event="stage_ended", job_uuid=JOB, stage="separate", attempt=2, trace_id="t" * 32, token="hunter2")
    for reference in (JOB, "0192aaaa", "beef", "BEEF"):
        done = run_command(environ, "logs", reference)
        assert "stage_ended" in done.stdout
        assert "stage=separate attempt=2" in done.stdout
        assert "hunter2" not in done.stdout
    (told,) = (json.loads(row) for row in run_command(environ, "logs", "beef", "--json").stdout.splitlines())
    assert told["service"] == "worker-cpu"
    assert told["host"]
    assert told["trace_id"] == "t" * 32


def test_what_is_not_there(layout: Layout, environ: dict[str, str]) -> None:
    assert "E_NOT_FOUND" in run_command(environ, "logs", "nobody").stderr
    assert "E_NOT_FOUND" in run_command(environ, "logs", "--service", "nobody").stderr
    assert run_command(environ, "logs", "--level", "loud").exit_code != 0
    write(layout.logs / "jobs" / "ab-1.jsonl", line(1, "x"))
    write(layout.logs / "jobs" / "ab-2.jsonl", line(1, "x"))
    with pytest.raises(NotFound, match="any of 2 jobs"):
        logtail.job_file(layout, "ab")


def test_following_a_job_until_it_has_ended(layout: Layout, environ: dict[str, str]) -> None:
    path = layout.logs / "jobs" / f"{JOB}.jsonl"
    write(path, line(1, "attempt_started"))
    command = [
        sys.executable,
        "-m",
        "ironclad.cli.main",
        "--data-dir",
        str(layout.root),
        "logs",
        "beef",
        "-f",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "attempt_started"
        write(path, line(2, "attempt_ended", state="waiting_retry"))
        assert json.loads(process.stdout.readline())["state"] == "waiting_retry"  # not the end
        write(path, line(3, "attempt_ended", state="succeeded"))
        assert json.loads(process.stdout.readline())["state"] == "succeeded"
        assert process.wait(60) == 0
        assert process.stdout.read() == ""


def test_a_tail_follows_rotation_and_half_lines(tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    write(path, line(1, "old"))
    tail = Tail(path)
    assert list(tail.news()) == []
    with path.open("a") as file:
        file.write('{"event": "ha')
    assert list(tail.news()) == []
    with path.open("a") as file:
        file.write('lf"}\n')
    assert [one.event for one in tail.news()] == ["half"]
    write(path, line(1, "just before"))
    path.rename(tmp_path / "watch.jsonl.1")
    assert list(tail.news()) == []
    write(path, line(2, "new file"))
    assert [one.event for one in tail.news()] == ["just before", "new file"]
    path.write_bytes(b"")
    write(path, line(3, "cut"))
    assert [one.event for one in tail.news()] == ["cut"]


def test_a_tail_of_a_file_that_comes_later(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "later.jsonl")
    assert list(tail.news()) == []
    write(tail.path, line(1, "here"))
    assert [one.event for one in tail.news()] == ["here"]
