"""separate in a whole job: memory that runs out, hosts that are killed, models and environments that go bad."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from rogue_specs import ROGUES, budget_spec

from ironclad import durable
from ironclad.engines import admission, choice, environments, resume
from ironclad.engines.contract import ModelFile, PrivateEnvironment
from ironclad.engines.keeping import SOCKET, Keeping
from ironclad.engines.models import ModelStore
from ironclad.errors import EngineMissing
from ironclad.jobs import lease
from ironclad.stages.runner import run_claim, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.engines.contract import EngineSpec
    from ironclad.engines.hosts import LocalHosts
    from ironclad.jobs import submit
    from ironclad.stages.runner import JobOutcome

    Claims = Callable[..., lease.Claim]


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory, make_song: Callable[..., Path]) -> Path:
    return make_song(tmp_path_factory.mktemp("songs") / "01.flac", 4.0)


class Budget:
    """The engine of these tests and what it is given; see `rogue_engines.Budget`."""

    def __init__(self, home: Path, settings: Settings, database: Database) -> None:
        kept = settings.jobs.model_copy(update={"keep_work": True})
        self.home, self.settings, self.database = home, settings.model_copy(update={"jobs": kept}), database
        self.spec: EngineSpec = budget_spec()

    def engine(self, **changes: Any) -> Settings:
        """The settings with other ones for engines."""
        return self.settings.model_copy(update={"engine": self.settings.engine.model_copy(update=changes)})

    def give(self, **values: float | str) -> None:
        for name, value in values.items():
            (self.home / name.replace("_", "-")).write_text(str(value), encoding="ascii")

    @property
    def starts(self) -> list[str]:
        return (self.home / "starts").read_text(encoding="ascii").splitlines()

    def run(self, claim: lease.Claim, settings: Settings | None = None, hosts: LocalHosts | None = None) -> JobOutcome:
        return run_claim(self.database, settings or self.settings, claim, worker="test", hosts=hosts)

    def again(self, claim: lease.Claim) -> lease.Claim:
        """The next attempt of a job that waits for one."""
        with self.database.session() as session:
            session.execute(sa.text("UPDATE job SET state = 'queued', not_before = NULL"))
        with self.database.session() as session:
            found = lease.claim(session, claim.job.job_uuid, claim.fence.attempt + 1, worker="test", lease_seconds=60)
        assert found is not None
        return found

    def log(self, claim: lease.Claim, event: str) -> list[dict[str, Any]]:
        lines = self.settings.layout.job_log(claim.job.job_uuid).read_text(encoding="utf-8").splitlines()
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    def record(self, claim: lease.Claim, stage: str) -> dict[str, Any]:
        """What the stage's row says."""
        with self.database.session() as session:
            found = session.scalar(
                sa.text("SELECT data FROM stage_run WHERE job_uuid = :job AND stage = :stage ORDER BY attempt DESC"),
                {"job": claim.job.job_uuid, "stage": stage},
            )
        assert isinstance(found, dict)
        return found


@pytest.fixture
def budget(tmp_path: Path, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Budget]:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    made = Budget(home, settings, database)

    class Registry:
        """The plugins that are installed: this one."""

        def get(self, name: str) -> Any:
            if name != made.spec.name:
                raise EngineMissing(name)
            return made.spec

    def host_settings(given: Settings, pool: str) -> Any:
        return replace(before(given, pool), search_path=(ROGUES,), cancel_seconds=1.0)

    before = admission.host_settings
    monkeypatch.setattr(choice, "installed_engines", Registry)
    monkeypatch.setattr(admission, "host_settings", host_settings)
    monkeypatch.setattr(resume, "EVERY_SECONDS", 0.0)
    return made


def error_code(outcome: JobOutcome) -> str:
    return outcome.error.code if outcome.error is not None else ""


@pytest.mark.parametrize("how", ["cuda", "memory", "exit"])
def test_memory_that_runs_out_is_stepped_down_to_what_fits(
    budget: Budget, claims: Claims, song: Path, how: str
) -> None:
    budget.give(budget_large=4)
    claim = claims(song, engine="budget", parameters={"error": how})
    assert budget.run(claim).state == "succeeded"
    steps = budget.record(claim, "separate")["steps"]
    assert [step["step"] for step in steps] == ["segment", "segment", "batch"]
    assert steps[0]["because"] == "E_OUT_OF_MEMORY"
    assert steps[-1]["changed"] == {"batch": {"from": 4, "to": 2}}
    receipt = budget.record(claim, "recombine")["files"][0]["receipt"]
    assert receipt["steps"] == steps
    assert (receipt["device"], receipt["parameters"]["segment"], receipt["parameters"]["batch"]) == ("cpu", 2.0, 2)
    assert receipt["backend"] == "halving"
    assert len(budget.log(claim, "step_down")) == 3


