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
_HEARD = 1e-4
"""Share of the energy that must be left after a filter."""


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


def lag(reference: Signal, other: Signal, max_lag: int, *, above: float = 0.0) -> int:
    """By how many frames `other` comes later than `reference` (negative: earlier), at most `max_lag`.

    The maximum of the cross-correlation of the mixed channels, by FFT in overlapping blocks. 0 for silence, and for
    signals that are the same but for rounding. `above` (a share of the sample rate) leaves what is lower out of
    account; where hardly anything (-40 dB) is higher, there is nothing to tell a lag by, and it is 0.
    """
    frames = _shape(reference)[0]
    if _shape(other) == _shape(reference) and all(
        np.abs(one - two).max(initial=0.0) <= _ROUNDING for one, two in _pairs(reference, other)
    ):
        return 0
    kernel = _high_pass(above) if above else None
    correlation = np.zeros(2 * max_lag + 1)
    step = max(BLOCK_FRAMES, 4 * max_lag)
    size = 1 << (step + 2 * max_lag).bit_length()
    energy = heard = 0.0
    for start in range(0, frames, step):
        stop = min(start + step, frames)
        here = _mixed(reference, start, stop)
        there = _mixed(other, start - max_lag, stop + max_lag, kernel)
        energy += float(np.square(here).sum())
        if kernel is not None:
            here = _mixed(reference, start, stop, kernel)
            heard += float(np.square(here).sum())
        spectrum = np.fft.rfft(there, size) * np.conj(np.fft.rfft(here, size))
        correlation += np.fft.irfft(spectrum, size)[: 2 * max_lag + 1]
    # One frame of shift costs at least 1 - cos(2π·above) of what is heard: what costs half of it is no shift.
    enough = correlation.max() * (1 + np.cos(2 * np.pi * above)) / 2
    if kernel is not None and (heard < _HEARD * energy or correlation[max_lag] >= enough):
        return 0
    return int(np.argmax(correlation)) - max_lag if np.any(correlation) else 0


def _mixed(signal: Signal, start: int, stop: int, kernel: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Frames `start` to `stop` in one channel, filtered; zeros where the signal has none."""
    margin = 0 if kernel is None else len(kernel) // 2
    first, last = start - margin, stop + margin
    frames, channels = _shape(signal)
    # Unequal weights: what is in opposite phase left and right, as music without its centre is, does not vanish.
    there = _read(signal, max(0, first), min(last, frames)) @ (1.0 / np.arange(1, channels + 1))
    padded = np.concatenate([np.zeros(max(0, -first)), there, np.zeros(max(0, last - max(frames, first)))])
    if kernel is None:
        return padded[: last - first]
    size = 1 << (len(padded) + len(kernel)).bit_length()
    filtered: NDArray[np.float64] = np.fft.irfft(np.fft.rfft(padded, size) * np.fft.rfft(kernel, size), size)
    return filtered[2 * margin : 2 * margin + stop - start]


def _high_pass(cutoff: float) -> NDArray[np.float64]:
    """A symmetric FIR filter (windowed sinc, Blackman: -74 dB) that shifts nothing; `cutoff` in cycles a sample."""
    taps = 2 * round(2.75 / cutoff) + 1
    at = np.arange(taps) - taps // 2
    low = 2 * cutoff * np.sinc(2 * cutoff * at) * np.blackman(taps)
    high: NDArray[np.float64] = -low / low.sum()
    high[taps // 2] += 1.0
    return high
