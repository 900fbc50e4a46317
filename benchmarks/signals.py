"""What metrics, logs and health cost: processor time of songs with them and without, in turn, in one run.

Each round runs songs inline through the whole pipeline in a process of its own: once with the log written to a file,
a scrape of the dispatcher's and a worker's metrics every second (Prometheus is set up to come every 15) and the probes
as often as in a service, and once without all that (log level ERROR, no job log, no scrape, no probe). One more song
goes before those that are measured, in both: a service connects, compiles its statements and probes for the first time
once in its life, not once a song; that is printed by itself. Prints the ratio of the medians.

    python benchmarks/signals.py [--rounds 7] [--songs 5] [--seconds 12]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUND = """
import json, resource, sys, threading, time
from pathlib import Path
from ironclad import log
from ironclad.config import load
from ironclad.cli.queueing import Found, Wishes, queue
from ironclad.db import schema
from ironclad.db.session import Database
from ironclad.jobs import lease
from ironclad.stages import runner

signals, folder, songs = sys.argv[1] == "with", Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
settings = load()
settings.layout.create()
database = Database.open(settings)
schema.ensure(database)
stopping = threading.Event()
if signals:
    from ironclad.engines.registry import installed_engines
    from ironclad.ops.engine_hosts import EngineHostReader
    from ironclad.ops.health import HealthBoard, Status
    from ironclad.ops.metrics import Metrics
    from ironclad.ops.probes import DiskProbe, EngineProbe, Prober, descriptors
    from ironclad.ops.queue_metrics import QueueReader
    log.configure(service="worker-cpu", stream=(folder / "log").open("w"), human=False, burst=100)
    metrics, worker = Metrics("dispatch"), Metrics("worker-cpu")
    QueueReader(database, metrics, lag_seconds=0)
    EngineHostReader(worker, lambda: {spec.entry: spec.name for spec in installed_engines()})
    board = HealthBoard()
    probes = {"storage": DiskProbe(settings), "engine": EngineProbe(settings), "file descriptors": descriptors}
else:
    log.configure(service="worker-cpu", level="ERROR", stream=(folder / "log").open("w"), human=False)
    log.JobLog.write = lambda self, **event: None

def run(song):
    job = queue(database, settings, Wishes(), Found(song, song.name)).job_uuid
    with database.session() as session:
        claim = lease.claim(session, job, 1, worker="bench", lease_seconds=30)
    assert claim is not None
    outcome = runner.run_claim(database, settings, claim, worker="bench")
    assert outcome.state == "succeeded", outcome

def cpu():
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

def scrape():
    while not stopping.wait(1.0):
        metrics.render()
        worker.render()

started = cpu()
if signals:
    metrics.render(), worker.render()
    Prober(board, probes).start(stopping)
    threading.Thread(target=scrape, daemon=True).start()
run(songs[0])
before, begun = cpu(), time.monotonic()
for song in songs[1:]:
    run(song)
used, took = cpu() - before, time.monotonic() - begun
stopping.set()
database.close()
count = len(songs) - 1
print(json.dumps({"cpu": used / count, "seconds": took / count, "first": before - started}))
"""


def one(kind: str, songs: list[Path]) -> dict[str, float]:
    """All songs in a fresh process and folder: processor seconds and seconds a song, without the first."""
    with tempfile.TemporaryDirectory() as name:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("IRONCLAD_")}
        environ |= {"IRONCLAD_DATA_DIR": f"{name}/data", "IRONCLAD_DISK__MIN_FREE_BYTES": "1000000"}
        done = subprocess.run(
            [sys.executable, "-c", ROUND, kind, name, *map(str, songs)],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def main() -> int:
    """Measure in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--songs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0)
    wanted = parser.parse_args()
    from ironclad.audio import synth  # noqa: PLC0415 - after the arguments: --help is quick

    with tempfile.TemporaryDirectory() as name:
        songs = []
        for number in range(wanted.songs + 1):
            songs.append(Path(name) / f"song{number}.flac")
            made = synth.short_song(wanted.seconds, number)
            tags = synth.Tags(title=f"Song {number}", artist="Bench", album="Signals", track=number + 1, total=9)
            synth.write_song(songs[-1], made.mixture, tags, rate=made.rate)
        found: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
        for number in range(wanted.rounds):
            for kind in ("with", "without") if number % 2 else ("without", "with"):
                found[kind].append(one(kind, songs))
    cpu = {kind: statistics.median(each["cpu"] for each in runs) for kind, runs in found.items()}
    seconds = statistics.median(each["seconds"] for each in found["with"])
    pairs = [a["cpu"] / b["cpu"] - 1 for a, b in zip(found["with"], found["without"], strict=True)]
    first = [statistics.median(each["first"] for each in found[kind]) for kind in ("with", "without")]
    print(
        f"{wanted.rounds} rounds of {wanted.songs} songs of {wanted.seconds:g} s: {cpu['with']:.3f} CPU-s a song with, "
        f"{cpu['without']:.3f} without; overhead {cpu['with'] / cpu['without'] - 1:+.1%} of the medians "
        f"({min(pairs):+.1%} to {max(pairs):+.1%} in pairs); {seconds:.1f} s a song, scraped every second; "
        f"the first song of a process {first[0]:.3f} and {first[1]:.3f}"
    )
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
