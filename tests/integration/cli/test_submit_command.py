from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.cli.commands import submit
from ironclad.cli.follow import follow
from ironclad.errors import NotAudio
from ironclad.jobs import history, lease, query
from ironclad.jobs.feed import EVENT, Feed
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typer.testing import Result

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.errors import IroncladError

    Run = Callable[..., Result]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    file = tmp_path / "My Song.mp3"
    file.write_bytes(b"song")
    return file


def test_files_are_queued_as_asked_and_stay(run: Run, song: Path, database: Database, settings: Settings) -> None:
    result = run(
        "submit", song, "--user", "ana", "--priority", "7", "-e", "center", "-f", "mp3", "--stems", "vocals",
        "--force", "--json",
    )  # fmt: skip
    data = json.loads(result.stdout)
    assert result.exit_code == 0
    assert set(data) == set(submit.JSON["submit"])
    assert (data["queued"], data["failed"]) == (1, 0)
    assert song.exists()
    with database.session() as session:
        [job] = query.jobs(session, query.JobFilter())
    assert (job.user_id, job.priority, job.engine, job.output_format) == ("ana", 7, "center", "mp3")
    assert (job.stems, job.pool, job.state) == (["vocals"], "cpu", "queued")
    assert job.options == {"force": True, "engine_asked": True}
    assert (settings.layout.archive_of(job.job_uuid) / job.archive_name).read_bytes() == b"song"


def test_nobody_there_to_work_is_said(run: Run, song: Path) -> None:
    result = run("submit", song)
    assert "ironclad up" in result.stderr
    assert result.stdout.startswith("queued  My Song  job ")


def test_the_same_file_again_is_a_duplicate_not_a_mistake(run: Run, song: Path) -> None:
    run("submit", song)
    result = run("submit", song, "--json")
    data = json.loads(result.stdout)
    assert (result.exit_code, data["skipped"], data["failed"]) == (0, 1, 0)
    assert data["jobs"][0]["error"]["code"] == "E_DUPLICATE"
    assert "E_DUPLICATE" in run("submit", song).stdout


def test_a_file_that_may_not_be_read_is_a_failed_job(run: Run, song: Path, database: Database) -> None:
    folder = song.parent / "d.mp3"
    folder.symlink_to("/dev/null")
    result = run("submit", folder, song, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert (data["failed"], data["queued"]) == (1, 1)


@pytest.fixture
def worker(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[IroncladError | None], None]]:
    """Works on one job in a thread, as soon as somebody waits for it: one that ends before is told another way."""
    threads: list[threading.Thread] = []
    awaited, stopping = threading.Event(), threading.Event()

    def following(*arguments: Any, **options: Any) -> Any:
        awaited.set()
        return follow(*arguments, **options)

    monkeypatch.setattr("ironclad.cli.commands.submit.follow", following)

    def work(error: IroncladError | None) -> None:
        assert awaited.wait(60)
        claim = None
        for _ in Feed(database.dsn, (EVENT,)).listen(stopping, tick_seconds=0.2):
            with database.session() as session:
                claim = lease.claim_next(session, "cpu", worker="test", lease_seconds=30)
            if claim is not None:
                break
        if claim is None:
            return
        with database.session() as session:
            history.stage_started(session, claim.fence, "validate")
            history.stage_progress(session, claim.fence, "validate", 0.5)
        with database.session() as session:
            to = JobState.SUCCEEDED if error is None else JobState.FAILED
            lease.finish(session, claim.fence, to, actor="test", error=error)

    def start(error: IroncladError | None = None) -> None:
        threads.append(threading.Thread(target=work, args=(error,)))
        threads[-1].start()

    yield start
    stopping.set()
    awaited.set()
    for thread in threads:
        thread.join(timeout=60)


def test_wait_tells_how_it_went(run: Run, song: Path, worker: Callable[..., Any]) -> None:
    worker()
    result = run("submit", song, "--wait", "--json")
    data = json.loads(result.stdout)
    assert (result.exit_code, data["succeeded"], data["queued"]) == (0, 1, 0)


def test_wait_ends_with_1_if_it_failed(run: Run, song: Path, worker: Callable[..., Any]) -> None:
    worker(NotAudio())
    result = run("submit", song, "--wait")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == [
        "failed  My Song",
        "  E_NOT_AUDIO: The file holds no audio that Ironclad can read.",
    ]


def test_waiting_for_what_is_settled_already_ends_at_once(run: Run, song: Path, worker: Callable[..., Any]) -> None:
    worker()
    run("submit", song, "--wait")
    result = run("submit", song, "--wait", "--json")
    assert json.loads(result.stdout)["skipped"] == 1