def test_the_limit_of_the_host_is_stepped_down_from_too(budget: Budget, claims: Claims, song: Path) -> None:
    budget.give(budget_large=16)
    settings = budget.engine(memory_bytes=2 << 30)
    claim = claims(song, engine="budget", parameters={"error": "limit"})
    assert budget.run(claim, settings).state == "succeeded"
    assert [step["step"] for step in budget.record(claim, "separate")["steps"]] == ["segment"]


def test_what_is_expected_not_to_fit_is_not_even_tried(budget: Budget, claims: Claims, song: Path) -> None:
    # 100 MB and 10 MB for each second of segment times batch: 420 MB as asked for, 260 MB with half the segment.
    settings = budget.engine(memory_bytes=300 * 10**6)
    claim = claims(song, engine="budget")
    assert budget.run(claim, settings).state == "succeeded"
    (step,) = budget.record(claim, "separate")["steps"]
    assert (step["step"], "0.42 GB" in step["detail"]) == ("segment", True)
    assert len(budget.starts) == 1


def test_without_leave_nothing_is_stepped_down(budget: Budget, claims: Claims, song: Path) -> None:
    budget.give(budget_large=1)
    claim = claims(song, engine="budget")
    outcome = budget.run(claim, budget.engine(step_down=()))
    assert (outcome.state, error_code(outcome)) == ("waiting_retry", "E_OUT_OF_MEMORY")
    assert len(budget.starts) == 1


def test_the_last_rung_is_a_smaller_model(budget: Budget, claims: Claims, song: Path) -> None:
    budget.give(budget_large=0.5)
    claim = claims(song, engine="budget", stems=("vocals",))
    assert budget.run(claim, budget.engine(step_down=("model",))).state == "succeeded"
    data = budget.record(claim, "separate")
    assert (data["model"], [step["step"] for step in data["steps"]]) == ("small", ["model"])
    assert budget.starts == ["cpu large 0", "cpu small 0"]


def test_a_gpu_job_goes_to_the_cpu_only_where_that_is_allowed(budget: Budget, claims: Claims, song: Path) -> None:
    budget.spec = replace(budget.spec, devices=("cuda", "cpu"))
    budget.give(budget_large=0.5)
    claim = claims(song, engine="budget", engine_pool="gpu", pool="inline:test")
    settings = budget.engine(device="cuda", step_down=("cpu",))
    assert error_code(budget.run(claim, settings)) == "E_OUT_OF_MEMORY"  # the CPU has no more in this test
    assert budget.starts == ["cuda large 0", "cpu large 0"]
    assert budget.log(claim, "step_down")[0]["changed"] == {"device": {"from": "cuda", "to": "cpu"}}


def test_a_killed_host_is_gone_on_with_and_makes_the_same_bytes(
    budget: Budget, claims: Claims, song: Path, tmp_path: Path
) -> None:
    whole = claims(song, engine="budget")
    assert budget.run(whole).state == "succeeded"
    marker = budget.settings.layout.work_of(whole.job.job_uuid) / "separate/marker.json"
    outputs = json.loads(marker.read_text(encoding="utf-8"))["outputs"]

    budget.give(die=2 * 44100)
    copy = tmp_path / "copy.flac"
    copy.write_bytes(song.read_bytes())
    claim = claims(copy, engine="budget", options={"force": True})
    outcome = budget.run(claim)
    assert (outcome.state, error_code(outcome)) == ("waiting_retry", "E_ENGINE_DIED")
    second = budget.again(claim)
    assert budget.run(second).state == "succeeded"
    begun = int(budget.starts[-1].split()[-1])
    assert 44100 <= begun <= 2 * 44100
    marker = budget.settings.layout.work_of(claim.job.job_uuid) / "separate/marker.json"
    assert json.loads(marker.read_text(encoding="utf-8"))["outputs"] == outputs
    assert budget.log(claim, "separated")[-1]["resumed_frames"] == begun
    assert not (budget.settings.layout.work_of(claim.job.job_uuid) / "separate.partial").exists()


def test_another_segment_does_not_go_on_with_unfinished_stems(budget: Budget, claims: Claims, song: Path) -> None:
    budget.give(die=2 * 44100)
    claim = claims(song, engine="budget")
    budget.run(claim)
    second = budget.again(claim)
    budget.give(budget_large=16)  # the memory that was there is not any more
    assert budget.run(second).state == "succeeded"
    assert [int(start.split()[-1]) > 0 for start in budget.starts] == [False, True, False]


