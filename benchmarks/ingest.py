"""Drop files in five unkind ways on a real watcher: was any taken early, missed, or taken twice, and how soon?

    python benchmarks/ingest.py [--files 1000] [--stability 5] [--ways slow,rename,restart,polling,touch] [--json]

The watcher is a process of its own on a real PostgreSQL (the embedded one, or the one of --database-url). "Early"
compares the hash of what was taken with the finished file; pick-up is from the last change of a file (or the restart of
the watcher, if that came later) to its job's row.
Exit code 1 if anything was early, missed or twice, or if the 95th percentile of pick-up exceeds stability + 2 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy as sa
from blake3 import blake3

from ironclad import log
from ironclad.config import load
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.ingest.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ALLOWANCE_SECONDS = 2.0
WRITERS = 48
ALBUM = 25  # files a folder
CHANCE = random.Random(20)  # noqa: S311 - sizes and pauses, the same in each run


@dataclass
class Drop:
    """What was dropped: the finished content's hash and the time of the last change, by path below the user."""

    folder: Path
    staging: Path
    stability: float
    finished: dict[str, tuple[str, float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def target(self, number: int) -> Path:
        """A new name, in an album of its user's."""
        path = self.folder / f"album {number // ALBUM:03}" / f"{number:05}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def done(self, path: Path, content: bytes) -> None:
        """The file is complete now."""
        with self.lock:
            self.finished[str(path.relative_to(self.folder))] = (blake3(content).hexdigest(), time.time())


def slow_write(drop: Drop, number: int) -> None:
    """Chunks with pauses; some pause longer than the stability time while they keep the file open."""
    content = secrets.token_bytes(CHANCE.randint(20_000, 200_000))
    path = drop.target(number)
    parts = CHANCE.randint(2, 6)
    size = len(content) // parts + 1
    with path.open("wb") as file:
        for part in range(parts):
            file.write(content[part * size : (part + 1) * size])
            file.flush()
            long = part == 0 and number % 20 == 0
            time.sleep(drop.stability * 1.5 if long else CHANCE.uniform(0.02, drop.stability * 0.25))
    drop.done(path, content)


def rename_in(drop: Drop, number: int) -> None:
    """Written elsewhere, renamed into place; every other one from a temporary name beside the final one."""
    content = secrets.token_bytes(CHANCE.randint(20_000, 200_000))
    path = drop.target(number)
    temporary = path.with_name(f"{path.name}.part") if number % 2 else drop.staging / path.name
    temporary.write_bytes(content)
    time.sleep(CHANCE.uniform(0, 0.05))
    temporary.rename(path)
    drop.done(path, content)


def plain(drop: Drop, number: int) -> None:
    """Written in one go."""
    content = secrets.token_bytes(CHANCE.randint(20_000, 200_000))
    path = drop.target(number)
    path.write_bytes(content)
    drop.done(path, content)


def touched(drop: Drop, number: int) -> None:
    """Written, then touched again and again for twice the stability time."""
    content = secrets.token_bytes(CHANCE.randint(20_000, 200_000))
    path = drop.target(number)
    path.write_bytes(content)
    for step in range(6):
        time.sleep(drop.stability * CHANCE.uniform(0.2, 0.45))
        if step % 2:
            os.utime(path)
        else:
            path.touch()
    drop.done(path, content)


WAYS: dict[str, tuple[Callable[[Drop, int], None], str]] = {
    "slow": (slow_write, "slow writes"),
    "rename": (rename_in, "renamed into place"),
    "restart": (slow_write, "copied across a restart"),
    "polling": (plain, "polling mode"),
    "touch": (touched, "touch storm"),
}


def serve() -> None:
    """The child: the watcher service, until SIGTERM."""
    settings = load()
    log.configure(service="watch", level=settings.log.level, human=False)
    database = Database.open(settings)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    Watcher(database, settings).run(stopping, lambda: print("ready", flush=True))
    database.close()


@dataclass
class Service:
    """The watcher process."""

    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None
    cpu: float = 0.0
    ready_at: float = 0.0

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], env=self.environment, stdout=subprocess.PIPE, text=True
        )
        if self.process.stdout is None or self.process.stdout.readline().strip() != "ready":
            raise SystemExit("the watcher did not start")
        self.ready_at = time.time()

    def cpu_seconds(self) -> float:
        """Processor time used until now, of all processes so far."""
        assert self.process is not None
        times = psutil.Process(self.process.pid).cpu_times()
        return self.cpu + times.user + times.system

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        assert self.process is not None
        self.cpu = self.cpu_seconds()
        self.process.send_signal(number)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass
class Result:
    """One way's figures."""

    way: str
    files: int
    early: int
    missed: int
    twice: int
    lost: int
    p50: float
    p95: float
    queued_p95: float
    stability: float
    cpu_seconds: float = 0.0
    idle_cpu_percent: float = 0.0

    @property
    def good(self) -> bool:
        """Whether it is as it must be."""
        return not (self.early or self.missed or self.twice or self.lost) and (
            self.p95 <= self.stability + ALLOWANCE_SECONDS
        )


