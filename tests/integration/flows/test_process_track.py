"""Real jobs through dispatcher, Prefect, warm worker and the stages: what our database and Prefect's UI then say."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from mutagen.flac import FLAC
from otlp import Collector, attributes

from ironclad import durable
from ironclad.config import Settings, load
from ironclad.jobs import pipeline, query, submit
from ironclad.jobs.dispatch import Dispatcher
from ironclad.jobs.executor import FlowRequest
from ironclad_flows.executor import PrefectExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from conftest import Prefect, StartWorker

    from ironclad.db.session import Database
    from ironclad.db.tables import Job

POOL = "cpu"


@pytest.fixture
def installation(prefect: Prefect, environment: dict[str, str]) -> Settings:
    environment["IRONCLAD_PREFECT__API_URL"] = prefect.url
    settings = load(environ=environment)
    settings.layout.create()
    return settings


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def executor(installation: Settings) -> Iterator[PrefectExecutor]:
    with PrefectExecutor.of(installation) as executor:
        yield executor


@pytest.fixture
def queue(database: Database, installation: Settings) -> Callable[[Path], UUID]:
    """`queue(file)` puts a file into the archive and its job into the queue."""

    def put(file: Path) -> UUID:
        new = submit.NewJob(user_id="ana", source=file, relative_path=file.name, stat=file.stat(), ingest_mode="copy")
        with database.session() as session:
            job = submit.receive(session, new, installation)
        folder = installation.layout.archive_of(job.job_uuid)
        durable.make_dirs(folder)
        durable.link_or_copy(file, folder / job.archive_name)
        with database.session() as session:
            submit.claimed(session, job.job_uuid, durable.digest(file))
        return job.job_uuid

    return put


@pytest.fixture
def dispatch(  # noqa: PLR0917 - fixtures
    queue: Callable[[Path], UUID], database: Database, installation: Settings, environment: dict[str, str],
    executor: PrefectExecutor, start_worker: StartWorker,
) -> Callable[[list[Path]], list[UUID]]:  # fmt: skip
    """`dispatch(files)` queues files, hands them to Prefect, and starts a worker."""

    def go(files: list[Path]) -> list[UUID]:
        queued = [queue(file) for file in files]
        Dispatcher(database, installation, executor).tick()
        start_worker(POOL, preload=None, environment=environment)
        return queued

    return go


def flow_run_of(prefect: Prefect, job_uuid: UUID) -> dict[str, Any]:
    (run,) = prefect.post("/flow_runs/filter", {"flow_runs": {"tags": {"all_": [f"job:{job_uuid}"]}}})
    return dict(run)


def task_names(prefect: Prefect, run_id: str) -> set[str]:
    return {task["name"] for task in prefect.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})}


@pytest.fixture
def files(make_song: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """A song, and something that only has a song's name."""
    page = tmp_path / "page.mp3"
    page.write_text("<html>not a song</html>", encoding="ascii")
    return [make_song(tmp_path / "song.flac"), page]


def told_of(log: Path, job: Job) -> set[str]:
    """The events of a job in a worker's log; each is one JSON object that says all that a line must."""
    events = set()
    for text in log.read_text(encoding="utf-8").splitlines():
        line = json.loads(text) if str(job.job_uuid) in text else {}  # whatever speaks of a job is JSON
        if line.get("job_uuid") == str(job.job_uuid):
            assert (line["service"], line["host"]) == ("worker-cpu", socket.gethostname())
            assert (line["user_id"], line["trace_id"], line["attempt"]) == ("ana", job.trace_id, 1)
            assert line["at"]
            assert "stage" in line or not line["event"].startswith("stage_")
            events.add(line["event"])
    return events


def one_identity(job: Job, installation: Settings, run: dict[str, Any], spans: dict[str, Any]) -> None:
    """The job's trace id is in its spans, its log, Prefect's tags, and the tags of what was published."""
    assert set(spans) == {"job", *pipeline.STAGES}
    assert {span.trace_id.hex() for span in spans.values()} == {job.trace_id}
    assert attributes(spans["job"])["ironclad.job_uuid"] == str(job.job_uuid)
    for text in installation.layout.job_log(job.job_uuid).read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        assert (line["service"], line["host"]) == ("worker-cpu", socket.gethostname())
        assert (line["job_uuid"], line["user_id"], line["trace_id"]) == (str(job.job_uuid), "ana", job.trace_id)
        assert line["attempt"] == 1
    assert {f"job:{job.job_uuid}", "user:ana", f"trace:{job.trace_id}"} <= set(run["tags"])
    (track,) = installation.layout.output.rglob("*.flac")
    assert FLAC(track)["ironclad_trace_id"] == [job.trace_id]


