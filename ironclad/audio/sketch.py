"""A recording in a few numbers: what a waveform and a spectrum of characters need."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ironclad.audio.decode import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ironclad.audio.info import AudioLimits

LOWEST_HZ: Final = 31.25
HIGHEST_HZ: Final = 16_000.0
FLOOR_DB: Final = -90.0
_WINDOW: Final = 8192
_WINDOWS: Final = 96
_TINY: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Sketch:
    """A recording, roughly."""

    seconds: float
    frames: int
    sample_rate: int
    """Hz."""
    peaks: tuple[float, ...]
    """Largest absolute sample of each of so many equal parts, 1.0 = full scale."""
    bands_db: tuple[float, ...]
    """Mean power of so many bands, equal on a logarithmic scale from `LOWEST_HZ` to `HIGHEST_HZ`, in dB."""


def sketch(path: Path, scratch: Path, limits: AudioLimits, *, parts: int = 60, bands: int = 30) -> Sketch:
    """Decode a file (in the sandbox: it may be anybody's) and measure it.

    Args:
        path: the file.
        scratch: an existing folder for its samples meanwhile.
        limits: of the decoder.
        parts: how many peaks.
        bands: how many bands.

    Raises what `decode` raises.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix="sketch-") as folder:
        raw = Path(folder) / "samples.f32"
        decoded = decode(path, raw, limits)
        samples = np.memmap(raw, np.dtype("<f4"), "r", shape=(decoded.frames, decoded.channels))
        try:
            return Sketch(
                decoded.frames / decoded.sample_rate, decoded.frames, decoded.sample_rate, _peaks(samples, parts),
                spectrum(samples, decoded.sample_rate, bands),
            )  # fmt: skip
        finally:
            del samples  # the map must go before its file


def _peaks(samples: NDArray[np.float32], parts: int) -> tuple[float, ...]:
    edges = np.linspace(0, len(samples), parts + 1).astype(int)
    return tuple(float(np.abs(samples[begin:end]).max()) if end > begin else 0.0 for begin, end in pairwise(edges))


def spectrum(samples: NDArray[np.float32], rate: int, bands: int) -> tuple[float, ...]:
    """Mean power in dB of `bands` logarithmic bands of float32 (frames, channels), by averaged periodograms.

    Hann windows of 8192 samples, evenly spread over the recording (Welch 1967, without their overlap); a sine of full
    scale is at 0 dB in its band.
    """
    window = np.hanning(_WINDOW)
    starts = np.unique(np.linspace(0, max(0, len(samples) - _WINDOW), _WINDOWS).astype(int))
    power = np.zeros(_WINDOW // 2 + 1)
    for start in starts:
        mono = samples[start : start + _WINDOW].mean(axis=1, dtype=np.float64)
        mono = np.pad(mono, (0, _WINDOW - len(mono)))
        power += np.abs(np.fft.rfft(mono * window)) ** 2
    power *= 4 / (len(starts) * window.sum() ** 2)
    frequencies = np.fft.rfftfreq(_WINDOW, 1 / rate)
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, bands + 1)
    levels = []
    for low, high in pairwise(edges):
        inside = (frequencies >= low) & (frequencies < high)
        total = power[inside].sum() if inside.any() else power[np.abs(frequencies - (low + high) / 2).argmin()]
        levels.append(max(FLOOR_DB, float(10 * np.log10(total + _TINY))))
    return tuple(levels)
