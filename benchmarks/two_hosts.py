"""A drill: two hosts, one PostgreSQL, one Prefect server, shared storage; then one host is cut off for a while.

Each "host" has a data folder of its own (run/ and logs/ are a host's own affair) whose input, archive, work, output and
error are the shared ones, and, where this may make UTS namespaces, a host name of its own. Cut off means that all
its processes stand still for longer than a lease: to everybody else that is a host that cannot be reached, and when
it comes back it believes to own what it had. Prints what happened; fails if a song was lost or made twice.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import sqlalchemy as sa

from ironclad.audio import synth
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = ("input", "archive", "work", "output", "error")
BEGUN = time.monotonic()


def say(text: str) -> None:
    """Print a line with the time since the beginning."""
    print(f"{time.monotonic() - BEGUN:6.1f} s  {text}", flush=True)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: str, holds: Callable[[], object], seconds: float) -> None:
    """Look until it holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


class Host:
    """Services with a data folder and a host name of their own."""

    def __init__(self, name: str, folder: Path, shared: Path, common: dict[str, str]) -> None:
        self.name, self.folder = name, folder
        folder.mkdir()
        for part in SHARED:
            (shared / part).mkdir(parents=True, exist_ok=True)
            (folder / part).symlink_to(shared / part)
        (folder / "logs").mkdir()
        self.environment = {**common, "IRONCLAD_DATA_DIR": str(folder)}
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, *service: str) -> None:
        """Start one service."""
        command = [sys.executable, "-m", "ironclad.cli.main", "run", *service]
        if os.geteuid() == 0:
            command = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name, *command]
        with (self.folder / "logs" / f"{service[0]}.log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def everything(self) -> list[psutil.Process]:
        """Every process of this host."""
        found = []
        for process in self.processes:
            try:
                whole = psutil.Process(process.pid)
                found += [whole, *whole.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send all of them a signal."""
        for process in self.everything():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def stop(self) -> None:
        """Stop them, the last started first."""
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)


def main() -> None:
    """Run the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a song")
    parser.add_argument("--lease", type=float, default=10.0)
    parser.add_argument("--cut", type=float, default=60.0, help="seconds for which the second host is cut off")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ironclad-hosts-") as name:
        folder = Path(name)
        server = EmbeddedServer(folder / "postgres")
        server.start()
        try:
            drill(folder, server, options)
        finally:
            server.stop()
            server.release()


def drill(folder: Path, server: EmbeddedServer, options: argparse.Namespace) -> None:
    """Two hosts, songs, a cut, and what came of it."""
    port = free_port()
    common = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("IRONCLAD_", "PREFECT_"))},
        "IRONCLAD_DATABASE_URL": server.url().replace("postgresql+psycopg", "postgresql"),
        "IRONCLAD_PREFECT__API_URL": f"http://127.0.0.1:{port}/api", "IRONCLAD_PREFECT__PORT": str(port),
        "IRONCLAD_SERVICES__BASE_PORT": "0", "IRONCLAD_POOLS__CPU__SLOTS": "1", "IRONCLAD_ENGINE__THREADS": "1",
        "IRONCLAD_JOBS__LEASE_SECONDS": str(options.lease), "IRONCLAD_INGEST__STABILITY_SECONDS": "1",
        "IRONCLAD_PREFECT__QUERY_SECONDS": "1", "IRONCLAD_DISK__MIN_FREE_BYTES": "100000000",
    }  # fmt: skip
    shared = folder / "shared"
    first, second = (Host(name, folder / name, shared, common) for name in ("host-a", "host-b"))
    subprocess.run(
        [sys.executable, "-m", "ironclad.cli.main", "db", "upgrade"], env=first.environment, check=True,
        capture_output=True, timeout=120,
    )  # fmt: skip
    database = Database(server.url())

    def rows(statement: str) -> list[sa.Row[tuple[object, ...]]]:
        with database.session() as session:
            return list(session.execute(sa.text(statement)).all())

    def count(state: str) -> int:
        return int(dict(rows("SELECT state, count(*) FROM job GROUP BY state")).get(state, 0))

    try:
        for service in (("prefect",), ("watch",), ("dispatch",), ("worker", "--pool", "cpu")):
            first.run(*service)
        second.run("worker", "--pool", "cpu")
        until("both workers seen", lambda: rows("SELECT count(*) FROM worker WHERE kind = 'worker'")[0][0] == 2, 180)
        known = [str(row[0]) for row in rows("SELECT name FROM worker ORDER BY name")]
        say(f"two hosts, one slot each: {', '.join(known)}")
        for number in range(options.songs):
            song = synth.short_song(options.seconds, number + 1)
            target = folder / f".song-{number}.flac"
            tags = synth.Tags(title=f"Song {number}", artist="Ana", album="Two Hosts", genre="", date="2026",
                              track=number + 1, total=options.songs)  # fmt: skip
            synth.write_song(target, song.mixture, tags, rate=song.rate, cover=synth.cover_art(1, 64))
            (shared / "input/ana").mkdir(exist_ok=True)
            target.rename(shared / "input/ana" / f"{number:02}.flac")
        say(f"{options.songs} songs of {options.seconds:g} s dropped")
        running = "SELECT count(*) FROM attempt WHERE ended_at IS NULL AND worker LIKE '%host-b%'"
        until("host-b works", lambda: rows(running)[0][0], 240)
        second.signal(signal.SIGSTOP)
        say(f"host-b is cut off in the middle of a song ({count('succeeded')} done)")
        cut = time.monotonic()
        until("its job went back", lambda: not rows(running)[0][0], options.lease * 4 + 30)
        say(f"its song was given back {time.monotonic() - cut:.1f} s later (lease {options.lease:g} s)")
        time.sleep(max(0.0, options.cut - (time.monotonic() - cut)))  # what is measured is this time
        say(f"host-b can be reached again ({count('succeeded')} done meanwhile)")
        second.signal(signal.SIGCONT)
        until("all done", lambda: count("succeeded") == options.songs, 600)
        say("all songs are done")
        judge(shared, rows, options.songs)
    except BaseException:
        for log in sorted(folder.glob("host-*/logs/*.log")):
            sys.stderr.write(f"--- {log}\n{log.read_text(errors='replace')[-1500:]}\n")
        raise
    finally:
        second.signal(signal.SIGCONT)
        second.stop()
        first.stop()
        database.close()


def judge(shared: Path, rows: Callable[[str], list[sa.Row[tuple[object, ...]]]], songs: int) -> None:
    """Fail if a song was lost or made twice."""
    by_host = rows(
        "SELECT coalesce(substring(worker from 'host-[ab]'), worker), outcome, count(*) FROM attempt "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )
    say("attempts: " + json.dumps([[str(cell) for cell in row] for row in by_host]))
    files = sorted(path for path in (shared / "output").rglob("*.flac") if not path.name.startswith("."))
    assert len(files) == songs, files
    published = rows(
        "SELECT count(*), count(DISTINCT path) FROM artifact WHERE state = 'published' AND kind = 'instrumental'"
    )
    assert tuple(published[0]) == (songs, songs), published
    assert not list((shared / "input/ana").iterdir())
    assert len(list((shared / "archive").iterdir())) == songs
    say(f"{songs} songs, {songs} files, {songs} originals: nothing lost, nothing twice")


if __name__ == "__main__":
    main()
