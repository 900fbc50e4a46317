"""`ironclad process` with the real stages, engine and database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa
from command_line import run_command

from ironclad import durable
from ironclad.cli import queueing
from ironclad.cli.inline import PREFIX, InlineRunner
from ironclad.cli.queueing import Found, Wishes
from ironclad.db.embedded import EmbeddedServer
from ironclad.jobs import control, lease, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

    from ironclad.cli.results import Result as Became
    from ironclad.config import Settings
    from ironclad.db.session import Database

    Run = Callable[..., Result]


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory, make_song: Callable[..., Path]) -> Path:
    return make_song(tmp_path_factory.mktemp("songs") / "Colours" / "blue.flac", seconds=2.0)


def outcome(result: Result, code: int = 0) -> list[dict[str, Any]]:
    assert result.exit_code == code, result.output
    data = json.loads(result.stdout)
    assert set(data) == {"jobs", "succeeded", "skipped", "failed"}
    jobs: list[dict[str, Any]] = data["jobs"]
    return jobs


def test_a_file_becomes_an_instrumental_once_and_stays_where_it_is(run: Run, song: Path, tmp_path: Path) -> None:
    before = (durable.digest(song), song.stat().st_mtime_ns)
    out = tmp_path / "out"
    [first] = outcome(run("process", song, "-o", out, "--json"))
    assert first["state"] == "succeeded"
    [output] = first["outputs"]
    assert output["kind"] == "instrumental"
    made = Path(output["path"])
    assert made == out / "01 - Blue (Instrumental).flac"
    assert made.stat().st_size == output["size"]
    assert durable.digest(made) == output["blake3"]
    assert (durable.digest(song), song.stat().st_mtime_ns) == before

    [again] = outcome(run("process", song, "-o", out, "--json"))
    assert again["state"] == "skipped"
    assert again["error"]["code"] == "E_DUPLICATE"
    assert again["outputs"] == first["outputs"]

    forced = run("process", song, "-o", out, "-f", "opus", "--stems", "instrumental,vocals", "--force")
    assert forced.exit_code == 0
    lines = forced.stdout.splitlines()
    assert lines[0].startswith("succeeded  Ana - Blue  (")
    assert sorted(line.strip() for line in lines[1:]) == [
        str(out / "01 - Blue (Instrumental).opus"),
        str(out / "01 - Blue (Vocals).opus"),
    ]


def test_a_folder_with_good_and_bad_files(
    run: Run, make_song: Callable[..., Path], tmp_path: Path, database: Database
) -> None:
    make_song(tmp_path / "Album" / "1.flac", seconds=1.5, seed=3, title="One")
    make_song(tmp_path / "Album" / "2.mp3", seconds=1.5, seed=4, title="Two")
    (tmp_path / "Album" / "3.mp3").write_bytes(b"<html>")
    (tmp_path / "Album" / "4.mp3").touch()
    (tmp_path / "Album" / "cover.jpg").write_bytes(b"jpg")
    result = run("process", tmp_path / "Album", "--jobs", "2", "--json")
    jobs = outcome(result, 1)
    assert [Path(job["file"]).name for job in jobs] == ["1.flac", "2.mp3", "3.mp3", "4.mp3"]
    assert [job["state"] for job in jobs] == ["succeeded", "succeeded", "failed", "failed"]
    assert [(job["error"] or {}).get("code") for job in jobs] == [None, None, "E_NOT_AUDIO", "E_EMPTY_FILE"]
    assert (tmp_path / "Album" / "3.mp3").exists()
    with database.session() as session:
        assert {job.pool.partition(":")[0] for job in query.jobs(session, query.JobFilter())} == {"inline"}
    text = run("process", tmp_path / "Album")
    assert text.stdout.splitlines()[-1] == "4 files: 2 skipped, 2 failed."


def test_nothing_needs_to_be_there_before(song: Path, tmp_path: Path) -> None:
    environ = {"IRONCLAD_DATA_DIR": str(tmp_path / "data"), "IRONCLAD_DATABASE_URL": None}
    [job] = outcome(run_command(environ, "process", song, "--json"))
    assert job["outputs"][0]["path"].startswith(str(tmp_path / "data" / "output" / "Ana"))
    assert EmbeddedServer(tmp_path / "data" / "postgres").pid() is None


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["none.mp3"], 5, "E_NOT_FOUND"),
        (["SONG", "--stems", "kazoo"], 2, "E_BAD_REQUEST"),
        (["SONG", "--engine", "kazoo"], 3, "E_ENGINE_MISSING"),
        (["SONG", "-o", "SONG"], 2, "E_BAD_REQUEST"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    arguments: list[str], code: int, error: str, *, run: Run, song: Path, database: Database
) -> None:
    result = run("process", *(str(song) if one == "SONG" else one for one in arguments), "--json")
    assert result.exit_code == code
    assert json.loads(result.stderr)["error"]["code"] == error
    with database.session() as session:
        assert query.jobs(session, query.JobFilter()) == []


def test_a_paused_pipeline_is_told_not_waited_for(run: Run, song: Path) -> None:
    run("pause")
    result = run("process", song)
    assert result.exit_code == 7
    assert "E_PAUSED" in result.stderr
    assert "ironclad resume" in result.stderr


def test_a_full_disk_is_told_before_any_work(run: Run, song: Path, database: Database) -> None:
    result = run("process", song, IRONCLAD_DISK__MIN_FREE_BYTES=str(1 << 60))
    assert result.exit_code == 7
    assert "E_DISK_FULL" in result.stderr
    with database.session() as session:
        assert query.jobs(session, query.JobFilter()) == []


class Silent:
    def __init__(self) -> None:
        self.seen: list[Became] = []
        self.stages: list[str] = []

    def stage(self, job_uuid: str, title: str, stage: str) -> None:
        assert (len(job_uuid), title != "") == (36, True)
        self.stages.append(stage)

    def progress(self, job_uuid: str, fraction: float) -> None:
        assert (len(job_uuid), 0 <= fraction <= 1) == (36, True)

    def finished(self, result: Became) -> None:
        self.seen.append(result)


def test_the_display_hears_of_every_stage_and_each_result_once(
    database: Database, settings: Settings, song: Path, tmp_path: Path
) -> None:
    shown = Silent()
    runner = InlineRunner(database, settings, lambda pool: Wishes(pool=pool), 2, shown)
    done = runner.run([Found(tmp_path / "gone.mp3", "gone.mp3"), Found(song, song.name)])
    assert sorted(shown.seen, key=lambda one: one.file) == sorted(done, key=lambda one: one.file)
    assert shown.stages == ["validate", "categorize", "metadata", "stage", "separate", "recombine", "organize"]
    gone, good = done
    assert (gone.state, (gone.error or {})["code"], gone.job_uuid) == ("refused", "E_SOURCE_MISSING", None)
    assert good.state == "succeeded"


def test_what_a_killed_run_left_behind_is_cancelled_and_a_live_run_is_left_alone(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    def left(pool: str, name: str) -> Any:
        file = tmp_path / name
        file.write_bytes(name.encode())
        return queueing.queue(database, settings, Wishes(pool=pool), Found(file, name)).job_uuid

    empty = tmp_path / "e.mp3"
    empty.touch()
    dead, dead_running, alive = (
        left(f"{PREFIX}dead", "a.mp3"),
        left(f"{PREFIX}dead", "b.mp3"),
        left(f"{PREFIX}alive", "c"),
    )
    with database.session() as session:
        assert lease.claim(session, dead_running, 1, worker="killed", lease_seconds=30)
        session.execute(
            sa.text("UPDATE job SET lease_expires_at = ironclad_now() - interval '1 s' WHERE state = 'running'")
        )
        control.set_switch(session, control.DISK, {"low": True})
    with psycopg.connect(database.dsn, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(hashtextextended(%s, 2))", (f"{PREFIX}alive",))
        [bad] = InlineRunner(database, settings, lambda pool: Wishes(pool=pool), 1, Silent()).run(
            [Found(empty, "e.mp3")]
        )
    assert (bad.error or {})["code"] == "E_EMPTY_FILE"  # so it ran, although services had seen a full disk
    with database.session() as session:
        states = {job.job_uuid: job.state for job in query.jobs(session, query.JobFilter())}
    assert states[dead] == states[dead_running] == "cancelled"
    assert states[alive] == "queued"


PATIENT = """
import sys, time
from ironclad.cli import inline, main

