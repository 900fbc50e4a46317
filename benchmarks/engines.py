"""Ironclad against the stock Demucs: the same songs, network, overlap and shifts, one after the other on this machine.

    .venv/bin/python benchmarks/engines.py WEIGHTS --data-dir DIR [--songs 10] [--seconds 30] [--jobs 2] [--backend B]
    .venv/bin/python benchmarks/engines.py --memory [--minutes 60] [--rate 44100]

WEIGHTS is a folder as `demucs --repo` takes it; DIR is a data folder in which `ironclad engines install demucs` ran.
Prints wall and processor seconds of both, their ratios, what of Ironclad's is which stage, how often the model was
loaded, and Ironclad's wall time against the time that engines were at work. `--memory` needs neither: it sends 3
minutes and then so many through the built-in engine and prints the peaks of host and client. Not part of `make bench`:
it needs weights and PyTorch, and takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.hosts import Ears, LocalHosts, Order
from ironclad.engines.plan import plan
from ironclad.engines.pool import HostPool
from ironclad.engines.separation import SeparationRequest, resolved

RATE = 44_100
MIB = 1 << 20
SHORT_MINUTES = 3.0


def song(path: Path, seconds: float, seed: int) -> Path:
    """A song of noise through slow envelopes: what is in it does not change how long it takes."""
    frames = int(seconds * RATE)
    noise = np.random.default_rng(seed).standard_normal((frames, 2)).astype(np.float32) * 0.1
    swell = (1 + np.sin(np.arange(frames)[:, None] / RATE)).astype(np.float32)
    soundfile.write(path, noise * swell, RATE, subtype="PCM_16")
    return path


def timed(command: list[str], environ: dict[str, str], deadline: float) -> tuple[float, float, str]:
    """Wall seconds, processor seconds of all its processes, and standard output. Stops the run if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=max(1.0, deadline - time.monotonic())
    )
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def separated(data_dir: Path, job: str) -> dict[str, Any]:
    """What a job's log says of its separation."""
    lines = (data_dir / "logs/jobs" / f"{job}.jsonl").read_text(encoding="utf-8").splitlines()
    return next(entry for entry in map(json.loads, lines) if entry["event"] == "separated")


def compare(options: argparse.Namespace) -> None:
    """Both over the same songs."""
    deadline = time.monotonic() + options.limit
    pointer = options.data_dir / "engines/demucs/current.json"
    python = str(pointer.parent / json.loads(pointer.read_text(encoding="utf-8"))["folder"] / "bin/python")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IRONCLAD_")}
    ours = {
        **clean,
        "IRONCLAD_DATA_DIR": str(options.data_dir.absolute()),
        "IRONCLAD_POOLS": json.dumps({"cpu": {"slots": options.jobs}}),
        "IRONCLAD_ENGINE__NAME": "demucs",
        "IRONCLAD_ENGINE__PARAMETERS": json.dumps({"backend": options.backend} if options.backend else {}),
    }
    stock = {**clean, "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    with tempfile.TemporaryDirectory() as folder:
        files = [str(song(Path(folder, f"song{i}.wav"), options.seconds, i)) for i in range(options.songs)]
        print(
            f"{options.songs} songs of {options.seconds:g} s, load average before {os.getloadavg()[0]:.1f}", flush=True
        )
        command = [python, "-m", "demucs", "-n", "htdemucs", "--repo", str(options.weights), "--shifts", "0"]
        wall, cpu, _ = timed([*command, "--two-stems", "vocals", "-o", f"{folder}/stock", *files], stock, deadline)
        print(f"stock     {wall:6.1f} s wall {cpu:6.1f} s processor", flush=True)
        command = [sys.executable, "-m", "ironclad.cli.main", "process", "-f", "wav", "--force"]
        words = ["-o", f"{folder}/ours", "--json", "--jobs", str(options.jobs)]
        mine, mine_cpu, text = timed([*command, *words, *files], ours, deadline)
        print(f"ironclad  {mine:6.1f} s wall {mine_cpu:6.1f} s processor")
        print(f"ratio     {mine / wall:6.2f}        {mine_cpu / cpu:6.2f}")
        receipts = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder, "ours").glob("*.json")]
        jobs = json.loads(text)["jobs"]
        assert len(receipts) == len(jobs) == options.songs
        parts = {
            name: sum(receipt["seconds"].get(name, 0.0) for receipt in receipts) for name in receipts[0]["seconds"]
        }
        print("of which  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items()))
        said = [separated(options.data_dir, receipt["job_uuid"]) for receipt in receipts]
        working = sum(entry["engine_seconds"] for entry in said)
        print(f"loaded    {sum(not entry['warm'] for entry in said)} times for {options.songs} songs")
        print(f"engines at work {working:.1f} s; wall times jobs over that: {mine * options.jobs / working:.2f}")


def memory(options: argparse.Namespace) -> None:
    """Peaks of host and client, a short recording against a long one."""
    (spec,) = ironclad_engines()
    peaks: list[int] = []
    with tempfile.TemporaryDirectory() as folder, LocalHosts(HostPool()) as hosts:
        for minutes in (SHORT_MINUTES, options.minutes):
            source, out = Path(folder, "mix.f32"), Path(folder, f"out{minutes:g}")
            out.mkdir()
            second = np.random.default_rng(0).uniform(-0.5, 0.5, (options.rate, 2)).astype("<f4").tobytes()
            with source.open("wb") as stream:
                for _ in range(int(minutes * 60)):
                    stream.write(second)
            request = SeparationRequest(
                input=source, frames=int(minutes * 60) * options.rate, channels=2, rate=options.rate, output=out
            )
            began = time.perf_counter()
            result = hosts.separate(Order(plan=plan(spec), request=resolved(spec, "", request)), Ears())
            wall = time.perf_counter() - began
            client = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            peaks.append(result.used.peak_rss + client)
            print(
                f"{minutes:g} min at {options.rate} Hz: {wall:.1f} s, host {result.used.peak_rss / MIB:.1f} MiB, "
                f"client {client / MIB:.1f} MiB", flush=True,
            )  # fmt: skip
            for stem in result.stems.values():
                assert stem.frames == request.frames
                stem.path.unlink()
    print(f"ratio     {peaks[1] / peaks[0]:.3f}")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--songs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--backend", default="")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which it gives up")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=RATE)
    options = parser.parse_args()
    if options.memory:
        memory(options)
    elif options.weights is None or options.data_dir is None:
        parser.error("WEIGHTS and --data-dir are needed")
    else:
        compare(options)


if __name__ == "__main__":
    main()
