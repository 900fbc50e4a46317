"""Streaming measurements of a decoded signal: level, silence, width, and how much it resembles speech."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ironclad.audio.speech import SpeechMeter

if TYPE_CHECKING:
    from ironclad.audio.pcm import Block

WINDOW_SECONDS = 0.02
FLOOR_DB = -200.0
"""What stands for minus infinity."""
_SILENCE = 10 ** (-60 / 20)
_STEREO = 2


def decibels(power_ratio: float) -> float:
    """10·log10, with `FLOOR_DB` for anything at or below it."""
    return max(FLOOR_DB, 10 * math.log10(power_ratio)) if power_ratio > 0 else FLOOR_DB


@dataclass(frozen=True, slots=True)
class Levels:
    """The measurements of a whole signal."""

    peak: float
    """Largest absolute sample, 1.0 is full scale."""
    rms_dbfs: float
    """Root mean square over all channels, dB re full scale (a full-scale sine has -3.01)."""
    silence_fraction: float
    """Share of 20 ms windows whose samples all stay below -60 dBFS."""
    side_to_mid_db: float
    """Energy of (L-R)/2 over that of (L+R)/2 of the first two channels; -200 for mono and dual mono."""
    speech_score: float
    """0 (music) to 1 (speech): see `SpeechMeter`."""


def window_frames(sample_rate: int) -> int:
    """Frames of one of the windows that are measured."""
    return max(1, round(sample_rate * WINDOW_SECONDS))


class LevelMeter:
    """Takes float32 (frames, channels) blocks whose length is a multiple of `window` frames, except the last one's."""

    def __init__(self, channels: int, sample_rate: int) -> None:
        self.window = window_frames(sample_rate)
        """Frames of one window."""
        self._channels = channels
        self._speech = SpeechMeter(self.window)
        self._peak = 0.0
        self._energy = 0.0
        self._mid = 0.0
        self._side = 0.0
        self._frames = 0
        self._windows = 0
        self._silent = 0

    def add(self, block: Block) -> None:
        """Measure one block of finite samples."""
        if len(block):
            with np.errstate(over="ignore", invalid="ignore"):  # float files may hold absurd numbers
                self._measure(block)

    def _measure(self, block: Block) -> None:
        frames = len(block)
        whole = frames - frames % self.window
        flat = np.abs(block.reshape(-1))
        peaks = flat[: whole * self._channels].reshape(-1, self.window * self._channels).max(axis=1, initial=0.0)
        if whole < frames:
            peaks = np.append(peaks, flat[whole * self._channels :].max())
        self._peak = max(self._peak, float(peaks.max()))
        self._windows += len(peaks)
        self._silent += int(np.count_nonzero(peaks < _SILENCE))
        self._frames += frames
        self._energy += _energy(flat)
        if self._channels >= _STEREO:
            left, right = block[:, 0], block[:, 1]
            mid = left + right
            self._mid += _energy(mid)
            self._side += _energy(left - right)
        else:
            mid = block[:, 0]
        self._speech.add(mid[:whole].reshape(-1, self.window))

    def result(self) -> Levels:
        """The measurements so far."""
        total = self._frames * self._channels
        return Levels(
            peak=self._peak,
            rms_dbfs=decibels(self._energy / total) if total else FLOOR_DB,
            silence_fraction=self._silent / self._windows if self._windows else 1.0,
            side_to_mid_db=_ratio(self._side, self._mid),
            speech_score=self._speech.score(),
        )


def _ratio(side: float, mid: float) -> float:
    if side <= 0:
        return FLOOR_DB
    return decibels(side / mid) if mid > 0 else -FLOOR_DB


def _energy(signal: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    """Sum of squares: float32 by block is exact to 1e-6, unless float samples are absurdly large."""
    total = float(np.dot(signal, signal))
    return total if math.isfinite(total) else float(np.square(signal, dtype=np.float64).sum())
