"""Peak memory of an engine's host and its client, short recordings against long ones.

    .venv/bin/python benchmarks/engine_memory.py [--minutes 3 60]
    .venv/bin/python benchmarks/engine_memory.py --data-dir DIR --engine spleeter [--minutes 3 60]
    .venv/bin/python benchmarks/engine_memory.py --data-dir DIR --engine demucs --tiny --minutes 3 60
    .venv/bin/python benchmarks/engine_memory.py --data-dir DIR --engine demucs --tiny --rate 1000 --minutes 3 600

Without --engine it is the built-in one, which needs nothing. DIR is a data folder in which the engine is installed and
its model converted (`make engines-real` leaves one); `--tiny` takes a small random network, of 8 kHz, made in the
engine's environment and removed afterwards: streaming, overlap-add and files are the same, the networks cost little.
Files of noise are made in the temporary folder: 12 bytes a sample and channel, with all of Demucs' stems 20.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ironclad.config import load
from ironclad.engines import choice, environments
from ironclad.engines.builtin import ironclad_engines
from ironclad.engines.hosts import Ears, LocalHosts, Order
from ironclad.engines.models import ModelStore
from ironclad.engines.plan import HostPlan, plan
from ironclad.engines.pool import HostPool
from ironclad.engines.separation import HostSettings, SeparationRequest, resolved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.engines.contract import EngineSpec

RATE = 44_100
TINY_RATE = 8_000
MIB = 1 << 20
TINY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fractions import Fraction
import tiny
from demucs.htdemucs import HTDemucs
rate = int(sys.argv[3])
network = HTDemucs(**{**tiny.TINY, "samplerate": rate, "segment": Fraction(8000, rate)})
tiny.write_safetensors(Path(sys.argv[2]), tiny.stirred(network, 1))
"""
PLUGIN_TESTS = Path(__file__).resolve().parents[1] / "plugins/ironclad-engine-demucs/tests"


@contextlib.contextmanager
def tiny_model(data: Path, rate: int) -> Iterator[str]:
    """A small network in the store, for segments of 8000 samples."""
    layout = load({"data_dir": data}, {}).layout
    built = environments.current(layout, "demucs")
    if built is None:
        raise SystemExit(f"demucs is not installed in {data}")
    store = ModelStore(layout)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tiny0001.safetensors")
        subprocess.run([built.interpreter, "-I", "-c", TINY, str(PLUGIN_TESTS), str(file), str(rate)], check=True)
        command = [sys.executable, "-m", "ironclad.cli.main", "models", "import", "demucs", "tiny", str(file)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("IRONCLAD_")}
        environ = {**clean, "IRONCLAD_DATA_DIR": str(data)}
        words = ["--accept-licence", "--pin"]
        subprocess.run([*command, *words], check=True, env=environ, stdout=subprocess.DEVNULL)
    try:
        yield "tiny"
    finally:
        store.remove("demucs", "tiny")


def prepared(options: argparse.Namespace, model: str) -> tuple[EngineSpec, str, HostPlan]:
    """The engine, its model and how its host is run."""
    settings = HostSettings(threads=options.threads, stall_seconds=600)
    if options.engine == "center":
        (spec,) = ironclad_engines()
        return spec, "", plan(spec, settings=settings)
    layout = load({"data_dir": options.data_dir.absolute()}, {}).layout
    chosen = choice.of_job(layout, options.engine, {"model": model} if model else {})
    ready = choice.ready(layout, chosen)
    made = plan(
        chosen.spec, model=chosen.model, settings=settings, interpreter=ready.interpreter, model_folder=ready.folder
    )
    return chosen.spec, chosen.model, made


def mixture(path: Path, minutes: float, rate: int) -> int:
    """Noise; how many frames of it."""
    second = np.random.default_rng(0).uniform(-0.5, 0.5, (rate, 2)).astype("<f4").tobytes()
    with path.open("wb") as stream:
        for _ in range(int(minutes * 60)):
            stream.write(second)
    return int(minutes * 60) * rate


def measure(options: argparse.Namespace, model: str, rate: int) -> None:
    """One length after the other, on one warm host."""
    spec, name, host = prepared(options, model)
    peaks: list[int] = []
    with tempfile.TemporaryDirectory() as folder, LocalHosts(HostPool()) as hosts:
        for minutes in options.minutes:
            source, out = Path(folder, "mix.f32"), Path(folder, f"out{minutes:g}")
            out.mkdir()
            frames = mixture(source, minutes, rate)
            request = SeparationRequest(
                input=source, frames=frames, channels=2, rate=rate, output=out, stems=tuple(options.stems)
            )
            began = time.perf_counter()
            result = hosts.separate(Order(plan=host, request=resolved(spec, name, request)), Ears())
            wall = time.perf_counter() - began
            client = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            peaks.append(result.used.peak_rss + client)
            print(
                f"{minutes:g} min at {rate} Hz, {result.backend or 'numpy'}: {wall:.1f} s, "
                f"host {result.used.peak_rss / MIB:.1f} MiB, client {client / MIB:.1f} MiB, "
                f"{peaks[-1] / peaks[0]:.3f} of the first", flush=True,
            )  # fmt: skip
            for stem in result.stems.values():
                assert stem.frames == frames
                stem.path.unlink()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--engine", default="center")
    parser.add_argument("--tiny", action="store_true", help="Demucs with a small random network")
    parser.add_argument("--rate", type=int, default=TINY_RATE, help="Hz of the small network")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0, 60.0])
    parser.add_argument("--stems", nargs="*", default=[], help="write these alone")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.engine != "center" and options.data_dir is None:
        parser.error("--data-dir DIR is needed")
    rate = options.rate if options.tiny else RATE
    with tiny_model(options.data_dir.absolute(), rate) if options.tiny else contextlib.nullcontext("") as model:
        measure(options, model, rate)


if __name__ == "__main__":
    main()
