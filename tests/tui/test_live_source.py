"""The cockpit on a real database: what it shows is there, what it does is done, and it survives what happens."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from cockpit import Cockpit, cockpit

from ironclad.audio import synth
from ironclad.config import load_with_origins
from ironclad.db.session import Database
from ironclad.errors import (
    BadRequest,
    CorruptAudio,
    EngineFailed,
    EngineMissing,
    IllegalTransition,
    NotAudio,
    NotFound,
    Paused,
    StorageError,
)
from ironclad.jobs import control, history, lease, submit, transition
from ironclad.jobs.states import JobState
from ironclad_tui import local
from ironclad_tui.live import LiveSource
from ironclad_tui.screens.jobs import JobsScreen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from ironclad.config import Settings

HOSTILE = "\x1b[31m[bold]Bobby\u202e"


class Bench:
    """Jobs by the real calls, and sources that look at them."""

    def __init__(self, database: Database, settings: Settings, environment: dict[str, str], folder: Path) -> None:
        self.database, self.settings, self.environment, self.folder = database, settings, environment, folder
        self.number = 0

    def source(self, database: Database | None = None, **more: Any) -> LiveSource:
        return LiveSource(load_with_origins({}, self.environment), database or self.database, "tui:test", **more)

    def job(self, state: str = "queued", **fields: Any) -> UUID:
        self.number += 1
        file = self.folder / f"song-{self.number}.flac"
        file.write_bytes(os.urandom(9))
        new = submit.NewJob(user_id="ana", source=file, stat=file.stat(), relative_path=file.name, **fields)
        with self.database.session() as session:
            job = submit.receive(session, new, self.settings).job_uuid
            submit.claimed(session, job, file.name)
        if state == "queued":
            return job
        fence = self.claim(job)
        if state == "running":
            return job
        error = {"failed": NotAudio("it is text/html"), "waiting_retry": EngineFailed("no")}.get(state)
        with self.database.session() as session:
            if state == "waiting_retry" and error is not None:
                lease.fail(session, fence, error, actor="worker:w1", settings=self.settings.jobs)
            else:
                lease.finish(session, fence, JobState(state), actor="worker:w1", error=error)
        return job

    def claim(self, job: UUID) -> lease.Fence:
        with self.database.session() as session:
            attempt = transition.load(session, job).attempt + 1
            claim = lease.claim(session, job, attempt, worker="w1", lease_seconds=60)
            assert claim is not None
            history.stage_started(session, claim.fence, "validate")
        return claim.fence

    def sql(self, statement: str, **values: Any) -> None:
        with self.database.session() as session:
            session.execute(sa.text(statement), values)

    def state(self, job: UUID) -> str:
        with self.database.session() as session:
            return transition.load(session, job).state


@pytest.fixture
def bench(database: Database, settings: Settings, environment: dict[str, str], tmp_path: Path) -> Bench:
    return Bench(database, settings, environment, tmp_path)


def test_a_failed_job_is_found_understood_and_retried(bench: Bench) -> None:
    bench.job("succeeded")
    failed = bench.job("failed")
    bench.job("running")
    bench.job("waiting_retry")

    async def visit(driver: Cockpit) -> None:
        assert "1 failed" in driver.frame()
        await driver.press("2", "slash")
        await driver.type("state:failed")
        await driver.press("enter")
        assert "song-2" in driver.frame()
        assert "1 jobs" in driver.frame()
        await driver.press("enter")
        assert "E_NOT_AUDIO" in driver.frame()
        assert "it is text/html" in driver.frame()
        assert "What to do  Check that it is a music file" in driver.frame()
        await driver.press("r")
        assert bench.state(failed) == "queued"
        await driver.until(lambda: "… queued" in driver.frame())

    cockpit(bench.source(), visit)


def test_what_happens_shows_without_a_key(bench: Bench) -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        assert "No jobs yet" in driver.frame()
        job = bench.job("running")
        await driver.until(lambda: "▶ running" in driver.frame())
        with bench.database.session() as session:
            control.cancel(session, job, actor="test")
        await driver.until(lambda: "⊘ cancelling" in driver.frame())
        await driver.press("1")
        await driver.until(lambda: "song-1" in driver.frame())

    cockpit(bench.source(), visit)


def test_pausing_and_holding_reach_the_database(bench: Bench) -> None:
    job = bench.job("queued")
    with bench.database.session() as session:
        control.declare_pools(session, {"cpu": 2})

    async def visit(driver: Cockpit) -> None:
        await driver.press("4", "p")
        with bench.database.session() as session:
            assert control.pause_reason(session, "cpu") == "pool cpu is paused"
        await driver.press("u", "P")
        with bench.database.session() as session:
            assert control.pause_reason(session, "cpu") == "the pipeline is paused"
        await driver.press("P", "2", "o")
        with bench.database.session() as session:
            assert transition.load(session, job).held
            assert control.pause_reason(session, "cpu") is None
        await driver.press("u", "c", "y")
        assert bench.state(job) == "cancelled"

    cockpit(bench.source(), visit)


def test_a_job_deleted_while_open(bench: Bench) -> None:
    job = bench.job("failed")

    async def visit(driver: Cockpit) -> None:
        await driver.press("2", "enter")
        bench.sql("DELETE FROM job WHERE job_uuid = :job", job=job)
        await driver.press("ctrl+r")
        assert "has been deleted meanwhile" in driver.frame()
        await driver.press("r")
        assert any("E_NOT_FOUND" in toast for toast in driver.toasts())
        await driver.press("escape")
        await driver.until(lambda: "No jobs yet" in driver.frame())

    cockpit(bench.source(), visit)


def test_a_database_that_is_away_comes_back(bench: Bench) -> None:
    bench.job("queued")
    away = Database("postgresql://nobody@/nothing?host=/nonexistent")

    async def visit(driver: Cockpit) -> None:
        assert "✗ Not connected" in driver.frame()
        source._database = bench.database  # the server is back
        await driver.until(lambda: "Not connected" not in driver.frame())
        assert driver.app.glance is not None
        assert driver.app.glance.waiting == 1

    source = bench.source(away)
    cockpit(source, visit)
    away.close()


def test_killed_connections_are_made_again(bench: Bench) -> None:
    async def visit(driver: Cockpit) -> None:
        await driver.press("2")
        bench.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
        bench.job("queued")
        await driver.until(lambda: "song-1" in driver.frame() and not driver.app.trouble)

    cockpit(bench.source(), visit)


def test_a_schema_of_another_version_is_named(bench: Bench) -> None:
    bench.sql("UPDATE alembic_version SET version_num = '0000'")

    async def visit(driver: Cockpit) -> None:
        assert "Cannot read this database" in driver.frame()
        assert "ironclad db upgrade" in driver.frame()

    cockpit(bench.source(), visit)


def test_hostile_tags_from_the_database(bench: Bench) -> None:
    job = bench.job("failed")
    bench.sql("UPDATE job SET title = :title, album = :title WHERE job_uuid = :job", title=HOSTILE * 900, job=job)

    async def visit(driver: Cockpit) -> None:
        seen = driver.frame()
        await driver.press("2")
        seen += driver.frame()
        await driver.press("enter")
        seen += driver.frame()
        assert "\\x1b[31m[bold]Bobby\\u202e" in seen
        assert not [c for c in seen if (ord(c) < 32 and c != "\n") or c == "\u202e"]

    cockpit(bench.source(), visit)


def test_every_screen_reads_a_real_installation(bench: Bench) -> None:
    job = bench.job("succeeded")
    layout = bench.settings.layout
    bench.sql(
        "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state, published_at) VALUES "
        "(gen_random_uuid(), :job, 1, 'instrumental', 'Ana/Blue/01.flac', 7, 'b', 'published', ironclad_now())",
        job=job,
    )
    (layout.archive / str(job)).mkdir()
    (layout.archive / "not-a-job").mkdir()
    (layout.work / "019ca000-0000-7000-8000-000000000003").mkdir()
    (layout.logs / "dispatch.jsonl").write_text('{"event": "hello", "level": "info", "at": "2026-01-01T00:00:00Z"}\n')
    layout.job_log(job).write_text('{"event": "stage_ended", "stage": "validate"}\n')

    async def visit(driver: Cockpit) -> None:
        parts = {
            "7": "Ana/Blue/01.flac", "8": "not-a-job", "9": "IRONCLAD_DATABASE_URL", "6": "center", "0": "hello",
            "5": "No service runs",
        }  # fmt: skip
        for key, part in parts.items():
            await driver.press(key)
            if key == "9":
                for _ in range(3):
                    await driver.press("j")
                    if part in driver.frame():
                        break
            assert part in driver.frame(), key
            assert driver.toasts() == []
        await driver.press("8")
        assert "019ca000-0000-7000-8000-000000000003" in driver.frame()
        assert str(job) not in driver.frame()
        await driver.press("2", "enter", "L")
        assert "stage_ended" in driver.frame()

    cockpit(bench.source(), visit)


def test_actions_on_many_go_on_after_one_that_refuses(bench: Bench) -> None:
    failed, running = bench.job("failed"), bench.job("running")
    source = bench.source()
    done = source.act("retry", [failed, running])
    assert done.done == (failed,)
    ((which, error),) = done.failed
    assert which == running
    assert isinstance(error, IllegalTransition)
    with pytest.raises(IllegalTransition):
        source.act("retry", [running])
    with pytest.raises(BadRequest):
        source.act("explode", [running])


def test_replay_takes_the_engine_with_its_pool(bench: Bench) -> None:
    job = bench.job("failed")
    source = bench.source()
    source.act("replay", [job], stage="separate", engine="center")
    with bench.database.session() as session:
        row = transition.load(session, job)
        assert (row.state, row.engine, row.engine_pool, row.parameters) == ("queued", "center", "cpu", {})
    again = bench.job("failed")
    source.act("replay", [again], stage="stage", engine=None)
    assert bench.state(again) == "queued"


def test_sounds_are_measured_from_the_files(bench: Bench, make_song: Callable[..., Path]) -> None:
    job = bench.job("succeeded")
    source = bench.source()
    assert source.sketches(job) == ()
    folder = bench.settings.layout.archive_of(job)
    make_song(folder / "original.flac", seconds=2.0)
    make_song(bench.settings.layout.output / "a.flac", seconds=2.0, seed=2)
    bench.sql(
        "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state) VALUES "
        "(gen_random_uuid(), :job, 1, 'instrumental', 'a.flac', 7, 'b', 'published')", job=job,
    )  # fmt: skip
    (first, original), (second, instrumental) = source.sketches(job)
    assert (first, second) == ("original", "instrumental")
    assert original.seconds == instrumental.seconds == pytest.approx(2.0)
    assert max(original.peaks) > 0.05
    assert original.bands_db != instrumental.bands_db


def test_a_cover_beside_the_files_is_no_sound(bench: Bench, make_song: Callable[..., Path]) -> None:
    job, source, output = bench.job("succeeded"), bench.source(), bench.settings.layout.output
    make_song(output / "a.flac", seconds=1.0)
    (output / "cover.jpg").write_bytes(synth.cover_art(1, 64))
    for kind, name in (("cover:instrumental", "cover.jpg"), ("instrumental", "a.flac")):
        bench.sql(
            "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state) VALUES "
            "(gen_random_uuid(), :job, 1, :kind, :path, 7, 'b', 'published')",
            job=job, kind=kind, path=str(output / name),
        )  # fmt: skip
    assert [name for name, _ in source.sketches(job)] == ["instrumental"]


def test_the_cover_is_found_where_the_stage_keeps_it_and_else_in_the_library(bench: Bench) -> None:
    job, source, layout = bench.job("succeeded"), bench.source(), bench.settings.layout
    assert source.art(job) is None
    album = layout.output / "Ana" / "Blue"
    album.mkdir(parents=True)
    (album / "cover.jpg").write_bytes(synth.cover_art(1, 64))
    bench.sql(
        "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state) VALUES "
        "(gen_random_uuid(), :job, 1, 'cover:x', :path, 7, 'b', 'published')", job=job, path=str(album / "cover.jpg"),
    )  # fmt: skip
    published = source.art(job)
    assert published is not None
    other = bench.job("succeeded")
    bench.sql(
        "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state) VALUES "
        "(gen_random_uuid(), :job, 1, 'instrumental', 'Ana/Blue/02.flac', 7, 'b', 'published')", job=other,
    )  # fmt: skip
    assert source.art(other) == published  # beside its file, brought by another track
    assert (published.width, published.height) == (40, 40)
    kept = layout.work_of(job) / "metadata" / "pictures"
    kept.mkdir(parents=True)
    (kept / "front.jpg").write_bytes(synth.cover_art(2, 64))
    bench.sql(
        "INSERT INTO stage_run (job_uuid, attempt, stage, state, data) VALUES (:job, 1, 'metadata', 'done', "
        """'{"reading": {"pictures": [{"file": "../../front.jpg"}, {"file": "front.jpg"}]}}')""", job=job,
    )  # fmt: skip
    assert source.art(job) not in {None, published}
    (kept / "front.jpg").write_bytes(b"GIF89a but no more")
    with pytest.raises(CorruptAudio):
        source.art(job)


def test_a_bundle_is_written_beside_the_operator_and_never_over_another(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, source = bench.job("failed"), bench.source()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    first, second = source.bundle(job), source.bundle(job)
    assert first == str(tmp_path / "here" / f"ironclad-{str(job)[-8:]}.zip")
    assert second.endswith("-2.zip")
    with zipfile.ZipFile(first) as archive:
        assert "why.json" in archive.namelist()
    with pytest.raises(NotFound):
        source.bundle(job.__class__(int=7))
    assert len(list((tmp_path / "here").iterdir())) == 2
    with pytest.raises(StorageError):
        local.free_path("x", ".zip", [tmp_path / "nowhere"])


def test_slots_reach_the_database(bench: Bench) -> None:
    source = bench.source()
    with bench.database.session() as session:
        control.declare_pools(session, {"cpu": 2})
    assert source.set_slots("cpu", 4) is None
    assert source.set_slots("cpu", 5) == 4
    assert source.glance().pools[0].slots == 5
    assert source.set_slots("cpu", None) == 5
    assert source.glance().pools[0].slots == 2
    with pytest.raises(BadRequest):
        source.set_slots("cpu", 0)


def test_folders_are_looked_through_and_left_alone(bench: Bench) -> None:
    bench.environment["IRONCLAD_PRUNE__WORK"] = '{"days": 1}'
    job, source, layout = bench.job("succeeded"), bench.source(), bench.settings.layout
    old = layout.work_of(job)
    stranger = layout.work / "019ca000-0000-7000-8000-000000000003"
    for folder in (old, stranger):
        folder.mkdir()
        os.utime(folder, (0, 0))
    (victim,) = source.prunable()
    assert (victim.kind, victim.path) == ("work", f"work/{job}")
    assert "older than 1 days" in victim.reason
    assert ("no-job", f"work/{stranger.name}") in [(one.kind, one.path) for one in source.orphans()]
    assert old.is_dir()
    assert stranger.is_dir()


def test_the_built_in_engine_is_tried(bench: Bench) -> None:
    source = bench.source()
    center = next(engine for engine in source.engines() if engine.name == "center")
    assert center.default
    assert center.data["environment"] is None
    assert all(model["stored"] is None for model in center.data["models"])
    report = source.check_engine("center")
    assert report["devices"] == ["cpu"]
    assert report["problems"] == []
    with pytest.raises(EngineMissing):
        source.check_engine("none-such")


def test_the_library_is_linted_with_its_tags(bench: Bench, make_song: Callable[..., Path]) -> None:
    source, output = bench.source(), bench.settings.layout.output
    make_song(output / "Ana" / "Blue" / "1.flac", seconds=0.5)
    make_song(output / "Ana" / "Blue" / "2.flac", seconds=0.5, album="Red")
    files, problems = source.lint()
    assert files == 2
    assert problems
    assert all(severity in {"error", "warning"} for severity, *_ in problems)


def test_read_only_refuses_every_action(bench: Bench) -> None:
    job = bench.job("failed")
    source = bench.source(read_only=True)
    for action in ("retry", "cancel", "hold", "release", "replay"):
        with pytest.raises(Paused, match="read-only"):
            source.act(action, [job], stage="separate")
    with pytest.raises(Paused):
        source.pause(None, paused=True)
    with pytest.raises(Paused):
        source.set_slots("cpu", 3)
    with pytest.raises(Paused):
        source.bundle(job)
    assert bench.state(job) == "failed"


def test_a_group_is_read_to_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [bench.job("failed") for _ in range(5)]
    monkeypatch.setattr("ironclad_tui.live._GROUP_PAGE", 2)
    source = bench.source()
    (group,) = source.failures()
    assert source.members(group.key) == tuple(jobs)
    with pytest.raises(NotFound):
        source.job(group.example.__class__(int=7))


def test_the_feed_ends_when_told(bench: Bench) -> None:
    stopping = threading.Event()
    seen = []
    for notice in bench.source().listen(stopping):
        seen.append(notice.channel if notice else None)
        stopping.set()
    assert seen[0] == "connected"


def test_a_thousand_events_a_second_lose_nothing(bench: Bench) -> None:
    """3,000 events in three seconds: no frame waits for long, and the last state is the one shown."""
    jobs = [bench.job("queued") for _ in range(20)]

    async def visit(driver: Cockpit) -> float:
        await driver.press("2")
        import asyncio  # noqa: PLC0415 - the loop is what is measured

        done = threading.Event()

        def storm() -> None:
            for burst in range(60):
                bench.sql(
                    "INSERT INTO job_event (job_uuid, kind, attempt, actor) "
                    "SELECT :job, 'noise', 0, 'test' FROM generate_series(1, 50)", job=jobs[burst % 20],
                )  # fmt: skip
                done.wait(0.05)
            for job in jobs:
                with bench.database.session() as session:
                    control.cancel(session, job, actor="test")
            done.set()

        thread = threading.Thread(target=storm)
        gc.collect()
        gc.freeze()  # to look for garbage in what all the tests before have left takes longer than any frame
        try:
            thread.start()
            # The processor time of this thread between two turns of its loop: what a frame costs, however busy the
            # machine.
            longest, before = 0.0, time.thread_time()
            while not done.is_set():
                await asyncio.sleep(0.01)
                longest, before = max(longest, time.thread_time() - before), time.thread_time()
            thread.join()
        finally:
            gc.unfreeze()
        screen = driver.app.screen
        assert isinstance(screen, JobsScreen)
        await driver.until(lambda: all(str(row.cells[0][0]) == "⊘ cancelled" for row in screen.grid.rows), 60)
        assert len(screen.grid.rows) == 20
        return longest

    longest = cockpit(bench.source(), visit)
    assert longest < 0.25, f"a frame waited {longest * 1000:.0f} ms"


def test_settings_say_where_they_come_from(bench: Bench) -> None:
    found = {one.path: one for one in bench.source().settings()}
    assert found["ingest.stability_seconds"].origin == "environment variable IRONCLAD_INGEST__STABILITY_SECONDS"
    assert found["limits.max_channels"].origin == "default"
    assert found["limits.max_channels"].help == "Most channels."
    assert found["pools.cpu.slots"].value == "2"
    assert "secret" not in json.dumps([one.value for one in found.values()])
