"""Ironclad against the stock Demucs and Spleeter: the same songs, networks and settings, one after the other here.

    .venv/bin/python benchmarks/engines.py --data-dir DIR --demucs FOLDER --spleeter FOLDER [--only demucs] [--parts]
        [--songs 10] [--seconds 30] [--long 4] [--jobs 2]

DIR is a data folder in which the engines are installed (Spleeter with TensorFlow too, for the stock command) and their
models converted: `make engines-real` leaves one. The folders hold the weights as the stock commands take them:
`demucs --repo FOLDER`, and `2stems/` with TensorFlow's checkpoint.

Prints wall and processor seconds of the stock command called once with all songs and once for each song, of
`ironclad process` with all songs (the mean of several turns after the one call and between the others: a machine is
not equally fast at all times), the ratios, and what of Ironclad's is which stage; with `--parts` also Ironclad's
other backends and one job at a time, so that it can be seen what each part gives; then one long song, its wall time
against the time that the engine was at work. Processor time is that of all processes, PostgreSQL's included. Not part
of `make bench`: it needs weights and takes minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from engine_backends import environments

RATE = 44_100
_PR_SET_CHILD_SUBREAPER = 36
_ORPHANS_SECONDS = 30.0
_PARTS = {
    "demucs": (("pytorch", 1), ("pytorch", 2), ("auto", 1)),
    "spleeter": (("auto", 1),),
}
"""Backend and jobs at a time."""


@dataclass(frozen=True)
class Cost:
    """Wall and processor seconds, and what was printed."""

    wall: float
    processor: float
    text: str = ""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.processor + other.processor, other.text)

    def __mul__(self, factor: float) -> Cost:
        return Cost(self.wall * factor, self.processor * factor, self.text)

    def against(self, other: Cost) -> str:
        """Both ratios."""
        return f"{self.wall / other.wall:6.2f}        {self.processor / other.processor:6.2f}"

    def __str__(self) -> str:
        return f"{self.wall:6.1f} s wall {self.processor:6.1f} s processor"


def song(path: Path, seconds: float, seed: int) -> Path:
    """A song of noise through slow envelopes: what is in it does not change how long it takes."""
    frames = int(seconds * RATE)
    noise = np.random.default_rng(seed).standard_normal((frames, 2)).astype(np.float32) * 0.1
    swell = (1 + np.sin(np.arange(frames)[:, None] / RATE)).astype(np.float32)
    soundfile.write(path, noise * swell, RATE, subtype="PCM_16")
    return path


def timed(command: list[str], environ: dict[str, str], deadline: float) -> Cost:
    """What a command takes with everything that it leaves behind (it is ours to reap). Stops the run if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=max(1.0, deadline - time.monotonic())
    )
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    until = time.monotonic() + _ORPHANS_SECONDS
    with contextlib.suppress(ChildProcessError):  # none is left
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, done.stdout)