def percentile(values: list[float], share: int) -> float:
    """The share-th percentile; NaN of nothing."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def jobs_of(database: Database) -> list[Any]:
    """All jobs that took a file."""
    with database.session() as session:
        return list(
            session.execute(
                sa.text(
                    "SELECT job_uuid, relative_path, content_hash, state, archive_name, "
                    "extract(epoch FROM created_at) AS received, extract(epoch FROM queued_at) AS queued "
                    "FROM job WHERE state <> 'cancelled'"
                )
            )
        )


def measure(way: str, *, files: int, stability: float, database_url: str, base: Path, idle: float) -> Result:
    """Drop files in one way and see what became of them."""
    data = base / way
    environment = os.environ | {
        "IRONCLAD_DATA_DIR": str(data),
        "IRONCLAD_DATABASE_URL": database_url,
        "IRONCLAD_INGEST__STABILITY_SECONDS": str(stability),
        "IRONCLAD_INGEST__ROOTS": json.dumps(
            [{"path": str(data / "input"), "watch": "polling" if way == "polling" else "auto"}]
        ),
        "IRONCLAD_LOG__LEVEL": "WARNING",
    }
    settings = load(environ={k: v for k, v in environment.items() if k.startswith("IRONCLAD_")})
    settings.layout.create()
    database = Database(database_url)
    schema.ensure(database)
    drop = Drop(settings.layout.input / "ana", data / "staging", stability)
    drop.staging.mkdir()
    service = Service(environment)
    service.start()
    writer, _title = WAYS[way]
    with ThreadPoolExecutor(WRITERS) as pool:
        futures = [pool.submit(writer, drop, number) for number in range(files)]
        if way == "restart":
            while len(drop.finished) < files // 3:
                time.sleep(0.05)
            service.stop(signal.SIGKILL)
            time.sleep(stability * 1.2)
            service.start()
        for future in futures:
            future.result()
    deadline = time.monotonic() + stability + 60.0 + files / 50
    while time.monotonic() < deadline:
        jobs = jobs_of(database)
        if len(jobs) >= files and all(job.state != "received" for job in jobs):
            break
        time.sleep(0.25)
    time.sleep(stability + 1.0)  # whatever comes twice comes now
    jobs = jobs_of(database)
    used = service.cpu_seconds()
    time.sleep(idle)
    idle_percent = (service.cpu_seconds() - used) / idle * 100 if idle else 0.0
    service.stop()
    result = judge(way, drop, jobs, settings.layout.archive, service.ready_at)
    result.cpu_seconds, result.idle_cpu_percent = used, idle_percent
    database.close()
    return result


def judge(way: str, drop: Drop, jobs: list[Any], archive: Path, ready_at: float) -> Result:
    """Compare what was taken with what was dropped. Nobody can pick up a file before the watcher is there."""
    by_path: dict[str, list[Any]] = {}
    for job in jobs:
        by_path.setdefault(job.relative_path, []).append(job)
    early = lost = 0
    pickup: list[float] = []
    queued: list[float] = []
    for path, (digest, finished_at) in drop.finished.items():
        for job in by_path.get(path, ()):
            early += job.content_hash != digest
            since = max(finished_at, ready_at)
            pickup.append(float(job.received) - since)
            queued.append(float(job.queued or job.received) - since)
            kept = archive / str(job.job_uuid) / job.archive_name
            lost += not kept.exists() or (drop.folder / path).exists()
    return Result(
        way=way, files=len(drop.finished), early=early, missed=sum(path not in by_path for path in drop.finished),
        twice=sum(len(found) > 1 for found in by_path.values()), lost=lost,
        p50=percentile(pickup, 50), p95=percentile(pickup, 95), queued_p95=percentile(queued, 95),
        stability=drop.stability,
    )  # fmt: skip


def databases(given: str | None, base: Path) -> Generator[str]:
    """Endless fresh databases on one server."""
    server = None
    if given is None:
        server = EmbeddedServer(base / "postgres")
        server.start()
        given = server.url("postgres")
    try:
        while True:
            name = f"bench_{secrets.token_hex(6)}"
            engine = sa.create_engine(Database(given).url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
            with engine.connect() as connection:
                connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
            yield sa.make_url(given).set(database=name).render_as_string(hide_password=False)
            with engine.connect() as connection:
                connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    finally:
        if server is not None:
            server.release()


def main() -> int:
    """Run the ways and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="files per way")
    parser.add_argument("--stability", type=float, default=5.0, help="ingest.stability_seconds")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--idle", type=float, default=5.0, help="seconds of idling to measure, after each way")
    parser.add_argument("--database-url", default=os.environ.get("IRONCLAD_TEST_DATABASE_URL"))
    parser.add_argument("--folder", type=Path, help="where the files go (a temporary folder)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    results = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ironclad-bench-", dir=options.folder))
        urls = stack.enter_context(contextlib.closing(databases(options.database_url, Path(folder))))
        for way in options.ways.split(","):
            result = measure(
                way, files=options.files, stability=options.stability, database_url=next(urls), base=Path(folder),
                idle=options.idle,
            )  # fmt: skip
            results.append(result)
            if not options.json:
                print(
                    f"{WAYS[way][1]:26} {result.files:5} files: early {result.early}, missed {result.missed}, "
                    f"twice {result.twice}, lost {result.lost}; pick-up p50 {result.p50:.2f} s, p95 {result.p95:.2f} s "
                    f"(stability {result.stability:g} s); in the queue p95 {result.queued_p95:.2f} s; "
                    f"CPU {result.cpu_seconds:.1f} s, idle {result.idle_cpu_percent:.2f} %",
                    flush=True,
                )
    if options.json:
        print(json.dumps([vars(result) | {"good": result.good} for result in results], indent=1))
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
