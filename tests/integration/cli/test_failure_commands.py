"""`ironclad failures`, `retry --class`, `drain`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ironclad.cli.commands import drain, failures, retry, slots
from ironclad.errors import EngineFailed, NotAudio, Unexpected
from ironclad.jobs import lease
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from typer.testing import Result

    from ironclad.db.session import Database

    Run = Callable[..., Result]
    Put = Callable[..., UUID]
    Finish = Callable[..., None]


def test_failures_are_grouped_with_the_one_fix(run: Run, put: Put, finish: Finish) -> None:
    for number in range(3):
        finish(put(f"a{number}"), JobState.FAILED, NotAudio("a web page"))
    finish(put("b"), JobState.FAILED, Unexpected("KeyError: 'x'", fingerprint="0123abcd"))
    data = json.loads(run("failures", "--json").stdout)
    assert set(data) == set(failures.JSON["failures"])
    assert [(one["code"], one["jobs"]) for one in data["groups"]] == [("E_NOT_AUDIO", 3), ("E_UNEXPECTED", 1)]
    shown = run("failures").stdout
    assert "E_NOT_AUDIO  3 jobs at stage validate" in shown
    assert NotAudio.hint in shown
    assert "retry --class E_UNEXPECTED --fingerprint 0123abcd" in shown


def test_no_failures(run: Run) -> None:
    assert "Nothing has failed." in run("failures").stdout


def test_retry_by_class_changes_the_jobs_first(run: Run, put: Put, finish: Finish) -> None:
    one, other = put("a"), put("b")
    finish(one, JobState.FAILED, EngineFailed("x"))
    finish(other, JobState.FAILED, NotAudio("x"))
    dry = json.loads(run("retry", "--class", "E_ENGINE_FAILED", "--dry-run", "--json").stdout)
    assert set(dry) == set(retry.JSON["retry"])
    assert [job["job_uuid"] for job in dry["jobs"]] == [str(one)]
    result = run(
        "retry", "--class", "e_engine_failed", "--set", "format=flac", "--set", "strength=0.5", "--set", "priority=3"
    )
    assert result.exit_code == 0, result.stderr
    job: dict[str, Any] = json.loads(run("jobs", "show", one, "--json").stdout)["job"]
    assert (job["state"], job["output_format"], job["parameters"], job["priority"]) == (
        "queued", "flac", {"strength": 0.5}, 3,
    )  # fmt: skip
    assert json.loads(run("jobs", "show", other, "--json").stdout)["job"]["state"] == "failed"
    assert "No failed job is like that." in run("retry", "--class", "E_ENGINE_FAILED").stdout


def test_retry_everything_that_failed(run: Run, put: Put, finish: Finish) -> None:
    jobs = [put(name) for name in ("a", "b")]
    finish(jobs[0], JobState.FAILED, EngineFailed("x"))
    finish(jobs[1], JobState.QUARANTINED, NotAudio("x"))
    assert len(json.loads(run("retry", "--all-failed", "--json").stdout)["jobs"]) == 2


def test_retry_refuses_what_it_does_not_understand(run: Run) -> None:
    for arguments in ((), ("--class", "E_X"), ("--class", "E_CONFIG", "--all-failed"), ("--fingerprint", "x")):
        assert run("retry", *arguments).exit_code != 0
    for change in ("format", "=x", "priority=high"):
        assert run("retry", "--all-failed", "--set", change).exit_code != 0


def test_slots_are_shown_changed_and_reset(run: Run) -> None:
    shown = json.loads(run("slots", "cpu", "--json").stdout)
    assert set(shown) == set(slots.JSON["slots"])
    assert not shown["changed"]
    assert "runs 5 at a time, changed by an operator" in run("slots", "cpu", "5").stdout
    assert json.loads(run("slots", "cpu", "--json").stdout) == {"pool": "cpu", "slots": 5, "changed": True}
    assert json.loads(run("status", "--json").stdout)["pools"][0]["slots"] == 5
    assert json.loads(run("slots", "cpu", "--reset", "--json").stdout) == shown
    for wrong in (("tpu",), ("tpu", "2"), ("cpu", "2", "--reset"), ("cpu", "0")):
        assert run("slots", *wrong).exit_code == 2


def test_drain_waits_for_what_runs(run: Run, put: Put, database: Database) -> None:
    job = put("a")
    with database.session() as session:
        claim = lease.claim(session, job, 1, worker="test", lease_seconds=30)
        assert claim is not None
    busy = run("drain", "--timeout", "0", "--json")
    assert (busy.exit_code, json.loads(busy.stdout)) == (1, {"running": 1, "drained": False})
    with database.session() as session:
        lease.finish(session, claim.fence, JobState.SUCCEEDED, actor="test")
    done = run("drain", "--json")
    assert set(json.loads(done.stdout)) == set(drain.JSON["drain"])
    assert (done.exit_code, json.loads(done.stdout)["drained"]) == (0, True)
    assert json.loads(run("status", "--json").stdout)["paused"] is True
