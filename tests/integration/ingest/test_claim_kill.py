"""Kill -9 a real claim at its system calls, or make them fail; then the file is there exactly once, whole, queued once.

A handful of points runs by default; IRONCLAD_TEST_EVERY_POINT=1 runs all of them (some minutes).
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.ingest import claim

if TYPE_CHECKING:
    from collections.abc import Iterator

    Bench = Any  # conftest's

EVERY_POINT = bool(os.environ.get("IRONCLAD_TEST_EVERY_POINT"))
CALLS = ("mkdir", "renameat2", "fsync", "flock", "unlink", "link", "write", "sendto")
CONTENT = b"every byte of it " * 20_000
CHILD = """
import sys
from pathlib import Path
from ironclad.config import load
from ironclad.db.session import Database
from ironclad.ingest import claim
from ironclad.jobs.submit import NewJob

settings = load()
database = Database.open(settings)
path = Path(sys.argv[1])
with database.session():
    pass
sys.stdout.flush()
Path(sys.argv[3]).mkdir()  # the first call that counts
new = NewJob("ana", path, path.name, path.lstat(), sys.argv[4], sys.argv[2])
print(claim.take(database, settings, new).state)
"""
pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@pytest.fixture(params=["same", "other", "copy"])
def case(request: pytest.FixtureRequest, bench: Bench) -> Iterator[tuple[str, Path]]:
    """The mode, and a watch root: on the archive's file system or on another one."""
    if request.param != "other":
        yield "move" if request.param == "same" else "copy", bench.input
        return
    if not os.access("/dev/shm", os.W_OK) or Path("/dev/shm").stat().st_dev == bench.input.stat().st_dev:
        pytest.skip("there is only one file system to write to")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield "move", Path(folder)


class Claimer:
    """A child process that claims one file, under strace."""

    def __init__(self, environment: dict[str, str], mode: str, root: Path, tmp_path: Path) -> None:
        self.environment = os.environ | environment | {"PYTHONDONTWRITEBYTECODE": "1"}
        self.mode = mode
        self.root = root
        self.tmp_path = tmp_path
        self.runs = 0

    def drop(self) -> Path:
        self.runs += 1
        path = self.root / f"{self.runs}.mp3"
        path.write_bytes(CONTENT + str(self.runs).encode())
        return path

    def run(self, path: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
        marker = self.tmp_path / f"marker-{self.runs}"
        command = ["strace", "-f", "-qq", "-e", f"trace={','.join(CALLS)}", *options]
        child = [sys.executable, "-c", CHILD, str(path), self.mode, str(marker), str(self.root)]
        return subprocess.run([*command, *child], env=self.environment, capture_output=True, check=False, timeout=250)

    def points(self) -> list[tuple[str, int]]:
        """Every call of the claim, as (name, how many-eth of that name in the process)."""
        log = self.tmp_path / "strace.log"
        done = self.run(self.drop(), "-o", str(log))
        assert done.returncode == 0, done.stderr.decode()
        counts: collections.Counter[str] = collections.Counter()
        found: list[tuple[str, int]] = []
        begun = False
        for line in log.read_text(errors="replace").splitlines():
            match = re.match(r"\d+\s+(\w+)\(", line)
            if match is None:
                continue
            counts[match[1]] += 1
            begun = begun or "marker-" in line
            if begun:
                found.append((match[1], counts[match[1]]))
        return found[1:]


def chosen(points: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """All points, or the ones around what matters most: the file's own move, and both sides of it in the database."""
    if EVERY_POINT:
        return points
    calls = [name for name, _ in points]
    wanted = [calls.index("renameat2"), len(points) - 1 - calls[::-1].index("fsync")]
    wanted.append(calls.index("unlink") if "unlink" in calls else len(points) - 1)  # the last: the final commit
    return [points[number] for number in wanted]


def test_a_claim_that_is_killed_anywhere_converges(
    bench: Bench, environment: dict[str, str], case: tuple[str, Path], tmp_path: Path
) -> None:
    mode, root = case
    claimer = Claimer(environment, mode, root, tmp_path)
    points = chosen(claimer.points())
    killed = 0
    for name, number in points:
        path = claimer.drop()
        content = path.read_bytes()
        done = claimer.run(path, "-e", f"inject={name}:signal=SIGKILL:when={number}", "-o", "/dev/null")
        killed += done.returncode in {-9, 137}
        whole = [found for found in _copies(bench, root, path.name) if found.read_bytes() == content]
        assert whole, f"lost by a kill at {name} {number}"

        _converges(bench, mode, path, content, f"killed at {name} {number}")
    assert killed == len(points)
    assert len(points) >= 3


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"] if EVERY_POINT else ["ENOSPC"])
def test_a_claim_whose_disk_fails_anywhere_is_tried_again(
    bench: Bench, environment: dict[str, str], case: tuple[str, Path], tmp_path: Path, error: str
) -> None:
    mode, root = case
    if mode == "move" and root != bench.input and not EVERY_POINT:
        pytest.skip("it fails as in copy mode; IRONCLAD_TEST_EVERY_POINT=1 runs it")
    claimer = Claimer(environment, mode, root, tmp_path)
    points = [point for point in claimer.points() if point[0] not in {"sendto", "flock"}]
    if not EVERY_POINT:
        calls = [name for name, _ in points]
        points = [points[calls.index("write" if root != bench.input or mode == "copy" else "renameat2")]]
    for name, number in points:
        path = claimer.drop()
        content = path.read_bytes()
        done = claimer.run(path, "-e", f"inject={name}:error={error}:when={number}", "-o", "/dev/null")
        told = done.stdout.decode().strip()
        assert told in {"received", "queued", ""}, f"{error} at {name} {number}: {told}"
        whole = [found for found in _copies(bench, root, path.name) if found.read_bytes() == content]
        assert whole, f"lost by {error} at {name} {number}"
        _converges(bench, mode, path, content, f"{error} at {name} {number}")


def _converges(bench: Bench, mode: str, path: Path, content: bytes, after: str) -> None:
    """What the next start does brings the file into the archive and the job into the queue, once."""
    claim.recover(bench.database, bench.settings)
    jobs = [job for job in bench.jobs() if job.relative_path == path.name]
    if not jobs:  # the row was not there yet: the watcher finds the file again
        claim.take(bench.database, bench.settings, bench.new(path, mode))
        jobs = [job for job in bench.jobs() if job.relative_path == path.name]
    assert [job.state for job in jobs] == ["queued"], after
    folder = bench.archived(jobs[0]).parent
    assert [found.name for found in folder.iterdir()] == ["original.mp3"], after
    assert bench.archived(jobs[0]).read_bytes() == content, after
    assert path.exists() is (mode == "copy"), after


def _copies(bench: Bench, root: Path, name: str) -> list[Path]:
    archived = [bench.archived(job) for job in bench.jobs() if job.relative_path == name]
    return [path for path in [root / name, *archived] if path.exists()]
