"""`ironclad jobs replay` of a selection, and its dry run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ironclad.errors import EngineFailed, NotAudio
from ironclad.jobs.states import JobState
from ironclad.stages import markers

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from typer.testing import Result

    from ironclad.config import Settings
    from ironclad.db.session import Database

    Run = Callable[..., Result]
    Put = Callable[..., UUID]
    Finish = Callable[..., None]


def test_a_dry_run_says_what_is_reused_and_changes_nothing(
    run: Run, put: Put, finish: Finish, database: Database, settings: Settings
) -> None:
    job = put("a")
    finish(job)
    with database.session() as session:
        row = markers_job(session, job)
    for stage in ("validate", "categorize", "stage"):  # metadata is missing: what follows runs again
        folder = settings.layout.work_of(job) / stage
        folder.mkdir(parents=True)
        markers.write(folder, row, stage, "digest", {})
    data = json.loads(run("jobs", "replay", job, "--from", "separate", "--dry-run", "--json").stdout)
    assert data["plan"][0]["reused"] == ["validate", "categorize"]
    assert data["plan"][0]["run"] == ["metadata", "stage", "separate", "recombine", "organize"]
    shown = run("jobs", "replay", job, "--from", "categorize", "--dry-run").stdout
    assert "used again: validate" in shown
    assert json.loads(run("jobs", "show", job, "--json").stdout)["job"]["state"] == "succeeded"


def markers_job(session: object, job: UUID) -> object:
    from ironclad.jobs.transition import load  # noqa: PLC0415 - one use

    return load(session, job)


def test_a_selection_is_replayed_in_its_order(run: Run, put: Put, finish: Finish) -> None:
    bad, good, other = put("a", user="ana"), put("b", user="ana"), put("c", user="bob")
    finish(bad, JobState.FAILED, EngineFailed("x"))
    finish(good)
    finish(other, JobState.FAILED, NotAudio("x"))

    def dry(*options: str) -> list[str]:
        data = json.loads(run("jobs", "replay", "--from", "separate", *options, "--dry-run", "--json").stdout)
        return [one["job_uuid"] for one in data["plan"]]

    assert dry("--state", "failed", "--since", "2d") == [str(bad), str(other)]
    assert dry("--user", "ana") == [str(bad), str(good)]
    assert dry("--error", "e_not_audio") == [str(other)]
    assert dry("--state", "failed", "--since", "2999-01-01") == []
    done = json.loads(run("jobs", "replay", "--from", "separate", "--state", "failed", "--keep", "--json").stdout)
    assert [one["job_uuid"] for one in done["jobs"]] == [str(bad), str(other)]
    options = json.loads(run("jobs", "show", bad, "--json").stdout)["job"]["options"]
    assert options["keep_results"] is True


def test_jobs_or_a_selection_but_not_both(run: Run, put: Put) -> None:
    job = put("a")
    assert run("jobs", "replay", "--from", "separate").exit_code != 0
    assert run("jobs", "replay", job, "--from", "separate", "--state", "failed").exit_code != 0
    assert run("jobs", "replay", "--state", "succeeded", "--from", "nowhere", "--dry-run").exit_code == 0
