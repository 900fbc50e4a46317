"""A cheap guess whether a recording is speech: enough to warn that an audiobook is about to be separated.

Three features of E. Scheirer and M. Slaney, "Construction and evaluation of a robust multifeature speech/music
discriminator", ICASSP 1997, taken on 20 ms windows of the front pair's sum:

* low-energy windows: the share whose RMS is below half the mean RMS of its second (speech pauses, music seldom does);
* modulation around 4 Hz, the rate of syllables, here as depth: the energy of the RMS curve between 2 and 8 Hz in two
  seconds, over the square of its sum;
* the variance of the spectral flux (2-norm of the difference of neighbouring normalised spectra up to 8 kHz): voiced
  and unvoiced sounds alternate.

Each is mapped linearly to 0..1 between what music and what speech showed, and the score is the smallest of the three:
drums alone pulse and pause like speech, but their spectra do not alternate like it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PER_SECOND = 50
_HIGHEST_HZ = 8000
_SILENT_RMS = 1e-4
_LOW_ENERGY = (0.10, 0.35)
_MODULATION = (0.02, 0.09)
_FLUX_VARIANCE = (0.04, 0.09)
_SYLLABLES_HZ = (2.0, 8.0)


class SpeechMeter:
    """Takes 20 ms windows of one channel, in order, and gives a score at the end."""

    def __init__(self, window: int) -> None:
        self._taper = np.hanning(window).astype(np.float32)
        self._bins = max(2, min(window // 2 + 1, _HIGHEST_HZ // _PER_SECOND))
        self._levels: list[NDArray[np.float32]] = []
        self._last: NDArray[np.float32] | None = None
        self._count = 0
        self._flux = 0.0
        self._flux_squares = 0.0

    def add(self, windows: NDArray[np.float32]) -> None:
        """Measure float32 (windows, samples)."""
        if not len(windows):
            return
        energy = np.einsum("ij,ij->i", windows, windows)
        self._levels.append(np.sqrt(energy / windows.shape[1]))
        spectra = np.abs(np.fft.rfft(windows * self._taper, axis=1)[:, : self._bins]).astype(np.float32)
        spectra /= np.maximum(np.sqrt(np.einsum("ij,ij->i", spectra, spectra)), 1e-9)[:, None]
        first = spectra[:1] if self._last is None else self._last
        steps = np.diff(spectra, axis=0, prepend=first)
        squares = np.einsum("ij,ij->i", steps, steps).astype(np.float64)
        self._count += len(squares)
        self._flux += float(np.sqrt(squares).sum())
        self._flux_squares += float(squares.sum())
        self._last = spectra[-1:]

    def score(self) -> float:
        """0 to 1; 0 for anything shorter than two seconds and for silence."""
        levels = np.concatenate(self._levels) if self._levels else np.zeros(0, np.float32)
        seconds = levels[: len(levels) // _PER_SECOND * _PER_SECOND].reshape(-1, _PER_SECOND).astype(np.float64)
        pairs = np.concatenate([seconds[:-1], seconds[1:]], axis=1)
        pairs = pairs[pairs.mean(axis=1) > _SILENT_RMS]
        if not len(pairs) or not np.isfinite(pairs).all():
            return 0.0
        variance = self._flux_squares / self._count - (self._flux / self._count) ** 2
        return min(
            _ramp(_low_energy(seconds), _LOW_ENERGY),
            _ramp(_modulation(pairs), _MODULATION),
            _ramp(variance, _FLUX_VARIANCE),
        )


def _low_energy(seconds: NDArray[np.float64]) -> float:
    means = seconds.mean(axis=1, keepdims=True)
    loud = means[:, 0] > _SILENT_RMS
    return float((seconds < 0.5 * means)[loud].mean()) if loud.any() else 0.0


def _modulation(pairs: NDArray[np.float64]) -> float:
    """Mean depth of the modulation at the rate of syllables, over windows of two seconds."""
    length = pairs.shape[1]
    curves = (pairs - pairs.mean(axis=1, keepdims=True)) * np.hanning(length)
    power = np.abs(np.fft.rfft(curves, axis=1)) ** 2
    rates = np.fft.rfftfreq(length, 1 / _PER_SECOND)
    band = (rates >= _SYLLABLES_HZ[0]) & (rates <= _SYLLABLES_HZ[1])
    return float((power[:, band].sum(axis=1) / pairs.sum(axis=1) ** 2).mean())


def _ramp(value: float, between: tuple[float, float]) -> float:
    low, high = between
    return float(min(1.0, max(0.0, (value - low) / (high - low))))
