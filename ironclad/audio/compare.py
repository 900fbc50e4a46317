"""Compares signals: distortion ratio, lag and residual. Streaming, so that hour-long files fit in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ironclad.audio.levels import FLOOR_DB, decibels
from ironclad.audio.pcm import BLOCK_FRAMES, PcmFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Signal: TypeAlias = PcmFile | NDArray[np.floating[Any]]

CEILING_DB = -FLOOR_DB
"""What stands for plus infinity: an error of nothing."""
_ROUNDING = 2.0**-14
"""More than rounding to 16 bits with triangular dither changes a sample (1.5 steps)."""


def _shape(signal: Signal) -> tuple[int, int]:
    return (signal.frames, signal.channels) if isinstance(signal, PcmFile) else (signal.shape[0], signal.shape[1])


def _read(signal: Signal, start: int, stop: int) -> NDArray[np.float64]:
    data = signal.read(start, stop) if isinstance(signal, PcmFile) else signal[start:stop]
    return data.astype(np.float64)


def _pairs(one: Signal, *others: Signal) -> Iterator[list[NDArray[np.float64]]]:
    shape = _shape(one)
    for other in others:
        if _shape(other) != shape:
            raise ValueError(f"the signals differ in shape: {shape} and {_shape(other)}")
    for start in range(0, shape[0], BLOCK_FRAMES):
        yield [_read(signal, start, start + BLOCK_FRAMES) for signal in (one, *others)]


def sdr_db(reference: Signal, estimate: Signal) -> float:
    """Signal-to-distortion ratio, 10·log10 Σs²/Σ(s-ŝ)², over all channels of (frames, channels) signals.

    200 for equal signals, -200 for a silent reference with a different estimate. The plain ratio of the Sony Music
    Demixing challenge (Mitsufuji et al., 2022), not BSS Eval's. Raises ValueError for signals of different shape.
    """
    signal = error = 0.0
    for true, given in _pairs(reference, estimate):
        signal += float(np.square(true).sum())
        error += float(np.square(true - given).sum())
    return CEILING_DB if error <= 0 else min(CEILING_DB, decibels(signal / error))


def residual_db(mixture: Signal, parts: Sequence[Signal]) -> float:
    """How far the parts are from summing to the mixture: 10·log10 Σ(x-Σs)²/Σx², -200 for an exact sum."""
    total = rest = 0.0
    for mix, *stems in _pairs(mixture, *parts):
        total += float(np.square(mix).sum())
        rest += float(np.square(mix - sum(stems)).sum())
    if rest <= 0:
        return FLOOR_DB
    return decibels(rest / total) if total > 0 else CEILING_DB


def lag(reference: Signal, other: Signal, max_lag: int) -> int:
    """By how many frames `other` comes later than `reference` (negative: earlier), at most `max_lag`.

    The maximum of the cross-correlation of the channel sums, by FFT in overlapping blocks. 0 for silence, and for
    signals that are the same but for rounding.
    """
    frames = _shape(reference)[0]
    if _shape(other) == _shape(reference) and all(
        np.abs(one - two).max(initial=0.0) <= _ROUNDING for one, two in _pairs(reference, other)
    ):
        return 0
    correlation = np.zeros(2 * max_lag + 1)
    step = max(BLOCK_FRAMES, 4 * max_lag)
    size = 1 << (step + 2 * max_lag).bit_length()
    for start in range(0, frames, step):
        here = _read(reference, start, min(start + step, frames)).sum(axis=1)
        before = max(0, start - max_lag)
        there = _read(other, before, start + len(here) + max_lag).sum(axis=1)
        padded = np.concatenate([np.zeros(before - (start - max_lag)), there])
        spectrum = np.fft.rfft(padded, size) * np.conj(np.fft.rfft(here, size))
        correlation += np.fft.irfft(spectrum, size)[: 2 * max_lag + 1]
    return int(np.argmax(correlation)) - max_lag if np.any(correlation) else 0
