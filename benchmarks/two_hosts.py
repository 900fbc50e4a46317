"""A drill: two hosts, one PostgreSQL, one Prefect server, shared storage; then one host is cut off for a while.

Each "host" has a data folder of its own (run/ and logs/ are a host's own affair) whose input, archive, work, output and
error are the shared ones, and, where this may make UTS namespaces, a host name of its own. There are two ways to be cut
off. By default all processes of the second host stand still for longer than a lease: to everybody else that is a host
that cannot be reached, and when it comes back it believes to own what it had. With --link each host is a network
namespace, joined by one link (veth; needs root and iproute2), and that link goes down: the second host's processes run
on, with the shared storage and without database and Prefect. Prints what happened; fails if a song was lost or made
twice, or if a host without its database goes on with its song.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
import psycopg
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


class Link:
    """Two network namespaces and one link between them."""

    names = ("host-a", "host-b")
    addresses = ("10.83.0.1", "10.83.0.2")
    net = "10.83.0.0/24"

    def __init__(self) -> None:
        self.spaces = tuple(f"ic-{os.getpid()}-{name[-1]}" for name in self.names)

    def __enter__(self) -> Self:
        for space in self.spaces:
            self._ip("netns", "add", space)
            self._ip("-n", space, "link", "set", "lo", "up")
        first, second = self.spaces
        self._ip("link", "add", "link0", "netns", first, "type", "veth", "peer", "name", "link0", "netns", second)
        for space, address in zip(self.spaces, self.addresses, strict=True):
            self._ip("-n", space, "address", "add", f"{address}/24", "dev", "link0")
            self._ip("-n", space, "link", "set", "link0", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for space in self.spaces:
            self._ip("netns", "delete", space)

    def within(self, name: str) -> list[str]:
        """What stands before a command that runs on a host."""
        return ["ip", "netns", "exec", self.spaces[self.names.index(name)]]

    def set(self, state: str) -> None:
        """`down` cuts the link, `up` mends it."""
        self._ip("-n", self.spaces[0], "link", "set", "link0", state)

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


class Host:
    """Services with a data folder and a host name of their own."""

    def __init__(
        self, name: str, folder: Path, shared: Path, common: dict[str, str], within: list[str] | None = None
    ) -> None:
        self.name, self.folder, self.within = name, folder, within or []
        folder.mkdir()
        for part in SHARED:
            (shared / part).mkdir(parents=True, exist_ok=True)
            (folder / part).symlink_to(shared / part)
        (folder / "logs/jobs").mkdir(parents=True)
        self.environment = {**common, "IRONCLAD_DATA_DIR": str(folder)}
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, *service: str) -> None:
        """Start one service."""
        command = [sys.executable, "-m", "ironclad.cli.main", "run", *service]
        if os.geteuid() == 0:
            command = [*self.within, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name, *command]
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
    parser.add_argument("--link", action="store_true", help="cut a real link instead of stopping processes")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ironclad-hosts-")))
        link = stack.enter_context(Link()) if options.link else None
        server = EmbeddedServer(folder / "postgres")
        if link is not None:
            start_on(link, server)
        server.start()
        try:
            drill(folder, server, options, link)
        finally:
            server.stop()
            server.release()


_START = (
    "import sys; from pathlib import Path; from ironclad.db.embedded import EmbeddedServer; "
    "EmbeddedServer(Path(sys.argv[1]), {'listen_addresses': sys.argv[2]}).start()"
)


def start_on(link: Link, server: EmbeddedServer) -> None:
    """Start the database on the first host's address; the socket in its folder is for this program's own questions."""
    subprocess.run(
        [*link.within("host-a"), sys.executable, "-c", _START, server.folder, link.addresses[0]],
        check=True, timeout=120,
    )  # fmt: skip
    with (server.folder / "pg_hba.conf").open("a", encoding="utf-8") as rules:
        rules.write(f"host all all {link.net} trust\n")
    with psycopg.connect(host=str(server.socket_folder), user="ironclad", dbname="postgres") as connection:
        connection.execute("SELECT pg_reload_conf()")


def environment_of(server: EmbeddedServer, options: argparse.Namespace, link: Link | None) -> dict[str, str]:
    """Settings of both hosts."""
    address, port = ("127.0.0.1", free_port()) if link is None else (link.addresses[0], 4200)
    url = server.url().replace("postgresql+psycopg", "postgresql")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("IRONCLAD_", "PREFECT_"))},
        "IRONCLAD_DATABASE_URL": url if link is None else f"postgresql://ironclad@{address}/ironclad",
        "IRONCLAD_PREFECT__API_URL": f"http://{address}:{port}/api", "IRONCLAD_PREFECT__PORT": str(port),
        "IRONCLAD_PREFECT__HOST": address,
        "IRONCLAD_SERVICES__BASE_PORT": "0", "IRONCLAD_POOLS__CPU__SLOTS": "1", "IRONCLAD_ENGINE__THREADS": "1",
        "IRONCLAD_JOBS__LEASE_SECONDS": str(options.lease), "IRONCLAD_INGEST__STABILITY_SECONDS": "1",
        "IRONCLAD_PREFECT__QUERY_SECONDS": "1", "IRONCLAD_DISK__MIN_FREE_BYTES": "100000000",
    }  # fmt: skip


class Drill:
    """Two hosts, songs, a cut, and what came of it."""

    def __init__(self, folder: Path, server: EmbeddedServer, options: argparse.Namespace, link: Link | None) -> None:
        self.folder, self.options, self.link = folder, options, link
        self.shared = folder / "shared"
        self.dropped = 0
        common = environment_of(server, options, link)
        self.first, self.second = (
            Host(name, folder / name, self.shared, common, None if link is None else link.within(name))
            for name in Link.names
        )
        subprocess.run(
            [*self.first.within, sys.executable, "-m", "ironclad.cli.main", "db", "upgrade"],
            env=self.first.environment, check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        self.database = Database(server.url())

    def rows(self, statement: str) -> list[sa.Row[tuple[object, ...]]]:
        """Ask the database."""
        with self.database.session() as session:
            return list(session.execute(sa.text(statement)).all())

    def done(self) -> int:
        """Songs that are in the library."""
        return int(dict(self.rows("SELECT state, count(*) FROM job GROUP BY state")).get("succeeded", 0))

    def drop(self, songs: int) -> None:
        """Drop songs into the watched folder."""
        for number in range(self.dropped, self.dropped + songs):
            song = synth.short_song(self.options.seconds, number + 1)
            target = self.folder / f".song-{number}.flac"
            tags = synth.Tags(title=f"Song {number}", artist="Ana", album="Two Hosts", genre="", date="2026",
                              track=number + 1, total=99)  # fmt: skip
            synth.write_song(target, song.mixture, tags, rate=song.rate, cover=synth.cover_art(1, 64))
            (self.shared / "input/ana").mkdir(exist_ok=True)
            target.rename(self.shared / "input/ana" / f"{number:02}.flac")
        self.dropped += songs
        say(f"{songs} songs of {self.options.seconds:g} s dropped")

    def cut(self) -> None:
        """Cut the second host off."""
        if self.link is None:
            self.second.signal(signal.SIGSTOP)
        else:
            self.link.set("down")

    def mend(self) -> None:
        """Let the second host be reached again."""
        if self.link is None:
            self.second.signal(signal.SIGCONT)
        else:
            self.link.set("up")

    def run(self) -> None:
        """The drill."""
        for service in (("prefect",), ("watch",), ("dispatch",), ("worker", "--pool", "cpu")):
            self.first.run(*service)
        self.second.run("worker", "--pool", "cpu")
        both = "SELECT count(*) FROM worker WHERE kind = 'worker'"
        until("both workers seen", lambda: self.rows(both)[0][0] == 2, 240)
        known = [str(row[0]) for row in self.rows("SELECT name FROM worker ORDER BY name")]
        say(f"two hosts, one slot each: {', '.join(known)}")
        self.drop(self.options.songs)
        running = "SELECT attempt, job_uuid FROM attempt WHERE ended_at IS NULL AND worker LIKE '%host-b%'"
        deep = (
            "SELECT attempt, job_uuid FROM stage_run JOIN attempt a USING (attempt, job_uuid) WHERE a.ended_at IS NULL "
            "AND a.worker LIKE '%host-b%' AND stage = 'separate' AND state = 'running'"
        )
        until("host-b separates", lambda: self.rows(deep), 400)
        (attempt, job), *_ = self.rows(deep)
        say(f"host-b is cut off in the middle of a song ({self.done()} done)")
        begun, cut = time.monotonic(), datetime.now(UTC)
        self.cut()
        until("its job went back", lambda: not self.rows(running), self.options.lease * 6 + 60)
        say(f"its song was given back {time.monotonic() - begun:.1f} s later (lease {self.options.lease:g} s)")
        time.sleep(max(0.0, self.options.cut - (time.monotonic() - begun)))  # what is measured is this time
        say(f"host-b can be reached again ({self.done()} done meanwhile)")
        self.mend()
        if self.link is not None:
            self.stopped(job, cut)
            self.drop(4)
            again = "SELECT count(*) FROM attempt WHERE worker LIKE '%host-b%' AND started_at > (SELECT max(ended_at) "
            again += f"FROM attempt WHERE attempt = {attempt} AND job_uuid = '{job}')"
            until("host-b works again", lambda: self.rows(again)[0][0], 300)
            say("host-b works again")
        until("all done", lambda: self.done() == self.dropped, 600)
        say("all songs are done")
        judge(self.shared, self.rows, self.dropped)

    def said(self, job: object) -> list[dict[str, Any]]:
        """What the second host's own log says of a job."""
        log = self.second.folder / "logs/jobs" / f"{job}.jsonl"
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []

    def stopped(self, job: object, cut: datetime) -> None:
        """Fail unless the cut run stopped by itself: no stage event after its lease, over before the link is back."""
        until("the cut run ends", lambda: any(one["event"] == "attempt_ended" for one in self.said(job)), 400)
        lines = [(one, (datetime.fromisoformat(one["at"]) - cut).total_seconds()) for one in self.said(job)]
        worked = [after for one, after in lines if one["event"] in {"stage_started", "stage_ended"}]
        end, ended = lines[-1]
        say(f"the cut run: last stage event {worked[-1]:.1f} s after the cut, end {ended:.1f} s after: {end['state']}")
        assert worked[-1] < self.options.lease, lines
        assert ended < self.options.cut, lines
        assert end["state"] == "lost", end


def drill(folder: Path, server: EmbeddedServer, options: argparse.Namespace, link: Link | None) -> None:
    """Run a drill; show the ends of all logs if it fails."""
    drilled = Drill(folder, server, options, link)
    try:
        drilled.run()
    except BaseException:
        for log in sorted(folder.glob("host-*/logs/*.log")):
            sys.stderr.write(f"--- {log}\n{log.read_text(errors='replace')[-1500:]}\n")
        raise
    finally:
        drilled.mend()
        drilled.second.stop()
        drilled.first.stop()
        drilled.database.close()


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