def test_a_warm_host_serves_the_next_song_and_what_it_took_is_known(
    budget: Budget, claims: Claims, song: Path, make_song: Callable[..., Path], tmp_path: Path
) -> None:
    second = make_song(tmp_path / "other.flac", 2.0, seed=3)
    with admission.own_hosts(budget.settings) as hosts:
        runs = []
        for file in (song, second):
            runs.append(claims(file, engine="budget"))
            assert budget.run(runs[-1], hosts=hosts).state == "succeeded"
    said = [budget.log(claim, "separated")[0] for claim in runs]
    assert [entry["warm"] for entry in said] == [False, True]
    assert said[0]["engine_host"] == said[1]["engine_host"]
    assert said[0]["expected_bytes"] == 420 * 10**6
    assert said[1]["expected_bytes"] == pytest.approx(said[0]["peak_bytes"] * 1.1, rel=1e-6)


def test_the_runs_of_a_worker_share_the_hosts_of_its_keeper(
    queue: Callable[..., submit.Job], settings: Settings, make_song: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    jobs = [queue(make_song(tmp_path / f"{seed}.flac", 2.0, seed=seed)) for seed in (1, 2)]
    with Keeping(tmp_path / "run", "test", admission.pool_limits(settings, 1)) as kept:
        monkeypatch.setenv(SOCKET, str(kept.path))
        assert [run_job(job.job_uuid, 1, settings, worker="w").state for job in jobs] == ["succeeded"] * 2
    said = []
    for job in jobs:
        lines = settings.layout.job_log(job.job_uuid).read_text(encoding="utf-8").splitlines()
        said += [entry for entry in map(json.loads, lines) if entry["event"] == "separated"]
    assert [entry["warm"] for entry in said] == [False, True]
    assert said[0]["engine_host"] == said[1]["engine_host"]


def test_a_full_disk_while_stems_are_written_waits_and_leaves_nothing(
    budget: Budget, claims: Claims, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    claim = claims(song, engine="budget")
    with monkeypatch.context() as patched:
        patched.setattr(durable, "fsync_file", full)
        outcome = budget.run(claim)
    assert (outcome.state, error_code(outcome)) == ("waiting_retry", "E_DISK_FULL")
    assert not (budget.settings.layout.work_of(claim.job.job_uuid) / "separate.partial").exists()
    assert budget.run(budget.again(claim)).state == "succeeded"


def test_a_model_file_with_one_flipped_bit_is_not_loaded(
    budget: Budget, claims: Claims, song: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(1000))
    large, small = budget.spec.models
    store = ModelStore(budget.settings.layout)
    digest = hashlib.sha256(bytes(1000)).hexdigest()
    file = ModelFile(path="weights.bin", size=1000, sha256=digest)
    budget.spec = replace(budget.spec, models=(replace(large, files=(file,)), small))
    store.add(budget.spec, "large", [("weights.bin", weights)], origin="test", accept_licence=True)
    kept = store.folder("budget", "large") / "weights.bin"
    kept.chmod(0o600)
    kept.write_bytes(bytes(999) + b"\x01")
    claim = claims(song, engine="budget")
    outcome = budget.run(claim)
    assert (outcome.state, error_code(outcome)) == ("failed", "E_MODEL_DIGEST")
    assert not (budget.home / "starts").exists()


def private(budget: Budget, folder: str) -> Path:
    """An environment in miniature for the engine, in force: its Python is the one of the tests."""
    lock = PrivateEnvironment(requirements=("numpy==2",))
    budget.spec = replace(budget.spec, environment=lock)
    layout = budget.settings.layout
    made = environments.Environment(
        "budget", environments.home(layout, "budget") / folder, lock.digest, "3", {}, ("cpu",), "now"
    )
    made.interpreter.parent.mkdir(parents=True)
    made.interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    made.interpreter.chmod(0o700)
    environments.enforce(layout, made)
    return made.folder


@pytest.mark.parametrize("when", ["between two songs", "in the middle of one"])
def test_an_environment_that_is_deleted_under_a_running_worker(  # noqa: PLR0917 - fixtures
    budget: Budget, claims: Claims, song: Path, make_song: Callable[..., Path], tmp_path: Path, when: str
) -> None:
    folder = private(budget, "first")
    second = make_song(tmp_path / "other.flac", 2.0, seed=3)
    with admission.own_hosts(budget.settings) as hosts:
        if when == "in the middle of one":
            budget.give(remove=str(folder))
        # The host has what it needs in memory: what runs is finished.
        assert budget.run(claims(song, engine="budget"), hosts=hosts).state == "succeeded"
        if folder.exists():
            shutil.rmtree(folder)
        claim = claims(second, engine="budget")
        outcome = budget.run(claim, hosts=hosts)
        assert error_code(outcome) == "E_ENGINE_ENVIRONMENT"
        assert outcome.error is not None
        assert "ironclad engines install budget" in outcome.error.detail
        private(budget, "second")
        assert budget.run(budget.again(claim), hosts=hosts).state == "succeeded"