def test_jobs_end_in_prefect_as_they_do_in_our_database(  # noqa: PLR0917 - fixtures
    prefect: Prefect, database: Database, dispatch: Callable[[list[Path]], list[UUID]], executor: PrefectExecutor,
    files: list[Path], environment: dict[str, str], collector: Collector, installation: Settings, tmp_path: Path,
) -> None:  # fmt: skip
    environment["IRONCLAD_TRACE__OTLP_ENDPOINT"] = collector.url
    song, refused = dispatch(files)
    stale = executor.submit(FlowRequest(song, 7, "validate", POOL, os.urandom(8).hex(), "an attempt of the future"))
    succeeded_run = flow_run_of(prefect, song)
    run_id = succeeded_run["id"]

    succeeded = prefect.ended(run_id)
    failed = prefect.ended(flow_run_of(prefect, refused)["id"])
    cancelled = prefect.ended(stale)

    with database.session() as session:
        job = query.detail(session, song).job
        assert (job.state, job.error_code) == ("succeeded", None)
        assert job.run_id == run_id
        assert query.detail(session, refused).job.state == "failed"
    assert succeeded["type"] == "COMPLETED", succeeded
    prefect.until(lambda: task_names(prefect, run_id) == set(pipeline.STAGES))
    assert failed["type"] == "FAILED"
    assert "E_NOT_AUDIO" in failed["message"]
    assert cancelled["type"] == "CANCELLED", "another attempt than the job's next runs nothing"
    assert "lost" in cancelled["message"]
    traces = [collector.spans() for _ in (song, refused)]
    one_identity(job, installation, succeeded_run, max(traces, key=len))
    events = told_of(tmp_path / f"worker-{POOL}-0.log", job)
    assert {"attempt_started", "stage_started", "stage_ended", "attempt_ended"} <= events


def test_songs_of_one_worker_find_the_engine_warm(  # noqa: PLR0917 - fixtures
    prefect: Prefect, database: Database, installation: Settings, executor: PrefectExecutor,
    queue: Callable[[Path], UUID], dispatch: Callable[[list[Path]], list[UUID]], make_song: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    (first,) = dispatch([make_song(tmp_path / "one.flac", seed=1)])
    prefect.ended(flow_run_of(prefect, first)["id"])
    second = queue(make_song(tmp_path / "two.flac", seed=2))
    Dispatcher(database, installation, executor).tick()
    prefect.ended(flow_run_of(prefect, second)["id"])
    said = []
    for job in (first, second):
        lines = installation.layout.job_log(job).read_text(encoding="utf-8").splitlines()
        said += [entry for entry in map(json.loads, lines) if entry["event"] == "separated"]
    assert [entry["warm"] for entry in said] == [False, True]
    assert said[0]["engine_host"] == said[1]["engine_host"]
    assert prefect.alive(said[0]["engine_host"])  # it stays for the next song


LATE = """
import sys
from uuid import UUID
from ironclad_flows import preload
preload.load((*preload.PREFECT_MODULES, *preload.STAGE_MODULES))
from ironclad.config import load
from ironclad.stages.runner import run_job
before = set(sys.modules)
outcome = run_job(UUID(sys.argv[1]), 1, load(), worker="test")
assert outcome.state == "succeeded", outcome
print("LATE", *sorted(name for name in set(sys.modules) - before if not name.startswith("encodings.")))
"""


def test_a_run_finds_everything_imported(
    queue: Callable[[Path], UUID], files: list[Path], environment: dict[str, str], tmp_path: Path
) -> None:
    """What a forked process imports itself is paid for by every run; the fork server's list must name it."""
    song = queue(files[0])
    done = subprocess.run(
        [sys.executable, "-c", LATE, str(song)],
        env={**os.environ, **environment, "PREFECT_HOME": str(tmp_path / "prefect")},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LATE"
