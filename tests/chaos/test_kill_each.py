"""kill -9 of each process in turn while songs run: all finish, each is published once, nothing partial is ever seen."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
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

SONGS = int(os.environ.get("IRONCLAD_TEST_KILL_SONGS", "20"))
LEASE = 10.0
PATIENCE = 180.0  # nothing that is promised: a bound for machines that do much else
VICTIMS = ("flow", "engine", "worker-cpu", "dispatch", "watch", "prefect", "postgres")

pytestmark = [
    pytest.mark.chaos, pytest.mark.services, pytest.mark.timeout(1200), pytest.mark.xdist_group("services"),
]  # fmt: skip


class Witness(threading.Thread):
    """Looks at output/ all the time; remembers the digest of each file as it was when it first appeared."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._done = threading.Event()
        self.seen: dict[Path, str] = {}

    def run(self) -> None:
        while not self._done.wait(0.02):
            self.look()

    def look(self) -> None:
        for path in self._folder.rglob("*"):
            if path not in self.seen and path.is_file() and not path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    self.seen[path] = durable.digest(path)

    def stop(self) -> None:
        self._done.set()
        self.join()
        self.look()


def _children(up: Installation, of: str) -> list[psutil.Process]:
    pid = up.pid_of(of)
    if pid is None:
        return []
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def find(up: Installation, victim: str) -> int | None:
    """A live process of the kind, or None."""
    if victim in {*SERVICES, "postgres"}:
        return up.pid_of(victim)
    for process in _children(up, "worker-cpu"):
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if victim == "engine" and "ironclad.engines.host" in command:
                return process.pid
            if victim == "flow" and any("ironclad.engines.host" in " ".join(c.cmdline()) for c in process.children()):
                return process.pid
    return None


def running(up: Installation) -> dict[str, int]:
    """Running jobs and their attempts."""
    return {
        str(row.job_uuid): row.attempt for row in up.rows("SELECT job_uuid, attempt FROM job WHERE state = 'running'")
    }


def moved_on(up: Installation, before: dict[str, int], *, states: tuple[str, ...] = ("succeeded",)) -> bool:
    """Whether every job that ran is in one of the states, or in a later attempt."""
    rows = up.rows("SELECT job_uuid, attempt, state FROM job")
    now = {str(row.job_uuid): row for row in rows}
    return bool(now) and all(now[job].state in states or now[job].attempt > attempt for job, attempt in before.items())


def kill(up: Installation, victim: str) -> dict[str, object]:
    """Kill one process while it works and wait until what it did goes on; returns figures."""
    pids: list[int] = []

    def there() -> bool:
        pid = find(up, victim)
        busy = victim not in {"flow", "engine", "worker-cpu"} or bool(running(up))
        if pid is None or not busy:
            return False
        pids.append(pid)
        return True

    until(f"a {victim} to kill", there, PATIENCE)
    before = running(up)
    begun = time.monotonic()
    os.kill(pids[-1], signal.SIGKILL)
    figures: dict[str, object] = {"victim": victim}
    if victim == "worker-cpu":
        # Whoever is in the queue before them may be served first.
        given_back = ("succeeded", "queued", "waiting_retry")
        free = until("the killed worker's jobs are free", lambda: moved_on(up, before, states=given_back), PATIENCE)
        until("the killed worker's jobs go on", lambda: moved_on(up, before), PATIENCE)
        recovered = time.monotonic() - begun
        figures["free_s"] = round(free, 1)
    elif victim in {"flow", "engine"}:
        recovered = until(
            "jobs are claimed again", lambda: bool(set(running(up).items()) - set(before.items())), PATIENCE
        )
    else:
        recovered = until(f"{victim} is back", lambda: find(up, victim) not in {None, pids[-1]}, PATIENCE)
    if victim in SERVICES:
        until(f"{victim} is ready", lambda: up.is_ready(victim), PATIENCE)
    return {**figures, "recovered_s": round(recovered, 1), "ready_s": round(time.monotonic() - begun, 1)}


def test_every_process_may_be_killed(tmp_path: Path, make_song: Callable[..., Path]) -> None:
    songs = [make_song(tmp_path / f"{n:02d}.flac", 8.0, n, title=f"Song {n}", track=n) for n in range(1, SONGS + 1)]
    with Installation(tmp_path / "data", {"IRONCLAD_JOBS__LEASE_SECONDS": str(LEASE)}) as up:
        witness = Witness(up.layout.output)
        witness.start()
        waiting = list(songs)
        figures = []
        for victim in VICTIMS:
            for song in [waiting.pop() for _ in range(min(len(waiting), max(1, SONGS // len(VICTIMS))))]:
                up.drop(song)
            figures.append(kill(up, victim))
        for song in waiting:
            up.drop(song)
        states = up.settled(SONGS, 420)
        witness.stop()
        attempts = up.rows("SELECT attempt, count(*) AS jobs FROM job GROUP BY attempt ORDER BY attempt")
        print("\n" + "\n".join(str(figure) for figure in figures))  # noqa: T201 - figures to report
        print("attempts:", {row.attempt: row.jobs for row in attempts})  # noqa: T201 - likewise
        assert states == {"succeeded": SONGS}, up.rows("SELECT title, state, error FROM job")
        recorded = {
            row.path: row.blake3 for row in up.rows("SELECT path, blake3 FROM artifact WHERE state = 'published'")
        }
        files = {str(path) for path in up.layout.output.rglob("*") if path.is_file()}
        assert set(recorded) == files  # published <=> recorded, and no temporary file is left
        assert {str(path): digest for path, digest in witness.seen.items()} == recorded  # whole when first seen
        kinds = Counter(row.kind for row in up.rows("SELECT kind FROM artifact WHERE state = 'published'"))
        kinds.pop("cover:instrumental", None)  # one an album, of whichever song came first
        assert kinds == {"instrumental": SONGS, "receipt:instrumental": SONGS}
        originals = [path.read_bytes() for path in up.layout.archive.rglob("original.*")]
        assert sorted(originals) == sorted(song.read_bytes() for song in songs)
        for figure in figures:
            if figure["victim"] in {"flow", "engine", "worker-cpu"}:
                assert float(str(figure.get("free_s", figure["recovered_s"]))) <= LEASE + 5, figure
