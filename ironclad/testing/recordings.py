"""The recordings that engines are put to: made here, the same everywhere, never longer in memory than a few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

_BLOCK = 1 << 17
"""Frames of what long recordings repeat."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Raw float32 on the disk, channels interleaved, as hosts take it."""

    path: Path
    frames: int
    channels: int
    rate: int

    def samples(self) -> Samples:
        """All of it: `(channels, frames)`."""
        return read(self.path, self.channels)


def read(path: Path, channels: int) -> Samples:
    """A file of raw float32 samples: `(channels, frames)`."""
    return np.fromfile(path, "<f4").reshape(-1, channels).T.astype(np.float32)


def music(frames: int, channels: int, rate: int, seed: int = 1) -> Samples:
    """Something between a chord and noise, at other places in every channel: `(channels, frames)`, below 0.9.

    Not two channels are the same, so that engines that need stereo have it; something sounds all the time.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / rate
    notes = [
        np.sin(2 * np.pi * pitch * time + phase) for pitch, phase in zip(_pitches(rate, seed), (0, 1, 2), strict=True)
    ]
    slow = 0.6 + 0.4 * np.sin(2 * np.pi * 0.7 * time)
    made = np.empty((channels, frames), np.float32)
    for channel in range(channels):
        shares = 0.08 + 0.15 * rng.random(len(notes))
        voice = sum(share * note for share, note in zip(shares, notes, strict=True))
        made[channel] = voice * slow + 0.05 * rng.standard_normal(frames).clip(-3, 3)
    return made


def _pitches(rate: int, seed: int) -> tuple[float, float, float]:
    base = min(220.0, rate / 40) * (1 + 0.1 * (seed % 5))
    return base, base * 1.5, base * 3.01


def extremes(channels: int, rate: int) -> Samples:
    """What has made engines fail: full scale, above it, an impulse, an offset, almost nothing: `(channels, frames)`.

    Channels differ everywhere but in the silence between.
    """
    part = rate // 3
    time = np.arange(part)
    pieces = []
    for channel in range(channels):
        square = np.where(time // (20 + 7 * channel) % 2 == 0, np.float32(1), np.float32(-1))
        impulse = np.zeros(part, np.float32)
        impulse[part // 2 + channel] = 1.0
        offset = np.full(part, 0.5 - 0.1 * channel, np.float32)
        tiny = square * np.float32(1e-38) * np.float32(0.01)  # denormal numbers
        pieces.append(np.concatenate([square, 4 * square, impulse, offset, tiny]))
    return np.stack(pieces).astype(np.float32)


def write(path: Path, samples: Samples, rate: int) -> Recording:
    """Write samples `(channels, frames)`."""
    samples.T.astype("<f4").tofile(path)
    return Recording(path, samples.shape[1], samples.shape[0], rate)


def write_long(path: Path, frames: int, channels: int, rate: int) -> Recording:
    """Write music of any length that repeats itself."""
    block: Any = np.ascontiguousarray(music(min(frames, _BLOCK), channels, rate).T, dtype="<f4")
    with path.open("wb") as file:
        left = frames
        while left:
            count = min(left, len(block))
            file.write(block[:count].tobytes())
            left -= count
    return Recording(path, frames, channels, rate)
