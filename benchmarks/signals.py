"""What metrics, logs and health cost: processor time of songs with them and without, in turn, in one process.

Songs run inline through the whole pipeline, one after the other, in the order without, with, with, without, … so that
what a machine does beside falls on both. With: the log and the jobs' logs are written, a scrape of the dispatcher's
and a worker's metrics comes every 5 s (Prometheus comes every 15), the probes look as often as in a service.
Without: log level ERROR, no job log, no scrape, no probe. The songs of the first round are not counted: a service
connects, compiles its statements and probes for the first time once in its life, not once a song. Processor time is
that of the process and of all children, the sandbox's included. Prints the ratio of the sums.

    python benchmarks/signals.py [--rounds 30] [--seconds 12]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUND = """
import json, os, resource, sys, threading, time
from pathlib import Path
from ironclad import log
from ironclad.config import load
from ironclad.cli.queueing import Found, Wishes, queue
from ironclad.db import schema
from ironclad.db.session import Database
from ironclad.engines.registry import installed_engines
from ironclad.jobs import lease
from ironclad.ops.engine_hosts import EngineHostReader
from ironclad.ops.health import HealthBoard
from ironclad.ops.metrics import Metrics
from ironclad.ops.probes import GOOD, DiskProbe, EngineProbe, Prober, descriptors
from ironclad.ops.queue_metrics import QueueReader
from ironclad.stages import runner

folder, songs = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
settings = load()
settings.layout.create()
database = Database.open(settings)
schema.ensure(database)
stopping, active = threading.Event(), threading.Event()
stream = (folder / "log").open("w")
metrics, worker = Metrics("dispatch"), Metrics("worker-cpu")
QueueReader(database, metrics, lag_seconds=0)
EngineHostReader(worker, lambda: {spec.entry: spec.name for spec in installed_engines()})
write = log.JobLog.write
log.JobLog.write = lambda self, **event: write(self, **event) if active.is_set() else None
scrapes = 0

def scrape():
    global scrapes
    while True:
        if active.is_set():
            metrics.render()
            worker.render()
            scrapes += 1
        if stopping.wait(5.0):
            return

def gated(probe):
    return lambda: probe() if active.is_set() else GOOD

def switch(signals):
    (active.set if signals else active.clear)()
    log.configure(service="worker-cpu", level="INFO" if signals else "ERROR", stream=stream, human=False, burst=100)

def cpu():
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ticks = 0  # of children that live, and of theirs: the sandbox's fork server has those that looked at the songs
    for listed in Path("/proc/self/task").glob("*/children"):
        for pid in listed.read_text().split():
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime + ticks / os.sysconf("SC_CLK_TCK")

def run(song):
    job = queue(database, settings, Wishes(), Found(song, song.name)).job_uuid
    with database.session() as session:
        claim = lease.claim(session, job, 1, worker="bench", lease_seconds=30)
    assert claim is not None
    outcome = runner.run_claim(database, settings, claim, worker="bench")
    assert outcome.state == "succeeded", outcome

switch(True)
probes = {"storage": DiskProbe(settings), "engine": EngineProbe(settings), "file descriptors": descriptors}
Prober(HealthBoard(), {name: gated(probe) for name, probe in probes.items()}).start(stopping)
threading.Thread(target=scrape, daemon=True).start()
used, begun = [], time.monotonic()
for number, song in enumerate(songs):
    switch(number % 4 in (1, 2))
    before = cpu()
    run(song)
    used.append(cpu() - before)
stopping.set()
database.close()
print(json.dumps({"cpu": used, "seconds": (time.monotonic() - begun) / len(songs), "scrapes": scrapes}))
"""


def main() -> int:
    """Measure in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="of a song without and one with")
    parser.add_argument("--seconds", type=float, default=12.0, help="of music in each song")
    wanted = parser.parse_args()
    from ironclad.audio import synth  # noqa: PLC0415 - after the arguments: --help is quick

    with tempfile.TemporaryDirectory() as name:
        songs = []
        for number in range(2 * wanted.rounds + 2):
            songs.append(Path(name) / f"song{number}.flac")
            made = synth.short_song(wanted.seconds, number)
            tags = synth.Tags(
                title=f"Song {number}", artist="Bench", album="Signals", track=number + 1, total=len(songs)
            )
            synth.write_song(songs[-1], made.mixture, tags, rate=made.rate)
        environ = {key: value for key, value in os.environ.items() if not key.startswith("IRONCLAD_")}
        environ |= {"IRONCLAD_DATA_DIR": f"{name}/data", "IRONCLAD_DISK__MIN_FREE_BYTES": "1000000"}
        done = subprocess.run(
            [sys.executable, "-c", ROUND, name, *map(str, songs)],
            env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.splitlines()[-1])
    counted = list(enumerate(found["cpu"]))[2:]
    cost = [used for number, used in counted if number % 4 in (1, 2)]
    free = [used for number, used in counted if number % 4 not in (1, 2)]
    assert len(cost) == len(free) == wanted.rounds
    pairs = sorted(a / b - 1 for a, b in zip(cost, free, strict=True))
    low, _, high = statistics.quantiles(pairs, n=4)
    print(
        f"{wanted.rounds} songs of {wanted.seconds:g} s each: {statistics.fmean(cost):.3f} CPU-s a song with, "
        f"{statistics.fmean(free):.3f} without; overhead {sum(cost) / sum(free) - 1:+.1%} of the sums, "
        f"{statistics.median(cost) / statistics.median(free) - 1:+.1%} of the medians (half of the pairs between "
        f"{low:+.1%} and {high:+.1%}); {found['seconds']:.1f} s a song; {found['scrapes']} scrapes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
