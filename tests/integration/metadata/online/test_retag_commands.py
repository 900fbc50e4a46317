"""`ironclad retag` and `ironclad jobs tag` on jobs whose lookups failed or were doubtful."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mutagen
import pytest
from command_line import run_command
from stage_contexts import claimed, published_job

from ironclad.config import Settings, load
from ironclad.jobs import control
from ironclad.metadata.model import TrackTags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from typer.testing import Result

    from ironclad.db.session import Database

UNKNOWN = TrackTags(title="Song", artists=("Ann",))
DOUBTFUL = TrackTags(title="Zong", artists=("Zed",))


@pytest.fixture
def asking(environment: dict[str, str], service: Any) -> dict[str, str]:
    return {
        **environment, "IRONCLAD_METADATA__MUSICBRAINZ__ENABLED": "true",
        "IRONCLAD_METADATA__MUSICBRAINZ__URL": service.url, "IRONCLAD_METADATA__MUSICBRAINZ__ATTEMPTS": "1",
        "IRONCLAD_METADATA__MUSICBRAINZ__INTERVAL_SECONDS": "0",
        "IRONCLAD_METADATA__MUSICBRAINZ__TIMEOUT_SECONDS": "60",
    }  # fmt: skip


@pytest.fixture
def run(asking: dict[str, str]) -> Callable[..., Result]:
    return lambda *arguments, **more: run_command({**asking, **more}, *arguments)


@pytest.fixture
def publish(
    database: Database, settings: Settings, asking: dict[str, str], audio: Callable[..., Path], tmp_path: Path
) -> Callable[..., UUID]:
    del settings  # its folders are made
    numbers = iter(range(100))

    def go(tags: TrackTags) -> UUID:
        number = next(numbers)
        mine = load(environ=asking)
        claim = claimed(database, mine, tmp_path / "in" / f"{number}.flac", f"{number}.flac")
        return published_job(database, mine, claim, tmp_path / f"job-{number}", tags, audio("flac"))

    return go


def albums(settings: Settings) -> list[str]:
    return sorted(mutagen.File(path)["album"][0] for path in settings.layout.output.rglob("*.flac"))


def data(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_what_waits_is_retagged_once_the_service_is_back(
    run: Callable[..., Result], settings: Settings, service: Any, publish: Callable[..., UUID]
) -> None:
    service.faults.extend(["503"] * 2)
    jobs = [publish(UNKNOWN) for _ in range(3)]
    still = data(run("retag", "--pending", "--json"), 1)
    assert still["pending"] == 3
    assert len(still["jobs"]) == 1  # it stops at the first that is not answered
    done = data(run("retag", "--pending", "--json"))
    assert [one["job_uuid"] for one in done["jobs"]] == [str(job) for job in jobs]
    assert (done["pending"], done["errors"]) == (0, [])
    assert albums(settings) == ["Album (Instrumentals)"] * 3
    again = run("retag", "--pending")
    assert (again.exit_code, again.stdout) == (0, "0 jobs retagged, 0 to be done yet.\n")


def test_jobs_are_named_or_all_that_wait(run: Callable[..., Result], publish: Callable[..., UUID]) -> None:
    job = publish(UNKNOWN)
    assert run("retag", job, "--pending").exit_code == 2
    assert run("retag", "ffffffff").exit_code == 5
    off = run("retag", "--pending", IRONCLAD_METADATA__MUSICBRAINZ__ENABLED="false")
    assert off.exit_code == 2
    assert "musicbrainz.enabled" in off.stderr
    plain = run("retag", job)
    assert plain.exit_code == 0
    assert "matched" in plain.stdout
    assert "unchanged" in plain.stdout


def test_one_job_that_cannot_be_retagged_does_not_stop_the_others(
    run: Callable[..., Result], database: Database, publish: Callable[..., UUID]
) -> None:
    first, second = publish(UNKNOWN), publish(UNKNOWN)
    with database.session() as session:
        control.replay(session, first, stage="separate", actor="test", pools=frozenset({"cpu"}))
    said = data(run("retag", first, second, "--json"), 1)
    assert [one["job"] for one in said["errors"]] == [str(first)]
    assert said["errors"][0]["error"]["code"] == "E_ILLEGAL_TRANSITION"
    assert [one["job_uuid"] for one in said["jobs"]] == [str(second)]
    assert run("retag", first).exit_code == 7


def test_the_operator_sees_the_candidates_and_picks_one(
    run: Callable[..., Result], settings: Settings, publish: Callable[..., UUID]
) -> None:
    job = publish(DOUBTFUL)
    shown = run("jobs", "tag", job)
    assert shown.exit_code == 0
    assert "ambiguous" in shown.stdout
    assert "Ann X feat. Bob" in shown.stdout
    assert "3:30" in shown.stdout
    offered = data(run("jobs", "tag", job, "--json"))
    assert offered["retagged"] is None
    assert offered["lookup"]["candidates"][0]["album"] == "Album"
    picked = data(run("jobs", "tag", str(job)[-8:], "--pick", 1, "--json"))
    assert picked["retagged"]["files"][0]["changed"]
    assert albums(settings) == ["Album (Instrumentals)"]
    assert run("jobs", "tag", job, "--pick", 9).exit_code == 2
    assert "unchanged" in run("jobs", "tag", job, "--pick", 1).stdout


def test_a_pick_for_a_job_that_is_to_run_again_waits(
    run: Callable[..., Result], database: Database, publish: Callable[..., UUID]
) -> None:
    job = publish(DOUBTFUL)
    with database.session() as session:
        control.replay(session, job, stage="metadata", actor="test", pools=frozenset({"cpu"}))
    assert "used when the job runs" in run("jobs", "tag", job, "--pick", 1).stdout


def test_a_job_that_nobody_asked_about(
    run: Callable[..., Result], asking: dict[str, str], publish: Callable[..., UUID]
) -> None:
    asking["IRONCLAD_METADATA__MUSICBRAINZ__ENABLED"] = "false"
    job = publish(DOUBTFUL)
    assert "was not asked" in run("jobs", "tag", job).stdout
    assert run("jobs", "tag", job, "--pick", 1).exit_code == 2
