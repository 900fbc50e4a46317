"""A seeded monkey on a whole installation: it kills, pauses past the lease, drops connections and fills the disk.

All jobs settle; each song is published exactly once or failed with its class; every orphan is explained.
IRONCLAD_TEST_MONKEY_SEEDS (1,2,3) and IRONCLAD_TEST_MONKEY_SONGS (50) change the bounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest
from installation import SERVICES, Installation, until

from ironclad import durable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEEDS = [int(seed) for seed in os.environ.get("IRONCLAD_TEST_MONKEY_SEEDS", "1,2,3").split(",")]
SONGS = int(os.environ.get("IRONCLAD_TEST_MONKEY_SONGS", "50"))
LEASE = 8.0
ROOM = 12_000_000_000  # bytes between what is free and the floor; others use the disk, too
PAUSE = (1.0, 4.0)  # seconds between two pranks
SETTLE_SECONDS = 900.0

pytestmark = [
    pytest.mark.chaos, pytest.mark.services, pytest.mark.timeout(2400), pytest.mark.xdist_group("services"),
]  # fmt: skip


class Monkey:
    """One seed's pranks. What it pauses it wakes, what it fills it empties."""

    def __init__(self, up: Installation, seed: int) -> None:
        self._up = up
        self._random = random.Random(seed)  # noqa: S311 - pranks are no secrets
        self._ballast = up.folder.parent / "ballast"
        self.did: Counter[str] = Counter()

    def prank(self) -> None:
        """One of them."""
        pranks: list[Callable[[], str | None]] = [
            self._kill, self._kill, self._kill, self._pause, self._disconnect, self._fill,
        ]  # fmt: skip
        done = self._random.choice(pranks)()
        if done:
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
        """Below the floor for a while: nothing new may start, and everything goes on alone afterwards."""
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, ROOM * 3 // 2)
        time.sleep(8)
        self._ballast.unlink()
        return "fill the disk"

    def leave(self) -> None:
        """Wake and empty what is left."""
        self._ballast.unlink(missing_ok=True)
        for process in self._up.processes():
            with contextlib.suppress(psutil.Error):
                process.resume()


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_settles_whatever_the_monkey_does(seed: int, tmp_path: Path, make_song: Callable[..., Path]) -> None:
    songs = [
        make_song(tmp_path / "songs" / f"{n:02d}.flac", 4.0, n, title=f"Song {n}", track=n) for n in range(1, SONGS + 1)
    ]
    contents = {durable.digest(song) for song in songs}
    environment = {
        "IRONCLAD_JOBS__LEASE_SECONDS": str(LEASE), "IRONCLAD_JOBS__BACKOFF_SECONDS": "1",
        "IRONCLAD_JOBS__MAX_FAILURES": "10", "IRONCLAD_JOBS__QUARANTINE_AFTER": "50",
        "IRONCLAD_DISK__MIN_FREE_BYTES": str(max(0, durable.free_bytes(tmp_path) - ROOM)),
    }  # fmt: skip
    begun = time.monotonic()
    with Installation(tmp_path / "data", environment) as up:
        monkey = Monkey(up, seed)
        try:
            while songs:
                for song in [songs.pop() for _ in range(min(3, len(songs)))]:
                    up.drop(song)
                monkey.prank()
                monkey.rest()
        finally:
            monkey.leave()
        states = up.settled(SONGS, SETTLE_SECONDS)
        until("nothing is left in input/", lambda: not [p for p in up.layout.input.rglob("*") if p.is_file()], 60)
        print(f"\nseed {seed}: {SONGS} songs in {time.monotonic() - begun:.0f} s; {dict(monkey.did)}; jobs {states}")  # noqa: T201 - figures to report
        _check(up, states, contents)


def _check(up: Installation, states: dict[str, int], contents: set[str]) -> None:
    attempts = up.rows("SELECT attempt, count(*) AS jobs FROM job GROUP BY attempt ORDER BY attempt")
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
