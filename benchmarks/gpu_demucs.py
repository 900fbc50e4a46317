"""Demucs on a GPU: real-time factor, memory and batch size, for a clip and for a song of four minutes.

    ENVIRONMENT/bin/python benchmarks/gpu_demucs.py WEIGHTS [--song FILE.npy] [--device cuda:0] [--minutes 4]

ENVIRONMENT has torch (a CUDA build) and demucs 4.1.0; WEIGHTS is a folder as `demucs --repo` takes it. The song is
synthetic (noise through slow envelopes) unless `--song` names a float32 array `(2, samples)` at 44.1 kHz.
Prints one line of JSON for each batch size, and how far batched results are from those of one segment at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins/ironclad-engine-demucs/src")]
RATE = 44_100


@dataclass
class Song:
    """The mixture in memory, `(channels, frames)`."""

    wave: Any

    @property
    def channels(self) -> int:
        """Channels."""
        return int(self.wave.shape[0])

    @property
    def frames(self) -> int:
        """Samples per channel."""
        return int(self.wave.shape[1])

    def read(self, start: int, count: int) -> Any:
        """A part of it."""
        return self.wave[:, start : start + count]


def synthetic(seconds: float) -> Song:
    """Noise that swells and fades: what is in a song does not change how long it takes."""
    frames = int(seconds * RATE)
    noise = np.random.default_rng(0).standard_normal((2, frames)).astype(np.float32) * 0.1
    return Song(noise * (1 + np.sin(np.arange(frames) / RATE)).astype(np.float32))


def main() -> int:
    """Measure; 1 where there is no such device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--model", default="htdemucs")
    parser.add_argument("--song", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    options = parser.parse_args()

    import torch  # noqa: PLC0415  # after --help
    from ironclad_engine_demucs import streaming, weights  # noqa: PLC0415

    cuda = options.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        print("there is no CUDA device here", file=sys.stderr)
        return 1
    name = torch.cuda.get_device_name(options.device) if cuda else options.device
    began = time.perf_counter()
    networks, bag = weights.load_bag(options.weights, options.model)
    networks = [network.to(options.device) for network in networks]
    load = time.perf_counter() - began
    print(json.dumps({"device": name, "torch": torch.__version__, "model": options.model, "load_s": round(load, 2)}))
    songs = {"clip 6 s": synthetic(6.0), f"{options.minutes:g} min": synthetic(60 * options.minutes)}
    if options.song is not None:
        songs[options.song.name] = Song(np.load(options.song).astype(np.float32))

    def run(song: Song, batch: int) -> dict[str, Any]:
        plan = streaming.Plan(batch=batch, device=options.device)
        found = streaming.separate(networks, bag.weights, song, plan, statistics=streaming.measure(song))
        pieces: dict[str, list[Any]] = {}
        for _start, stems in found:
            for stem, block in stems.items():
                pieces.setdefault(stem, []).append(block)
        return {stem: np.concatenate(blocks, -1) for stem, blocks in pieces.items()}

    run(synthetic(8.0), 1)  # kernels are chosen and compiled at the first call
    for title, song in songs.items():
        single: dict[str, Any] = {}
        for batch in options.batches:
            if cuda:
                torch.cuda.reset_peak_memory_stats(options.device)
            began = time.perf_counter()
            try:
                made = run(song, batch)
            except RuntimeError as exc:  # out of memory: larger batches will not do better
                print(json.dumps({"song": title, "batch": batch, "error": str(exc).splitlines()[0][:120]}))
                torch.cuda.empty_cache()
                break
            seconds = time.perf_counter() - began
            single = single or made
            print(
                json.dumps(
                    {
                        "song": title, "batch": batch, "seconds": round(seconds, 2),
                        "real_time_factor": round(seconds * RATE / song.frames, 4),
                        "times_real_time": round(song.frames / RATE / seconds, 1),
                        "vram_mib": torch.cuda.max_memory_allocated(options.device) >> 20 if cuda else None,
                        "difference": float(max(np.abs(made[stem] - single[stem]).max() for stem in made)),
                    }
                )
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
