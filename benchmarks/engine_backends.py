"""The back ends of Demucs and Spleeter side by side: the same networks and samples, one after the other.

    .venv/bin/python benchmarks/engine_backends.py --data-dir DIR [--threads 2] [--repeats 3]

DIR is a data folder in which the engines are installed and their models converted (`make engines-real` leaves one in
`engines-data`). Prints megabytes of each environment, and for each back end the seconds to load, wall and processor
seconds per second of music (the least of several runs), and its peak of memory. Each runs in a process of its own, with
its environment's interpreter. Not part of `make bench`: it needs weights. Say so where other work ran beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
DEMUCS = ("pytorch", "onnxruntime", "openvino")
OVERLAP = 0.25
SPLEETER_SECONDS = 60
LIMIT_SECONDS = 900


def environments(data: Path, engine: str) -> dict[str, Path]:
    """Every environment of an engine that is complete, by what it runs."""
    found: dict[str, Path] = {}
    for folder in sorted((data / "engines" / engine).glob("*.*/bin/python")):
        packages = {
            path.name.partition("-")[0] for path in folder.parents[1].glob("lib/python*/site-packages/*.dist-info")
        }
        for name, package in (("pytorch", "torch"), ("tensorflow", "tensorflow"), ("light", "onnxruntime")):
            if package in packages:
                found.setdefault(name, folder.parents[1])
                break
    return found


def megabytes(folder: Path) -> float:
    """What a folder takes on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 1e6


def measured(environment: Path, data: Path, case: str, threads: int, repeats: int) -> dict[str, float]:
    """Run one case in its environment."""
    paths = [REPOSITORY, *(REPOSITORY / "plugins").glob("*/src")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("IRONCLAD_", "PYTHON"))}
    environ = {**clean, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(map(str, paths))}
    words = [str(environment / "bin/python"), __file__, "--data-dir", str(data), "--case", case]
    done = subprocess.run(
        [*words, "--repeats", str(repeats)], env=environ, capture_output=True, text=True, check=False,
        timeout=LIMIT_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def inside(data: Path, case: str, repeats: int) -> dict[str, float]:
    """One case, in the engine's environment."""
    engine, _, backend = case.partition(":")
    began = time.perf_counter()
    run, seconds = demucs(data, backend) if engine == "demucs" else spleeter(data, backend)
    loaded = time.perf_counter() - began
    run()
    walls, processor = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append((time.perf_counter() - wall) / seconds)
        processor.append((time.process_time() - cpu) / seconds)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"load": loaded, "wall": min(walls), "processor": min(processor), "peak_mb": peak * 1024 / 1e6}


def demucs(data: Path, backend: str) -> tuple[Any, float]:
    """One segment of htdemucs, and the seconds of music that it is good for."""
    from ironclad_engine_demucs import backends, reference  # noqa: PLC0415  # only in the engine's environment

    loaded = backends.load(backend, data / "models/demucs/htdemucs", "htdemucs")
    (network,) = loaded.networks
    mixture = reference.mixture(network)[None]
    return lambda: network(mixture), float(network.segment) * (1 - OVERLAP)


def spleeter(data: Path, backend: str) -> tuple[Any, float]:
    """A minute of noise through 2stems."""
    import numpy as np  # noqa: PLC0415  # as above
    from ironclad_engine_spleeter import graphs, reference, spectra  # noqa: PLC0415
    from ironclad_engine_spleeter.recipes import RECIPES  # noqa: PLC0415

    class Reader:
        channels, frames = 2, SPLEETER_SECONDS * 44100
        wave = (np.random.default_rng(0).standard_normal((2, SPLEETER_SECONDS * 44100)) * 0.1).astype(np.float32)

        def read(self, start: int, count: int) -> Any:
            return self.wave[:, start : start + count]

    folder, stems = data / "models/spleeter/2stems", RECIPES["2stems"].stems
    if backend == "tensorflow":
        whole = reference.Reference(folder, "2stems")
        return lambda: whole.separate(Reader.wave, "11kHz", wiener=False), SPLEETER_SECONDS
    networks = graphs.Networks(graphs.files(folder, stems) or [])
    return lambda: sum(1 for _ in spectra.separate(Reader(), stems, networks, 1024)), SPLEETER_SECONDS


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", default="")
    options = parser.parse_args()
    data = options.data_dir.absolute()
    if options.case:
        print(json.dumps(inside(data, options.case, options.repeats)))
        return
    there = {engine: environments(data, engine) for engine in ("demucs", "spleeter")}
    for engine, found in there.items():
        for name, folder in found.items():
            print(f"{engine} {name:12} {megabytes(folder):7.0f} MB")
    full, light = there["demucs"].get("pytorch"), there["spleeter"].get("light")
    cases = [(f"demucs:{name}", full) for name in DEMUCS] + [("spleeter:onnxruntime", light)]
    cases.insert(-1, ("spleeter:tensorflow", there["spleeter"].get("tensorflow")))
    first: dict[str, dict[str, float]] = {}
    print(f"{options.threads} threads; load average {os.getloadavg()[0]:.1f}", flush=True)
    for case, folder in cases:
        if folder is None:
            print(f"{case:22} not installed")
            continue
        got = measured(folder, data, case, options.threads, options.repeats)
        base = first.setdefault(case.partition(":")[0], got)
        ratios = " ".join(f"{got[part] / base[part]:.2f}" for part in ("wall", "processor"))
        numbers = f"wall {got['wall']:.3f}  processor {got['processor']:.3f} s a second"
        print(f"{case:22} load {got['load']:5.1f} s  {numbers}  {got['peak_mb']:6.0f} MB  ratio {ratios}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
