"""How the cockpit feels with 100,000 jobs, 50 of them running, in a real terminal (a pseudo-terminal of 120x36).

    python benchmarks/tui.py [--jobs 100000] [--storm-seconds 30]

Prints what was measured beside what is wanted. The database is an embedded one on a temporary folder.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy as sa

from ironclad.config import load_with_origins
from ironclad.db import schema
from ironclad.db.session import Database
from ironclad_tui.live import LiveSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROWS, COLUMNS = 36, 120
JOBS = (
    "INSERT INTO job (job_uuid, user_id, trace_id, schema_version, state, stage, pool, engine_pool, source_path,"
    " source_path_raw, source_size, source_mtime_ns, relative_path, ingest_mode, archive_name, engine, output_format,"
    " title, artist, album, queued_at, created_at, started_at, finished_at, error_code, error, duration_seconds,"
    " attempt, worker, lease_token, lease_expires_at, progress) "
    "SELECT ('0199' || lpad(to_hex(n), 8, '0') || '7000' || '8' || substr(md5(n::text), 1, 15))::uuid, 'user' || n % 9,"
    " md5(n::text), 1, s, CASE WHEN s IN ('running', 'failed') THEN 'separate' ELSE 'validate' END, 'cpu', 'cpu',"
    " '/music/' || n, 'x', 31000000, 1, 'song ' || n, 'move', 'original.flac', 'center', 'auto', 'Song ' || n,"
    " 'Artist ' || n % 700, 'Album ' || n % 5000, ironclad_now() - make_interval(secs => :jobs - n),"
    " ironclad_now() - make_interval(secs => :jobs - n), ironclad_now() - make_interval(secs => 60),"
    " CASE WHEN s IN ('succeeded', 'failed') THEN ironclad_now() - make_interval(secs => (:jobs - n) * 2) END,"
    " CASE WHEN s = 'failed' THEN 'E_ENGINE_DIED' END,"
    " CASE WHEN s = 'failed' THEN jsonb_build_object('code', 'E_ENGINE_DIED', 'detail', 'signal 9') END, 200, 1,"
    " CASE WHEN s = 'running' THEN 'w' || n END, CASE WHEN s = 'running' THEN gen_random_uuid() END,"
    " CASE WHEN s = 'running' THEN ironclad_now() + interval '1 day' END, CASE WHEN s = 'running' THEN 0.4 ELSE 0 END"
    " FROM (SELECT n, CASE WHEN n > :jobs - 50 THEN 'running' WHEN n > :jobs * 0.7 THEN 'queued'"
    " WHEN n % 25 = 0 THEN 'failed' ELSE 'succeeded' END AS s FROM generate_series(1, :jobs) AS n) AS made"
)
RUNS = (
    "INSERT INTO attempt (job_uuid, attempt, worker, pool, first_stage) "
    "SELECT job_uuid, 1, worker, pool, 'validate' FROM job WHERE state = 'running'"
)
EVENTS = (
    "INSERT INTO job_event (job_uuid, kind, to_state, attempt, stage, actor) "
    "SELECT job_uuid, state, state, 1, stage, 'worker:w' FROM job"
)


class Terminal:
    """`ironclad tui` in a pseudo-terminal."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.begun = time.perf_counter()
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ironclad.cli.main", "tui"], stdin=slave, stdout=slave, stderr=slave,
            env={**os.environ, **environment, "TERM": "xterm-256color"}, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def read(self, seconds: float) -> bytes:
        """What comes within some time; empty if nothing does."""
        if not select.select([self.master], [], [], seconds)[0]:
            return b""
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # it has ended
            return b""
        self.seen += data
        return data

    def until(self, text: bytes, seconds: float = 20.0) -> float:
        """Seconds since the start until some text was painted."""
        while text not in self.seen:
            assert time.perf_counter() - self.begun < seconds, f"{text!r} never appeared"
            self.read(0.5)
        return time.perf_counter() - self.begun

    def quiet(self, seconds: float = 0.3) -> None:
        """Read until nothing comes for some time."""
        while self.read(seconds):
            pass

    def key(self, key: bytes) -> float:
        """Seconds from a key to the end of the first paint that follows it."""
        while self.read(0):
            pass
        begun = time.perf_counter()
        os.write(self.master, key)
        assert self.read(5), f"{key!r} painted nothing"
        return time.perf_counter() - begun

    def close(self) -> None:
        """Leave it."""
        os.write(self.master, b"q")
        deadline = time.monotonic() + 10
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.1)
        if self.process.poll() is None:
            self.process.kill()
        os.close(self.master)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]


def fill(database: Database, jobs: int) -> None:
    """Jobs in all states, past the guards: nothing else makes a hundred thousand in seconds."""
    with database.session() as session:
        session.execute(sa.text("SET LOCAL session_replication_role = replica"))
        session.execute(sa.text(JOBS), {"jobs": jobs})
        session.execute(sa.text(RUNS))
        session.execute(sa.text(EVENTS))
        session.execute(sa.text("INSERT INTO pool (name, slots) VALUES ('cpu', 50)"))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))


