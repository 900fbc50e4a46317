"""The reference second: what every runtime must make the same of, before it may be chosen.

The mixture fills one segment of a network; the middle second of what comes out is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ironclad_engine_demucs.networks import Network

    Samples = NDArray[np.float32]

ENOUGH_DB: Final = 60.0
"""Least signal-to-noise ratio that a runtime is trusted with. Faithful ones have 70 to 120 dB, in bfloat16 or with
8-bit weights 34 to 54, and one that is wrong about 0."""
_BEATS_PER_SECOND: Final = 2
_SEED: Final = 1


def mixture(network: Network) -> Samples:
    """`(channels, frames)`: a drum, a bass, a chord and a voice with vibrato, the same ones on every machine."""
    rate = network.samplerate
    frames = int(rate * network.segment)
    time = np.arange(frames) / rate
    beat = time * _BEATS_PER_SECOND % 1
    rng = np.random.default_rng(_SEED)
    drum = (np.sin(2 * np.pi * 60 * beat) + 0.3 * rng.standard_normal(frames)) * np.exp(-12 * beat)
    bass = np.sin(2 * np.pi * 82.4 * time) + 0.5 * np.sin(2 * np.pi * 164.8 * time)
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (329.6, 415.3, 493.9))
    phase = 2 * np.pi * 220 * time + 3 * np.sin(2 * np.pi * 5.5 * time)
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 12)) * (0.5 + 0.5 * np.sin(3 * time))
    pans = np.linspace(0.35, 0.65, network.audio_channels)[:, None]
    mixed = 0.3 * drum + 0.15 * bass + 0.1 * pans * chord + 0.2 * voice
    return (mixed / np.std(mixed)).astype(np.float32)  # networks get recordings with a deviation of 1


def second(stems: Samples, rate: int) -> Samples:
    """The middle second (or all, of less) of `(stems, channels, frames)`."""
    start = max(0, stems.shape[-1] - rate) // 2
    return np.ascontiguousarray(stems[..., start : start + rate])


def agreement_db(truth: Samples, estimate: Samples) -> float:
    """Signal-to-noise ratio in dB; minus infinity for other shapes and for what is not finite."""
    if truth.shape != estimate.shape or not np.isfinite(estimate).all():
        return float("-inf")
    noise = float(np.square(truth.astype(np.float64) - estimate).sum())
    power = float(np.square(truth, dtype=np.float64).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(power / noise)) if power else float("-inf")
