"""What metrics, logs and health cost: processor time of a song with them and without, in turn, in one run.

Each round runs one song inline through the whole pipeline in a process of its own: once with the log written to a file,
a scrape of the dispatcher's and a worker's metrics every second and the probes every three, and once without all that
(log level ERROR, no job log, no scrape, no probe). Prints the ratio of the medians.

    python benchmarks/signals.py [--rounds 7] [--seconds 30]
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

signals, song, folder = sys.argv[1] == "with", Path(sys.argv[2]), Path(sys.argv[3])
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
    metrics.render(), worker.render()
else:
    log.configure(service="worker-cpu", level="ERROR", stream=(folder / "log").open("w"), human=False)
    log.JobLog.write = lambda self, **event: None
job = queue(database, settings, Wishes(), Found(song, song.name)).job_uuid
with database.session() as session:
    claim = lease.claim(session, job, 1, worker="bench", lease_seconds=30)
assert claim is not None

def cpu():
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

def scrape():
    while not stopping.wait(1.0):
        metrics.render()
        worker.render()

before, begun = cpu(), time.monotonic()
if signals:
    Prober(board, probes).start(stopping)
    threading.Thread(target=scrape, daemon=True).start()
outcome = runner.run_claim(database, settings, claim, worker="bench")
stopping.set()
used, took = cpu() - before, time.monotonic() - begun
assert outcome.state == "succeeded", outcome
database.close()
print(json.dumps({"cpu": used, "seconds": took}))
"""


def one(kind: str, song: Path) -> dict[str, float]:
    """One song in a fresh process and folder."""
    with tempfile.TemporaryDirectory() as name:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("IRONCLAD_")}
        environ |= {"IRONCLAD_DATA_DIR": f"{name}/data", "IRONCLAD_DISK__MIN_FREE_BYTES": "1000000"}
        done = subprocess.run(
            [sys.executable, "-c", ROUND, kind, str(song), name],
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
    parser.add_argument("--seconds", type=float, default=30.0)
    wanted = parser.parse_args()
    from ironclad.audio import synth  # noqa: PLC0415 - after the arguments: --help is quick

    with tempfile.TemporaryDirectory() as name:
        song = Path(name) / "song.flac"
        made = synth.short_song(wanted.seconds, 1)
        tags = synth.Tags(title="Song", artist="Bench", album="Signals", track=1, total=1)
        synth.write_song(song, made.mixture, tags, rate=made.rate)
        found: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
        for number in range(wanted.rounds):
            for kind in ("with", "without") if number % 2 else ("without", "with"):
                found[kind].append(one(kind, song))
    cpu = {kind: statistics.median(each["cpu"] for each in runs) for kind, runs in found.items()}
    seconds = statistics.median(each["seconds"] for each in found["with"])
    pairs = [a["cpu"] / b["cpu"] - 1 for a, b in zip(found["with"], found["without"], strict=True)]
    print(
        f"{wanted.rounds} rounds of a song of {wanted.seconds:g} s: {cpu['with']:.3f} CPU-s with, {cpu['without']:.3f} "
        f"without; overhead {cpu['with'] / cpu['without'] - 1:+.1%} of the medians "
        f"({min(pairs):+.1%} to {max(pairs):+.1%} in pairs); {seconds:.1f} s a song, scraped every second"
    )
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
