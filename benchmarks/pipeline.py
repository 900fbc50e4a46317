"""Songs a minute through the whole installation, and what an idle one costs.

Starts `ironclad up` on a temporary folder, measures memory and processor time while nothing happens, drops fifty
ten-second songs at once, and waits until all are published. The first song is not counted: it warms the worker.

    python benchmarks/pipeline.py [--songs 50] [--seconds 10] [--idle 60] [--idle-only] [--processes] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from installation import Installation

from ironclad.audio import synth

_SETTLE_SECONDS = 10


def write_songs(folder: Path, count: int, seconds: float) -> list[Path]:
    """Tagged FLAC songs, each different."""
    folder.mkdir()
    songs = []
    for number in range(1, count + 1):
        path = folder / f"{number:03d}.flac"
        song = synth.short_song(seconds, number)
        tags = synth.Tags(title=f"Song {number}", artist="Bench", album="Fifty", track=number, total=count)
        synth.write_song(path, song.mixture, tags, rate=song.rate, cover=synth.cover_art(1, 64))
        songs.append(path)
    return songs


def everything(up: Installation) -> list[psutil.Process]:
    """All processes of the installation, PostgreSQL's included."""
    found = up.processes()
    server = up.server.pid()
    if server is not None:
        leader = psutil.Process(server)
        found += [leader, *leader.children(recursive=True)]
    return list({process.pid: process for process in found}.values())


def what_it_is(process: psutil.Process) -> str:
    """A process's command line, without options and folders."""
    words = process.cmdline()
    return " ".join(Path(word).name for word in words if not word.startswith("-"))[:60] or process.name()


def cpu_seconds(up: Installation) -> dict[int, float]:
    """Processor seconds of each process so far, with those of the children that it has outlived.

    So a process of PostgreSQL that answers one question and ends is counted too. The sum over all never counts anything
    twice: what a process used moves to its parent when it ends.
    """
    return {process.pid: sum(process.cpu_times()[:4]) for process in everything(up)}


def idle(up: Installation, seconds: float) -> dict[str, Any]:
    """Memory and processor use while nothing happens, of all processes and of each, the largest first.

    Memory is in MB: all that a process has mapped (RSS), with its share of what is shared (PSS), its own (USS).
    """
    before, begun = cpu_seconds(up), time.monotonic()
    time.sleep(seconds)
    after, elapsed = cpu_seconds(up), time.monotonic() - begun
    each = []
    for process in everything(up):
        memory = process.memory_full_info()
        used = after.get(process.pid, 0.0) - before.get(process.pid, 0.0)
        each.append({
            "pid": process.pid, "what": what_it_is(process), "cpu_percent_of_a_core": round(100 * used / elapsed, 2),
            "rss_mb": memory.rss / 1e6, "pss_mb": memory.pss / 1e6, "uss_mb": memory.uss / 1e6,
        })  # fmt: skip
    return {
        "processes": len(each),
        "rss_mb": round(sum(one["rss_mb"] for one in each)),
        "pss_mb": round(sum(one["pss_mb"] for one in each)),
        "cpu_percent_of_a_core": round(100 * (sum(after.values()) - sum(before.values())) / elapsed, 2),
        "by_process": sorted(each, key=lambda one: -float(one["pss_mb"])),
    }


def throughput(up: Installation, songs: list[Path]) -> dict[str, Any]:
    """Drop all songs at once; jobs a minute from the drop to the last publication."""
    up.drop(songs[0])
    up.settled(1, 120)
    before, begun = cpu_seconds(up), time.monotonic()
    for song in songs[1:]:
        up.drop(song, folder="Fifty")
    states = up.settled(len(songs), 1200)
    elapsed = time.monotonic() - begun
    assert states == {"succeeded": len(songs)}, states
    (row,) = up.rows(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - started_at)) AS median "
        "FROM job WHERE state = 'succeeded'"
    )
    services = sum(cpu_seconds(up).values()) - sum(before.values())
    return {
        "songs": len(songs) - 1, "seconds": round(elapsed, 1),
        "jobs_per_minute": round(60 * (len(songs) - 1) / elapsed, 1),
        "median_job_seconds": round(float(row.median), 2),
        "services_cpu_seconds_per_job": round(services / (len(songs) - 1), 2),
    }  # fmt: skip


def main() -> int:
    """Run both measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--idle-only", action="store_true", help="drop no songs")
    parser.add_argument("--processes", action="store_true", help="show what each process holds while idle")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        songs = [] if wanted.idle_only else write_songs(folder / "songs", wanted.songs + 1, wanted.seconds)
        # The machine's own defaults, apart from ports and a short wait for whole files.
        up = Installation(
            folder / "data", {"IRONCLAD_POOLS__CPU__SLOTS": None, "IRONCLAD_PREFECT__QUERY_SECONDS": None}
        )
        begun = time.monotonic()
        with up:
            figures: dict[str, Any] = {"ready_seconds": round(time.monotonic() - begun, 1)}
            time.sleep(_SETTLE_SECONDS)
            figures["idle"] = idle(up, wanted.idle)
            if songs:
                figures["throughput"] = throughput(up, songs)
                figures["idle_after"] = idle(up, wanted.idle)
    if wanted.json:
        print(json.dumps(figures, indent=2))
        return 0
    print(f"ready after {figures['ready_seconds']} s")
    for when in [name for name in ("idle", "idle_after") if name in figures]:
        print(
            f"{when}: {figures[when]['processes']} processes, RSS {figures[when]['rss_mb']} MB (shared pages counted "
            f"in each process), PSS {figures[when]['pss_mb']} MB, {figures[when]['cpu_percent_of_a_core']} % of a core"
        )
        for one in figures[when]["by_process"] if wanted.processes else []:
            print(
                f"  {one['rss_mb']:6.1f} RSS {one['pss_mb']:6.1f} PSS {one['uss_mb']:6.1f} USS MB "
                f"{one['cpu_percent_of_a_core']:5.2f} %  {one['what']}"
            )
    if "throughput" not in figures:
        return 0
    done = figures["throughput"]
    print(
        f"{done['songs']} songs of {wanted.seconds:g} s: {done['seconds']} s, {done['jobs_per_minute']} jobs a minute, "
        f"median {done['median_job_seconds']} s a job, services {done['services_cpu_seconds_per_job']} CPU-s a job"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
