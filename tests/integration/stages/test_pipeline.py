"""The whole pipeline inline: real decoder, real engine, real encoders, real database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import mutagen
import numpy as np
import pytest
import sqlalchemy as sa

from ironclad.audio.decode import decode
from ironclad.audio.info import AudioLimits
from ironclad.errors import Cancelled
from ironclad.jobs import control, lease, pipeline, query
from ironclad.library import verify
from ironclad.stages import filing
from ironclad.stages.runner import run_claim, run_job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.jobs.submit import Job
    from ironclad.stages.runner import JobOutcome, StageOutcome

    Queue = Callable[..., Job]


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory, make_song: Callable[..., Path]) -> Path:
    """Four tagged seconds."""
    return make_song(tmp_path_factory.mktemp("songs") / "01.flac")


@pytest.fixture
def run(database: Database, settings: Settings) -> Callable[..., JobOutcome]:
    """`run(job)` runs the next attempt of a job inline."""

    def go(job: Job, **more: Any) -> JobOutcome:
        with database.session() as session:
            now = query.detail(session, job.job_uuid).job
            claim = lease.claim(session, job.job_uuid, now.attempt + 1, worker="test", lease_seconds=30)
        assert claim is not None
        return run_claim(database, settings, claim, worker="test", **more)

    return go


def library(settings: Settings) -> list[str]:
    return sorted(p.relative_to(settings.layout.output).as_posix() for p in settings.layout.output.rglob("*.*"))


def stages(database: Database, job: Job) -> dict[tuple[int, str], str]:
    with database.session() as session:
        return {(run.attempt, run.stage): run.state for run in query.detail(session, job.job_uuid).stages}


def test_a_song_becomes_a_tagged_instrumental_with_a_receipt(
    database: Database, settings: Settings, queue: Queue, run: Callable[..., JobOutcome], song: Path
) -> None:
    job = queue(song)
    outcome = run(job)
    assert outcome.error is None
    assert outcome.state == "succeeded"
    cover, audio, receipt = sorted(library(settings), key=len)
    assert cover == "Ana/Colours/cover.png"
    assert audio.endswith("(Instrumental).flac")
    assert receipt == audio + ".receipt.json"
    limits = AudioLimits()
    made = decode(settings.layout.output / audio, None, limits)
    assert made.frames == decode(song, None, limits).frames
    tags = mutagen.File(settings.layout.output / audio)
    assert tags["title"][0].endswith("(Instrumental)")
    assert tags["ironclad_job"] == [str(job.job_uuid)]
    assert tags.pictures
    said = json.loads((settings.layout.output / receipt).read_text())
    assert said["offset_samples"] == 0
    assert said["engine"] == "center"
    with database.session() as session:
        detail = query.detail(session, job.job_uuid)
    assert detail.job.progress == 1.0
    assert detail.job.duration_seconds == pytest.approx(4.0, abs=0.01)
    assert {a.state for a in detail.artifacts} == {"published"}
    assert [s.stage for s in detail.stages] == list(pipeline.STAGES)
    assert not settings.layout.work_of(job.job_uuid).exists()
    assert filing.locate(settings.layout, job) is not None


def test_stems_on_request_sum_to_the_mixture(
    settings: Settings, queue: Queue, run: Callable[..., JobOutcome], song: Path, tmp_path: Path
) -> None:
    run(queue(song, stems=("vocals", "instrumental"), output_format="wav"))
    names = [name for name in library(settings) if name.endswith(".wav")]
    assert len(names) == 2
    limits = AudioLimits()
    total = np.zeros(0)
    for name in names:
        out = tmp_path / "x.f32"
        decode(settings.layout.output / name, out, limits)
        samples = np.fromfile(out, "<f4").astype(float)
        total = samples if not total.size else total + samples
    decode(song, tmp_path / "mix.f32", limits)
    mixture = np.fromfile(tmp_path / "mix.f32", "<f4")
    assert np.abs(total - mixture).max() < 1e-3  # two dithered 16-bit files


def made(settings: Settings, tmp_path: Path) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    """Samples and receipt of every product in the library, by kind."""
    found = {}
    for name in library(settings):
        if name.endswith(".receipt.json"):
            receipt = json.loads((settings.layout.output / name).read_text())
            decode(settings.layout.output / name.removesuffix(".receipt.json"), tmp_path / "x.f32", AudioLimits())
            found[receipt["kind"]] = (np.fromfile(tmp_path / "x.f32", "<f4").astype(float), receipt)
    return found


def test_a_karaoke_mix_has_quiet_vocals_and_its_own_name(
    settings: Settings, queue: Queue, run: Callable[..., JobOutcome], song: Path, tmp_path: Path
) -> None:
    wanted = ("karaoke", "instrumental", "vocals", "vocals+accompaniment")
    options = {pipeline.MIXING: {"karaoke_db": -6.0}}
    assert run(queue(song, stems=wanted, output_format="wav", options=options)).error is None
    found = made(settings, tmp_path)
    assert sorted(found) == sorted(wanted)
    mix, receipt = found["karaoke"]
    assert np.abs(mix - found["instrumental"][0] - 10 ** (-6 / 20) * found["vocals"][0]).max() < 1e-3  # 16 bits
    assert receipt["recipe"] == "mixture - 0.499 vocals"
    assert receipt["bleed_db"] is None
    assert {one["residual_db"] for _, one in found.values()} == {receipt["residual_db"]}
    assert receipt["residual_db"] < -100  # this engine's stems sum to the mixture
    assert [name for name in library(settings) if name.endswith("(Karaoke).wav")]
    tags = mutagen.File(next(settings.layout.output.rglob("*(Karaoke).wav")))
    assert str(tags["TIT2"]).endswith("(Karaoke)")
    assert str(tags["TALB"]) == "Colours (Karaoke)"
    assert all(one.verdict.good for one in verify.verify(verify.receipts(settings.layout.output)))


def test_running_twice_publishes_once_and_reuses_what_is_there(
    database: Database, settings: Settings, queue: Queue, run: Callable[..., JobOutcome], song: Path
) -> None:
    settings = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"keep_work": True})})
    job = queue(song)
    with database.session() as session:
        claim = lease.claim(session, job.job_uuid, 1, worker="test", lease_seconds=30)
    assert claim is not None
    run_claim(database, settings, claim, worker="test")
    before = {name: (settings.layout.output / name).read_bytes() for name in library(settings)}
    with database.session() as session:
        control.replay(session, job.job_uuid, stage="recombine", actor="user:ana", pools=frozenset({"cpu"}))
    assert run(job).state == "succeeded"
    after = {name: (settings.layout.output / name).read_bytes() for name in library(settings)}
    assert after == before
    states = stages(database, job)
    assert states[2, "separate"] == "reused"
    assert states[2, "recombine"] == "done"


def test_a_stage_that_finished_before_a_crash_is_not_run_again(
    database: Database, queue: Queue, run: Callable[..., JobOutcome], song: Path
) -> None:
    job = queue(song)

    def dies_after_separate(stage: str, call: Callable[[], StageOutcome]) -> StageOutcome:
        if stage == "recombine":
            raise KeyboardInterrupt
        return call()

    with pytest.raises(KeyboardInterrupt):
        run(job, around=dies_after_separate)
    with database.session() as session:
        assert query.detail(session, job.job_uuid).job.state == "queued"  # given back at once
    assert run(job).state == "succeeded"
    states = stages(database, job)
    assert states[2, "separate"] == "reused"
    assert states[2, "recombine"] == "done"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "E_EMPTY_FILE"),
        (b"<html><body>404</body></html>" * 10, "E_NOT_AUDIO"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n", "E_NOT_AUDIO"),
    ],
)
def test_a_bad_file_fails_for_good_and_its_original_is_kept(  # noqa: PLR0917 - fixtures
    settings: Settings, queue: Queue, run: Callable[..., JobOutcome], tmp_path: Path, content: bytes, code: str
) -> None:
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(content)
    job = queue(bad)
    outcome = run(job)
    assert (outcome.state, outcome.error.code if outcome.error else None) == ("failed", code)
    kept = settings.layout.error_of(job.job_uuid, code) / job.archive_name
    assert kept.read_bytes() == content
    assert library(settings) == []


def test_a_truncated_file_is_told_from_a_whole_one(
    queue: Queue, run: Callable[..., JobOutcome], song: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.flac"
    cut.write_bytes(song.read_bytes()[: song.stat().st_size * 2 // 3])
    outcome = run(queue(cut))
    assert outcome.error is not None
    assert outcome.error.code in {"E_TRUNCATED", "E_CORRUPT_AUDIO"}


def test_an_instrumental_is_skipped_unless_forced(
    settings: Settings, queue: Queue, run: Callable[..., JobOutcome], song: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "x.flac"
    copy.write_bytes(song.read_bytes())
    tags = mutagen.File(copy)
    tags["title"] = "Blue (Instrumental Version)"
    tags.save()
    job = queue(copy)
    outcome = run(job)
    assert (outcome.state, outcome.error.code if outcome.error else "") == ("skipped", "E_ALREADY_INSTRUMENTAL")
    assert library(settings) == []
    listed = json.loads(settings.layout.skipped.read_text())["skipped"]
    assert [(entry["code"], entry["job_uuid"]) for entry in listed] == [("E_ALREADY_INSTRUMENTAL", str(job.job_uuid))]


def test_a_retry_of_what_was_skipped_is_forced(
    database: Database, queue: Queue, run: Callable[..., JobOutcome], tmp_path: Path, make_song: Callable[..., Path]
) -> None:
    job = queue(make_song(tmp_path / "short.flac", 0.5))
    assert run(job).state == "skipped"
    with database.session() as session:
        control.retry(session, job.job_uuid, actor="user:ana", pools=frozenset({"cpu"}))
    assert run(job).state == "succeeded"


def test_a_full_disk_makes_a_job_wait_without_blame(
    database: Database, settings: Settings, queue: Queue, song: Path
) -> None:
    full = settings.model_copy(update={"disk": settings.disk.model_copy(update={"min_free_bytes": 1 << 60})})
    job = queue(song)
    outcome = run_job(job.job_uuid, 1, full, worker="test")
    assert (outcome.state, outcome.error.code if outcome.error else "") == ("waiting_retry", "E_DISK_FULL")
    with database.session() as session:
        assert query.detail(session, job.job_uuid).job.failures == 0


def test_a_cancel_in_the_middle_ends_the_job(
    database: Database, settings: Settings, queue: Queue, run: Callable[..., JobOutcome], song: Path
) -> None:
    job = queue(song)

    def cancelled(stage: str, call: Callable[[], StageOutcome]) -> StageOutcome:
        if stage == "separate":
            raise Cancelled
        return call()

    assert run(job, around=cancelled).state == "cancelled"
    assert library(settings) == []
    with database.session() as session:
        assert query.detail(session, job.job_uuid).job.state == "cancelled"


def test_an_attempt_taken_over_meanwhile_changes_nothing(
    database: Database, settings: Settings, queue: Queue, run: Callable[..., JobOutcome], song: Path
) -> None:
    job = queue(song)

    def loses(stage: str, call: Callable[[], StageOutcome]) -> StageOutcome:
        if stage == "organize":
            with database.session() as session:
                session.execute(sa.text("UPDATE job SET lease_token = gen_random_uuid()"))
        return call()

    assert run(job, around=loses).state == "lost"
    assert library(settings) == []


def test_a_second_start_of_the_same_attempt_is_refused(settings: Settings, queue: Queue, song: Path) -> None:
    job = queue(song)
    assert run_job(job.job_uuid, 1, settings, worker="one").state == "succeeded"
    assert run_job(job.job_uuid, 1, settings, worker="two").state == "lost"


def test_an_unexpected_error_is_kept_with_a_fingerprint_and_tried_again(
    database: Database, queue: Queue, run: Callable[..., JobOutcome], song: Path
) -> None:
    job = queue(song)

    def breaks(stage: str, call: Callable[[], StageOutcome]) -> StageOutcome:
        if stage == "stage":
            raise ZeroDivisionError("oops")
        return call()

    outcome = run(job, around=breaks)
    assert outcome.state == "waiting_retry"
    with database.session() as session:
        error = query.detail(session, job.job_uuid).job.error
    assert error is not None
    assert error["code"] == "E_UNEXPECTED"
    assert "ZeroDivisionError: oops" in error["detail"]
    assert len(error["context"]["fingerprint"]) == 16


def test_a_stage_of_another_pool_is_handed_over(
    database: Database, settings: Settings, queue: Queue, run: Callable[..., JobOutcome], song: Path
) -> None:
    pools = {"cpu": settings.pools["cpu"], "gpu": settings.pools["cpu"]}
    both = settings.model_copy(update={"pools": pools})
    job = queue(song, engine_pool="gpu")
    assert run_job(job.job_uuid, 1, both, worker="cpu-worker").state == "queued"
    with database.session() as session:
        row = query.detail(session, job.job_uuid).job
    assert (row.pool, row.stage, row.failures) == ("gpu", "separate", 0)
    assert run_job(job.job_uuid, 2, both, worker="gpu-worker").state == "queued"
    assert run_job(job.job_uuid, 3, both, worker="cpu-worker").state == "succeeded"


def test_a_job_that_nobody_knows_is_not_found(settings: Settings) -> None:
    with pytest.raises(Exception, match="There is no job"):
        run_job(UUID(int=1), 1, settings, worker="test")
