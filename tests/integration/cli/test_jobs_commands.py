from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.cli.commands import job_actions, jobs
from ironclad.cli.text import short_id
from ironclad.errors import EngineFailed, NotAudio
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


def listed(run: Run, *arguments: object) -> list[str]:
    result = run("jobs", "list", "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return [job["job_uuid"] for job in json.loads(result.stdout)["jobs"]]


def state(run: Run, job: UUID) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(run("jobs", "show", job, "--json").stdout)["job"]
    return data


def test_list_has_newest_first_and_its_documented_keys(run: Run, put: Put) -> None:
    first, second = put("a"), put("b")
    result = run("jobs", "list", "--json")
    data = json.loads(result.stdout)
    assert set(data) == set(jobs.JSON["jobs list"])
    assert [job["job_uuid"] for job in data["jobs"]] == [str(second), str(first)]
    assert data["next"] is None
    assert "source_path_raw" not in data["jobs"][0]
    assert "lease_token" not in data["jobs"][0]


def test_list_in_pages(run: Run, put: Put) -> None:
    ids = [str(put(f"s{number}")) for number in range(5)][::-1]
    page = json.loads(run("jobs", "list", "--json", "-n", 2).stdout)
    assert [job["job_uuid"] for job in page["jobs"]] == ids[:2]
    assert listed(run, "-n", 3, "--before", page["next"]) == ids[2:]
    assert f"--before {ids[1][-8:]}" in run("jobs", "list", "-n", 2).stderr


def test_list_filters(run: Run, put: Put, finish: Finish) -> None:
    ana, bob, bad = put("Blue Moon", user="ana"), put("Red Sun", user="bob"), put("100% Bad", user="bob")
    finish(ana)
    finish(bad, JobState.FAILED, NotAudio())
    assert listed(run, "--state", "succeeded") == [str(ana)]
    assert listed(run, "-s", "queued", "-s", "failed") == [str(bad), str(bob)]
    assert listed(run, "--user", "bob") == [str(bad), str(bob)]
    assert listed(run, "--error", "e_not_audio") == [str(bad)]
    assert listed(run, "--search", "moon") == [str(ana)]
    assert listed(run, "--search", "100%") == [str(bad)]
    assert len(listed(run, "--since", "1h")) == 3
    assert listed(run, "--since", "2999-01-01") == []


def test_list_for_people_is_harmless_and_plain(run: Run, put: Put) -> None:
    job = put("evil \x1b[31m[bold]\n")
    result = run("jobs", "list")
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 2
    row = result.stdout.splitlines()[1]
    assert row.startswith(short_id(job))
    assert "[bold]" in row


def test_list_rejects_a_wrong_time(run: Run) -> None:
    result = run("jobs", "list", "--since", "yesterday")
    assert result.exit_code == 2
    assert "15m, 2h, 3d" in result.stderr


def test_show_by_beginning_and_end(run: Run, put: Put) -> None:
    job = put()
    for reference in (str(job), str(job)[-8:], str(job)[:30], str(job).upper()):
        data = json.loads(run("jobs", "show", reference, "--json").stdout)
        assert data["job"]["job_uuid"] == str(job)
    assert set(data) == set(jobs.JSON["jobs show"])
    assert [event["kind"] for event in data["events"]] == ["received", "queued"]


def test_show_explains_a_failure(run: Run, put: Put, finish: Finish) -> None:
    job = put("Blue")
    finish(job, JobState.FAILED, NotAudio("10 bytes \x1b[2J"))
    shown = run("jobs", "show", short_id(job)).stdout
    assert "\x1b" not in shown
    assert "E_NOT_AUDIO The file holds no audio that Ironclad can read. 10 bytes \\x1b[2J" in shown
    assert f"What to do: {NotAudio.hint}" in shown
    assert "EVENT" in shown
    assert "claimed" in shown
    assert "claimed" not in run("jobs", "show", short_id(job), "--events", 0).stdout


@pytest.mark.parametrize(
    ("reference", "code"), [("ffffffff", 5), ("00000000-0000-7000-8000-000000000000", 5), ("xyz", 2), ("0" * 36, 2)]
)
def test_a_job_that_is_not_there(reference: str, code: int, run: Run) -> None:
    result = run("jobs", "show", reference)
    assert result.exit_code == code
    assert result.stdout == ""


def test_a_reference_to_several_jobs_is_refused_with_their_ids(run: Run, put: Put) -> None:
    ids = [str(put(f"s{number}")) for number in range(3)]
    begin = ids[1][:8]  # a time, which goes on every 65 seconds: between two of three jobs at most
    meant = [job for job in ids if job.startswith(begin)]
    assert len(meant) > 1
    result = run("jobs", "show", begin)
    assert result.exit_code == 2
    assert all(job in result.stderr for job in meant)


def test_hold_and_release(run: Run, put: Put) -> None:
    job = put()
    data = json.loads(run("jobs", "hold", short_id(job), "--json").stdout)
    assert set(data) == set(job_actions.JSON["jobs hold"])
    assert data["jobs"][0]["held"] is True
    assert data["errors"] == []
    assert "held" in run("jobs", "list").stdout
    assert run("jobs", "release", job).stdout.startswith("queued  song  job ")
    assert state(run, job)["held"] is False


def test_cancel_what_waits(run: Run, put: Put) -> None:
    job = put()
    result = run("jobs", "cancel", job)
    assert result.exit_code == 0
    assert result.stdout.startswith("cancelled")
    again = run("jobs", "cancel", job)
    assert again.exit_code == 7
    assert "E_ILLEGAL_TRANSITION" in again.stderr


def test_cancel_what_runs_asks_it_to_end(run: Run, put: Put, database: Database) -> None:
    job = put()
    with database.session() as session:
        assert lease.claim(session, job, 1, worker="test", lease_seconds=30)
    assert run("jobs", "cancel", job).stdout.startswith("cancelling")
    assert state(run, job)["cancel_requested"] is True
    assert "cancelling" in run("jobs", "list").stdout


def test_retry_puts_a_failed_job_back(run: Run, put: Put, finish: Finish) -> None:
    job = put()
    finish(job, JobState.FAILED, EngineFailed())
    assert run("jobs", "retry", job).stdout.startswith("queued")
    found = state(run, job)
    assert (found["state"], found["failures"]) == ("queued", 0)


def test_retry_all_failed_takes_those_with_the_error(run: Run, put: Put, finish: Finish) -> None:
    engine, audio, good = put("a"), put("b"), put("c")
    finish(engine, JobState.FAILED, EngineFailed())
    finish(audio, JobState.FAILED, NotAudio())
    finish(good)
    data = json.loads(run("jobs", "retry", "--all-failed", "--error", "E_ENGINE_FAILED", "--json").stdout)
    assert [job["job_uuid"] for job in data["jobs"]] == [str(engine)]
    assert state(run, audio)["state"] == "failed"
    run("jobs", "retry", "--all-failed")
    assert state(run, audio)["state"] == "queued"
    assert state(run, good)["state"] == "succeeded"
    nothing = run("jobs", "retry", "--all-failed")
    assert (nothing.exit_code, nothing.stdout) == (0, "There is no such job.\n")


@pytest.mark.parametrize("arguments", [["--error", "E_X", "1234"], ["--all-failed", "1234"], ["--json"]])
def test_retry_needs_jobs_or_all_failed(arguments: list[str], run: Run) -> None:
    assert run("jobs", "retry", *arguments).exit_code == 2


def test_replay_runs_a_settled_job_again_from_a_stage(run: Run, put: Put, finish: Finish) -> None:
    job = put()
    finish(job)
    result = run("jobs", "replay", job, "--from", "separate", "--engine", "center")
    assert result.exit_code == 0, result.stderr
    found = state(run, job)
    assert found["state"] == "queued"
    assert found["options"]["replay_from"] == "separate"


def test_replay_checks_stage_and_engine(run: Run, put: Put, finish: Finish) -> None:
    job = put()
    finish(job)
    wrong = run("jobs", "replay", job, "--from", "mastering")
    assert wrong.exit_code == 2
    assert "separate" in wrong.stderr
    assert run("jobs", "replay", job, "--from", "separate", "--engine", "none").exit_code == 3
    assert state(run, job)["state"] == "succeeded"


def test_one_bad_job_does_not_keep_the_others_back(run: Run, put: Put, finish: Finish) -> None:
    done, waiting = put("a"), put("b")
    finish(done)
    result = run("jobs", "cancel", done, waiting, "ffffffff", waiting, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert [job["job_uuid"] for job in data["jobs"]] == [str(waiting)]
    assert [(one["job"], one["error"]["code"]) for one in data["errors"]] == [
        (str(done), "E_ILLEGAL_TRANSITION"),
        ("ffffffff", "E_NOT_FOUND"),
    ]
    text = run("jobs", "cancel", done, "ffffffff")
    assert text.exit_code == 1
    assert "E_NOT_FOUND" in text.stderr


def test_who_did_it_is_on_record(run: Run, put: Put) -> None:
    job = put()
    run("jobs", "hold", job)
    event = json.loads(run("jobs", "show", job, "--json").stdout)["events"][-1]
    assert event["kind"] == "held"
    assert event["actor"].startswith("cli:")
