"""Ironclad against the stock Demucs: the same songs, network, overlap and shifts, one after the other on this machine.

    .venv/bin/python benchmarks/engines.py WEIGHTS --data-dir DIR [--songs 2] [--seconds 12]

WEIGHTS is a folder as `demucs --repo` takes it; DIR is a data folder in which `ironclad engines install demucs` ran.
Prints wall and processor seconds of both, their ratios, and what of Ironclad's is separation. Not part of `make bench`:
it needs weights and PyTorch. It stops after three minutes.
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

import numpy as np
import soundfile

RATE = 44_100
LIMIT_SECONDS = 180.0


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


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--songs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=12.0)
    options = parser.parse_args()
    deadline = time.monotonic() + LIMIT_SECONDS
    pointer = options.data_dir / "engines/demucs/current.json"
    python = str(pointer.parent / json.loads(pointer.read_text(encoding="utf-8"))["folder"] / "bin/python")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IRONCLAD_")}
    ours = {
        **clean,
        "IRONCLAD_DATA_DIR": str(options.data_dir.absolute()),
        "IRONCLAD_POOLS": '{"cpu": {"slots": 1}}',
    }
    stock = {**clean, "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    with tempfile.TemporaryDirectory() as folder:
        files = [str(song(Path(folder, f"song{i}.wav"), options.seconds, i)) for i in range(options.songs)]
        command = [python, "-m", "demucs", "-n", "htdemucs", "--repo", str(options.weights), "--shifts", "0"]
        wall, cpu, _ = timed([*command, "--two-stems", "vocals", "-o", f"{folder}/stock", *files], stock, deadline)
        print(f"stock     {wall:6.1f} s wall {cpu:6.1f} s processor")
        command = [sys.executable, "-m", "ironclad.cli.main", "process", "-e", "demucs", "-f", "wav", "--force"]
        words = ["-o", f"{folder}/ours", "--json", "--jobs", "1"]
        mine, mine_cpu, text = timed([*command, *words, *files], ours, deadline)
        print(f"ironclad  {mine:6.1f} s wall {mine_cpu:6.1f} s processor")
        print(f"ratio     {mine / wall:6.2f}        {mine_cpu / cpu:6.2f}")
        receipts = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder, "ours").glob("*.json")]
        assert len(receipts) == len(json.loads(text)["jobs"]) == options.songs
        parts = {
            name: sum(receipt["seconds"].get(name, 0.0) for receipt in receipts) for name in receipts[0]["seconds"]
        }
        print("of which  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items()))


if __name__ == "__main__":
    main()
