"""A seeded monkey on a whole installation: it kills, pauses past the lease, drops connections, fills the work folder.

A second worker joins in whose clock is minutes off (libfaketime, where it is there). All jobs settle; each song is
published exactly once or failed with its class; every orphan is explained.
IRONCLAD_TEST_MONKEY_SEEDS (1,2,3) and IRONCLAD_TEST_MONKEY_SONGS (50) change the bounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import mounts
import psutil
import pytest
from installation import SERVICES, Installation, until

from ironclad import durable
from ironclad_flows.worker_service import worker_command

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = [int(seed) for seed in os.environ.get("IRONCLAD_TEST_MONKEY_SEEDS", "1,2,3").split(",")]
SONGS = int(os.environ.get("IRONCLAD_TEST_MONKEY_SONGS", "50"))
LEASE = 10.0
SMALL = 200_000_000  # bytes of the file system that work/ is mounted on
FLOOR = 60_000_000
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
PAUSE = (1.0, 4.0)  # seconds between two pranks
SETTLE_SECONDS = 2400.0  # nothing that is promised: a bound for machines that do much else

pytestmark = [
    pytest.mark.chaos, pytest.mark.services, pytest.mark.timeout(3600), pytest.mark.xdist_group("services"),
]  # fmt: skip


class Monkey:
    """One seed's pranks. What it pauses it wakes, what it fills it empties."""

    def __init__(self, up: Installation, seed: int) -> None:
        self._up = up
        self._random = random.Random(seed)  # noqa: S311 - pranks are no secrets
        self._ballast = up.layout.work / ".ballast"
        self._stray: subprocess.Popen[bytes] | None = None
        self.did: Counter[str] = Counter()

    def prank(self) -> None:
        """One of them."""
        pranks: list[Callable[[], str | None]] = [
            self._kill, self._kill, self._kill, self._pause, self._disconnect, self._fill, self._move_clock,
        ]  # fmt: skip
        done = self._random.choice(pranks)()
        if done:
            self.did[done] += 1

    def begin(self) -> None:
        """The second worker is there from the beginning."""
        if done := self._move_clock():
            self.did[done] += 1

    def rest(self) -> None:
        """Wait for the next mood."""
        time.sleep(self._random.uniform(*PAUSE))

    def _work(self) -> list[psutil.Process]:
        """The flow runs and engine hosts below the worker."""
        pid = self._up.pid_of("worker-cpu")
        with contextlib.suppress(psutil.Error):
            return [] if pid is None else psutil.Process(pid).children(recursive=True)
        return []

    def _kill(self) -> str | None:
        victim = self._random.choice([*SERVICES, "postgres", "work", "work", "work"])
        if victim == "work":
            below = self._work()
            pid = self._random.choice(below).pid if below else None
        else:
            pid = self._up.pid_of(victim)
        if pid is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return f"kill {victim}"

    def _pause(self) -> str | None:
        """Past the lease: it wakes as a zombie."""
        below = self._work()
        if not below:
            return None
        victim = self._random.choice(below)
        with contextlib.suppress(psutil.Error):
            victim.suspend()
            time.sleep(LEASE + 4)
            victim.resume()
            return "pause past the lease"
        return None

    def _disconnect(self) -> str | None:
        dropped = self._up.rows(
            "SELECT count(pg_terminate_backend(pid)) AS dropped FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return "drop all connections" if dropped else None

    def _fill(self) -> str | None:
        """Below the floor, or to the last byte: nothing new may start, and everything goes on alone afterwards."""
        left = self._random.choice([0, FLOOR // 2])
        free = durable.free_bytes(self._up.layout.work)
        if not self._up.layout.work.is_mount() or free <= left:
            return None
        try:
            with self._ballast.open("wb") as file, contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, free - left)
            time.sleep(8)
        finally:
            self._ballast.unlink(missing_ok=True)
        return "fill the disk to the last byte" if left == 0 else "fill the disk below its floor"

    def _move_clock(self) -> str | None:
        """The second worker dies, and another one begins whose clock is minutes off."""
        if FAKETIME is None:
            return None
        self._end_stray()
        minutes = self._random.choice([-9, -5, -2, 2, 5, 9])
        log = (self._up.layout.logs / "stray.log").open("ab")
        with log:
            self._stray = subprocess.Popen(
                worker_command("cpu", slots=1, name="stray"), stdout=log, stderr=log, start_new_session=True,
                env={
                    **self._up.environment, "LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{minutes * 60:+d}",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                },
            )  # fmt: skip
        return "a worker with another clock"

    def _end_stray(self) -> None:
        if self._stray is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._stray.pid, signal.SIGKILL)
            self._stray.wait()
            self._stray = None

    def leave(self) -> None:
        """Wake and empty what is left."""
        self._ballast.unlink(missing_ok=True)
        for process in self._up.processes():
            with contextlib.suppress(psutil.Error):
                process.resume()

    def go_home(self) -> None:
        """Also end what it started."""
        self.leave()
        self._end_stray()


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_settles_whatever_the_monkey_does(seed: int, tmp_path: Path, make_song: Callable[..., Path]) -> None:
    songs = [
        make_song(tmp_path / "songs" / f"{n:02d}.flac", 3.0, n, title=f"Song {n}", track=n) for n in range(1, SONGS + 1)
    ]
    contents = {durable.digest(song) for song in songs}
    with mounts.small(tmp_path / "data" / "work", f"size={SMALL}") as mounted:
        environment = {
            "IRONCLAD_JOBS__LEASE_SECONDS": str(LEASE), "IRONCLAD_JOBS__BACKOFF_SECONDS": "1",
            "IRONCLAD_JOBS__MAX_FAILURES": "10", "IRONCLAD_JOBS__QUARANTINE_AFTER": "50",
            "IRONCLAD_DISK__MIN_FREE_BYTES": str(FLOOR if mounted else 1_000_000),
        }  # fmt: skip
        begun = time.monotonic()
        with Installation(tmp_path / "data", environment) as up:
            monkey = Monkey(up, seed)
            try:
                monkey.begin()
                while songs:
                    for song in [songs.pop() for _ in range(min(3, len(songs)))]:
                        up.drop(song)
                    monkey.prank()
                    monkey.rest()
                monkey.leave()
                states = up.settled(SONGS, SETTLE_SECONDS)
            finally:
                monkey.go_home()
            until("nothing is left in input/", lambda: not [p for p in up.layout.input.rglob("*") if p.is_file()], 60)
            took = time.monotonic() - begun
            print(f"\nseed {seed}: {SONGS} songs in {took:.0f} s; {dict(monkey.did)}; jobs {states}")  # noqa: T201 - figures to report
            _check(up, states, contents)


def _check(up: Installation, states: dict[str, int], contents: set[str]) -> None:
    attempts = up.rows("SELECT attempt, count(*) AS jobs FROM job GROUP BY attempt ORDER BY attempt")
    stray = up.rows("SELECT count(*) AS runs FROM attempt WHERE worker LIKE 'stray@%'")
    print("attempts on the worker with another clock:", stray[0].runs)  # noqa: T201 - figures to report
    print("attempts:", {row.attempt: row.jobs for row in attempts})  # noqa: T201 - figures to report
    assert sum(states.values()) == SONGS, states
    jobs = up.rows("SELECT state, error_code, content_hash FROM job")
    assert {job.content_hash for job in jobs} == contents
    assert all(job.error_code for job in jobs if job.state != "succeeded"), jobs
    published = up.rows("SELECT path, blake3, job_uuid, kind FROM artifact WHERE state = 'published'")
    once = Counter((str(row.job_uuid), row.kind) for row in published)
    assert set(once.values()) <= {1}
    songs = [row for row in published if row.kind == "instrumental"]
    assert len(songs) == states.get("succeeded", 0)
    for row in published:
        assert durable.digest(up.layout.root / row.path) == row.blake3
    listed = up.ironclad("orphans", "--quiet", "0", "--hash", "--json", check=False)
    orphans = json.loads(listed.stdout)["orphans"]
    print("orphans:", dict(Counter(one["kind"] for one in orphans)))  # noqa: T201 - figures to report
    assert {one["kind"] for one in orphans} <= {"unfinished"}, orphans  # explained: what a kill left half-written
    recorded = {row.path for row in published}
    files = {
        str(path) for path in up.layout.output.rglob("*") if path.is_file() and not durable.is_temporary(path.name)
    }  # fmt: skip
    assert files == recorded