class Bench:
    """One engine, its songs and where everything lies."""

    def __init__(self, engine: str, options: argparse.Namespace, folder: Path, deadline: float) -> None:
        self.engine = engine
        self._options = options
        self._folder = folder
        self._deadline = deadline
        self._clean = {name: value for name, value in os.environ.items() if not name.startswith("IRONCLAD_")}
        self._runs = 0

    def stock(self, files: list[str]) -> Cost:
        """The engine's own command."""
        self._runs += 1
        out = str(self._folder / f"stock{self._runs}")
        found = environments(self._options.data_dir, self.engine)
        framework = "pytorch" if self.engine == "demucs" else "tensorflow"
        if framework not in found:
            raise SystemExit(f"{self.engine} is not installed with {framework} in {self._options.data_dir}")
        python = str(found[framework] / "bin/python")
        environ = {**self._clean, "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
        if self.engine == "demucs":
            words = [python, "-m", "demucs", "-n", "htdemucs", "--repo", str(self._options.demucs.absolute())]
            words += ["--shifts", "0", "--two-stems", "vocals", "-o", out]
        else:
            environ |= {"MODEL_PATH": str(self._options.spleeter.absolute()), "TF_CPP_MIN_LOG_LEVEL": "3"}
            words = [python, "-m", "spleeter", "separate", "-p", "spleeter:2stems", "-o", out]
        return timed([*words, *files], environ, self._deadline)

    def ours(self, files: list[str], *, backend: str, jobs: int) -> tuple[Cost, list[dict[str, Any]]]:
        """`ironclad process`, and the receipts with what the jobs' logs say of the separation."""
        self._runs += 1
        out = self._folder / f"ours{self._runs}"
        environ = {
            **self._clean,
            "IRONCLAD_DATA_DIR": str(self._options.data_dir.absolute()),
            "IRONCLAD_POOLS": json.dumps({"cpu": {"slots": jobs}}),
            "IRONCLAD_ENGINE__NAME": self.engine,
            "IRONCLAD_ENGINE__PARAMETERS": json.dumps({"backend": backend}),
        }
        command = [sys.executable, "-m", "ironclad.cli.main", "process", "-f", "wav", "--force"]
        words = ["-o", str(out), "--json", "--jobs", str(jobs)]
        cost = timed([*command, *words, *files], environ, self._deadline)
        receipts = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.receipt.json"))]
        assert len(receipts) == len(json.loads(cost.text)["jobs"]) == len(files)
        for receipt in receipts:
            receipt["separated"] = self._separated(receipt["job_uuid"])
        return cost, receipts

    def _separated(self, job: str) -> dict[str, Any]:
        """What a job's log says of its separation."""
        path = self._options.data_dir / "logs/jobs" / f"{job}.jsonl"
        entries = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return next(entry for entry in entries if entry["event"] == "separated")


def album(bench: Bench, options: argparse.Namespace, folder: Path) -> None:
    """Many short songs, both ways."""
    files = [str(song(folder / f"song{i}.wav", options.seconds, i)) for i in range(options.songs)]
    load = os.getloadavg()[0]
    print(f"{bench.engine}: {options.songs} songs of {options.seconds:g} s, load average {load:.1f}", flush=True)
    together = bench.stock(files)
    print(f"stock, one call for all     {together}", flush=True)
    turns, each = [], Cost(0, 0)
    half = len(files) // 2
    for between in ([], []) if options.once else (files[:half], files[half:], []):
        mine, receipts = bench.ours(files, backend="auto", jobs=options.jobs)
        print(f"ironclad, {options.jobs} jobs            {mine}", flush=True)
        turns.append(mine)
        each = sum((bench.stock([file]) for file in between), each)
    mine = sum(turns, Cost(0, 0)) * (1 / len(turns))
    print(f"ironclad, mean              {mine}", flush=True)
    print(f"ratio to one call           {mine.against(together)}", flush=True)
    if not options.once:
        print(f"stock, a call for each song {each}", flush=True)
        print(f"ratio to those              {mine.against(each)}", flush=True)
    explain(receipts, turns[-1], options.jobs)
    for backend, jobs in _PARTS[bench.engine] if options.parts else ():
        cost, receipts = bench.ours(files, backend=backend, jobs=jobs)
        name = f"ironclad, {jobs} jobs, {receipts[0]['backend']}"
        print(f"{name:27} {cost}", flush=True)
        print(f"ratio to one call           {cost.against(together)}", flush=True)


def explain(receipts: list[dict[str, Any]], cost: Cost, jobs: int) -> None:
    """Where Ironclad's time went."""
    names = list(receipts[0]["seconds"])
    parts = {name: sum(receipt["seconds"].get(name, 0.0) for receipt in receipts) for name in names}
    print("of which                    " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items()))
    said = [receipt["separated"] for receipt in receipts]
    working = sum(entry["engine_seconds"] for entry in said)
    loaded, backends = sum(not entry["warm"] for entry in said), {receipt["backend"] for receipt in receipts}
    print(f"{', '.join(sorted(backends))}, loaded {loaded} times for {len(receipts)} songs")
    print(f"engines at work {working:.1f} s; wall times jobs over that: {cost.wall * jobs / working:.2f}", flush=True)


def long_song(bench: Bench, options: argparse.Namespace, folder: Path) -> None:
    """One song, all cores for the one host: wall time against the engine's own."""
    file = str(song(folder / "long.wav", options.long * 60, 0))
    cost, (receipt,) = bench.ours([file], backend="auto", jobs=1)
    at_work, job = receipt["separated"]["engine_seconds"], sum(receipt["seconds"].values())
    print(f"one song of {options.long:g} min  {cost}; the job {job:.1f} s, {receipt['backend']} {at_work:.1f} s")
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in receipt["seconds"].items())
    print(f"of which                    {stages}")
    print(f"job over engine             {job / at_work:.3f}; with starting and stopping {cost.wall / at_work:.3f}")
    if not options.once:
        stock = bench.stock([file])
        print(f"stock                       {stock}")
        print(f"ratio                       {cost.against(stock)}", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--demucs", type=Path, help="weights as `demucs --repo` takes them")
    parser.add_argument("--spleeter", type=Path, help="folder with 2stems/")
    parser.add_argument("--only", choices=("demucs", "spleeter"), action="append")
    parser.add_argument("--songs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--long", type=float, default=4.0, help="minutes of the one long song; 0 for none")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--once", action="store_true", help="leave out the stock command called for each song")
    parser.add_argument("--parts", action="store_true", help="Ironclad's slower ways too")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which it gives up")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    deadline = time.monotonic() + options.limit
    for engine in options.only or ("demucs", "spleeter"):
        if getattr(options, engine) is None:
            parser.error(f"--{engine} FOLDER is needed")
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(engine, options, Path(folder), deadline)
            if options.songs:
                album(bench, options, Path(folder))
            if options.long:
                long_song(bench, options, Path(folder))


if __name__ == "__main__":
    main()