def storm(database: Database, stopping: threading.Event, sent: list[int]) -> None:
    """A thousand events a second, twenty transactions a second."""
    while not stopping.is_set():
        begun = time.monotonic()
        with database.session() as session:
            session.execute(
                sa.text(
                    "INSERT INTO job_event (job_uuid, kind, attempt, stage, actor) SELECT job_uuid, 'stage_done', 1, "
                    "'separate', 'worker:w' FROM job WHERE state = 'running' LIMIT 50"
                )
            )
        sent.append(50)
        stopping.wait(max(0.0, 0.05 - (time.monotonic() - begun)))


def queries(source: LiveSource) -> dict[str, float]:
    """Seconds of the 95th percentile of what is asked at every refresh."""
    from ironclad.jobs.listing import Sort, key_of  # noqa: PLC0415 - after the settings
    from ironclad.jobs.search import parse  # noqa: PLC0415 - likewise

    nothing = parse("")
    first = source.jobs(nothing, Sort.NEWEST, limit=100)
    calls: dict[str, Callable[[], Any]] = {
        "glance": source.glance,
        "first page": lambda: source.jobs(nothing, Sort.NEWEST, limit=100),
        "next page": lambda: source.jobs(nothing, Sort.NEWEST, after=key_of(first[-1], Sort.NEWEST), limit=100),
        "filtered page": lambda: source.jobs(parse("state:failed user:user3"), Sort.NEWEST, limit=100),
        "count": lambda: source.count(nothing),
    }
    found = {}
    for name, call in calls.items():
        times = []
        for _ in range(40):
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        found[name] = p95(times)
    return found


def measure(environment: dict[str, str], database: Database, seconds: float) -> dict[str, tuple[float, float, str]]:
    """What was measured, what is wanted, and the unit."""
    warm = Terminal(environment)
    warm.until(b"slots")
    warm.close()
    terminal = Terminal(environment)
    found: dict[str, tuple[float, float, str]] = {"first paint": (terminal.until(b"slots") * 1000, 1500, "ms")}
    terminal.quiet()
    process = psutil.Process(terminal.process.pid)
    before, at = sum(process.cpu_times()[:2]), time.perf_counter()
    while time.perf_counter() - at < 20:
        terminal.read(0.5)
    used = (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - at)
    found["idle processor, of a core"] = (used * 100, 3, "%")
    os.write(terminal.master, b"2")
    terminal.quiet()
    keys = []
    for number in range(120):
        keys.append(terminal.key((b"j", b"\x1b[6~", b"k")[number % 3]) * 1000)
        terminal.quiet(0.03)
    found["key to paint, p95"] = (p95(keys), 100, "ms")
    found["memory"] = (process.memory_info().rss / 1e6, 150, "MB")
    stopping, sent = threading.Event(), list[int]()
    thread = threading.Thread(target=storm, args=(database, stopping, sent))
    thread.start()
    at, stormy = time.perf_counter(), []
    while time.perf_counter() - at < seconds:
        stormy.append(terminal.key(b"j") * 1000)
        time.sleep(0.1)  # as fast as a person who holds the key down
    stopping.set()
    thread.join()
    found["key to paint meanwhile, p95"] = (p95(stormy), 100, "ms")
    found[f"longest key to paint at {sum(sent) / seconds:,.0f} events/s"] = (max(stormy), 250, "ms")
    found["memory after that"] = (process.memory_info().rss / 1e6, 150, "MB")
    terminal.close()
    return found


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--storm-seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ironclad-bench-") as folder:
        environment = {"IRONCLAD_DATA_DIR": str(Path(folder) / "data"), "XDG_STATE_HOME": folder}
        loaded = load_with_origins({}, environment)
        loaded.settings.layout.create()
        database = Database.open(loaded.settings)
        try:
            schema.upgrade(database)
            fill(database, given.jobs)
            found = {
                f"query: {name}, p95": (seconds * 1000, 50.0, "ms")
                for name, seconds in queries(LiveSource(loaded, database, "bench")).items()
            }
            found |= measure({"IRONCLAD_DATA_DIR": environment["IRONCLAD_DATA_DIR"]}, database, given.storm_seconds)
        finally:
            database.close()
    if given.json:
        print(json.dumps({name: {"value": v, "wanted": w, "unit": u} for name, (v, w, u) in found.items()}))
        return
    print(f"{given.jobs:,} jobs, 50 running, terminal {COLUMNS}x{ROWS}")
    for name, (value, wanted, unit) in found.items():
        print(f"{name:<45} {value:>8.1f} {unit:<3} wanted <= {wanted:g} {unit}")


if __name__ == "__main__":
    main()
