"""Ten failures made on purpose: `ironclad jobs why` names each cause and its fix, in words an operator can act on."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.errors import ModelMissing, SourceUnreadable
from ironclad.ingest import claim as ingest
from ironclad.jobs import lease, reap, submit
from ironclad.jobs.explain import Explanation, explain
from ironclad.stages import runner
from ironclad.stages.context import StageResult
from ironclad.stages.runner import run_claim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.stages.context import StageContext

    Claims = Callable[..., lease.Claim]


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory, make_song: Callable[..., Path]) -> Path:
    return make_song(tmp_path_factory.mktemp("songs") / "01.flac", 1.5)


def changed(settings: Settings, section: str, **values: Any) -> Settings:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


@pytest.fixture
def why(database: Database, settings: Settings) -> Callable[[UUID], Explanation]:
    def ask(job_uuid: UUID) -> Explanation:
        with database.session() as session:
            return explain(session, settings.layout, job_uuid)

    return ask


def says(found: Explanation, *, cause: str, fix: str) -> None:
    assert cause in found.cause, found
    assert any(fix in line for line in found.todo), found
    assert found.summary


def test_a_corrupt_file(  # noqa: PLR0917 - fixtures
    database: Database, settings: Settings, claims: Claims, why: Any, song: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.flac"
    data = bytearray(song.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    broken.write_bytes(data)
    claim = claims(broken)
    run_claim(database, settings, claim, worker="w")
    found = why(claim.job.job_uuid)
    says(found, cause="The audio is damaged", fix="Copy or rip the file again")
    assert "while reading and checking the whole file" in found.cause
    assert any("The original is untouched in error/" in line for line in found.done)


def test_out_of_memory(database: Database, settings: Settings, claims: Claims, why: Any, song: Path) -> None:
    poor = changed(settings, "engine", memory_bytes=20_000_000)
    claim = claims(song)
    run_claim(database, poor, claim, worker="w")
    found = why(claim.job.job_uuid)
    assert found.state == "waiting_retry"
    assert "while separating it with the engine center" in found.cause
    assert "memory" in found.cause.lower() + " ".join(found.todo).lower()
    assert any("tried again" in line for line in found.done)


def test_a_full_disk(database: Database, settings: Settings, claims: Claims, why: Any, song: Path) -> None:
    claim = claims(song)
    run_claim(database, changed(settings, "disk", min_free_bytes=1 << 60), claim, worker="w")
    found = why(claim.job.job_uuid)
    says(found, cause="not enough free disk space", fix="Free some space; work resumes by itself")
    assert found.state == "waiting_retry"


def test_a_missing_engine(database: Database, settings: Settings, claims: Claims, why: Any, song: Path) -> None:
    claim = claims(song, engine="nowhere")
    run_claim(database, settings, claim, worker="w")
    found = why(claim.job.job_uuid)
    says(found, cause="nowhere", fix="ironclad")
    assert found.code == "E_ENGINE_MISSING"
    assert any(line.startswith("Then: ironclad jobs retry") for line in found.todo)


def test_a_missing_model(database: Database, settings: Settings, claims: Claims, why: Any) -> None:
    claim = claims()
    with database.session() as session:
        lease.fail(session, claim.fence, ModelMissing("htdemucs"), actor="w", settings=settings.jobs)
    says(why(claim.job.job_uuid), cause="htdemucs", fix=ModelMissing.hint)


def test_musicbrainz_is_down(database: Database, settings: Settings, claims: Claims, why: Any) -> None:
    claim = claims()
    with database.session() as session:
        for stage in ("metadata",):
            runner.history.stage_started(session, claim.fence, stage)
            runner.history.stage_ended(
                session, claim.fence, stage, reused=False, data={"lookup": {"status": "unavailable"}}, following=None
            )
        lease.finish(session, claim.fence, lease.JobState.SUCCEEDED, actor="w")
    found = why(claim.job.job_uuid)
    assert found.state == "succeeded"
    assert any("MusicBrainz did not answer" in line for line in found.todo)
    assert any("retag" in line for line in found.todo)


def test_a_killed_worker(database: Database, settings: Settings, claims: Claims, why: Any, queue: Any) -> None:
    job = queue()
    code = (
        "import sys, signal\nfrom uuid import UUID\n"
        "from ironclad.db.session import Database\nfrom ironclad.jobs import lease\n"
        "with Database(sys.argv[1]).session() as session:\n"
        "    lease.claim(session, UUID(sys.argv[2]), 1, worker='gpu-box', lease_seconds=30)\n"
        "print('claimed', flush=True)\nsignal.pause()\n"
    )
    url = database.url.render_as_string(hide_password=False)
    child = subprocess.Popen([sys.executable, "-c", code, url, str(job.job_uuid)], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"claimed\n"
        child.send_signal(signal.SIGKILL)
    with database.session() as session:
        reap.vanished(session, settings.jobs, reap.Reaped())
    found = why(job.job_uuid)
    says(found, cause="The worker stopped answering", fix="the job is tried again by itself")
    assert "gpu-box" in found.cause
    assert any("death was noticed" in line for line in found.done)


def test_a_stall(
    database: Database, settings: Settings, claims: Claims, why: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()

    def hang(_context: StageContext) -> StageResult:
        hanging.wait(3)
        return StageResult()

    validate = runner.STAGES["validate"]
    monkeypatch.setattr(runner, "STAGES", {**runner.STAGES, "validate": dataclasses.replace(validate, run=hang)})
    claim = claims()
    run_claim(database, changed(settings, "jobs", stall_seconds=0.5), claim, worker="w")
    found = why(claim.job.job_uuid)
    says(found, cause="no sign of life", fix="stall_seconds")
    assert any("stalled" in line for line in found.log)


def test_no_permission(database: Database, settings: Settings, why: Any, tmp_path: Path) -> None:
    file = tmp_path / "secret.flac"
    file.write_bytes(b"x")
    new = submit.NewJob(user_id="ana", source=file, relative_path=file.name, stat=file.lstat())
    with database.session() as session:
        job = submit.receive(session, new, settings).job_uuid
    ingest.refuse(database, settings, job, SourceUnreadable(f"{file}: Permission denied"))
    found = why(job)
    says(found, cause="may not be read", fix="read permission on the file and write permission on its folder")
    assert any("left where it was" in line for line in found.done)


def test_a_bad_template(database: Database, settings: Settings, claims: Claims, why: Any, song: Path) -> None:
    claim = claims(song)
    run_claim(database, changed(settings, "output", template="{{ artist }}/{{ nope"), claim, worker="w")
    found = why(claim.job.job_uuid)
    says(found, cause="The settings are wrong", fix="ironclad config validate")
    assert "template" in found.cause.lower()


def test_a_waiting_job_says_what_it_waits_for(database: Database, why: Any, queue: Any) -> None:
    from ironclad.jobs import control  # noqa: PLC0415 - one test

    job = queue()
    assert "No worker has taken it yet" in why(job.job_uuid).todo[0]
    with database.session() as session:
        control.pause(session, None, paused=True, actor="op")
    assert "the pipeline is paused" in why(job.job_uuid).todo[0]
    with database.session() as session:
        control.hold(session, job.job_uuid, held=True, actor="op")
    assert "jobs release" in why(job.job_uuid).todo[0]