def slow(*arguments, **named):
    try:
        return run(*arguments, **named)
    finally:
        time.sleep(3.0)
        print("ended", file=sys.stderr)

run, inline.run_claim, inline._STOP_SECONDS = inline.run_claim, slow, 120.0
main.main()
"""
"""`ironclad` with a job that takes its time, and time to stop: on a slow machine a stage may take longer than its 20
seconds to hear of it."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels_what_runs_and_what_waits(
    number: signal.Signals, environment: dict[str, str], database: Database, make_song: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    make_song(tmp_path / "songs" / "0.flac", seconds=60.0)  # it must still be at work when the signal comes
    make_song(tmp_path / "songs" / "1.flac", seconds=2.0, seed=2)
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("LISTEN ironclad_event")
        process = subprocess.Popen(
            [sys.executable, "-c", PATIENT, "process", str(tmp_path / "songs"), "-j", "1", "--json"],
            env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        for notice in connection.notifies(timeout=120):
            if json.loads(notice.payload).get("kind") == "stage_started":
                break
        process.send_signal(number)
    out, err = process.communicate(timeout=150)
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert "ended" in err  # it was waited for
    with database.session() as session:
        states = [job.state for job in query.jobs(session, query.JobFilter())]
    assert states == ["cancelled"], err
    assert len(list((tmp_path / "songs").iterdir())) == 2
