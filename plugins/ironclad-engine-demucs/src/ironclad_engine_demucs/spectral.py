"""The short-time Fourier transforms around HTDemucs, in NumPy: so that the network itself is a graph without them.

As `HTDemucs._spec`, `_magnitude`, `_mask` and `_ispec` of demucs 4.1.0 with complex numbers as channels: Hann window,
hop of a quarter window, normalised by the root of its length, reflected at both ends.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

_OVERLAP = 4
_FLOOR = 1e-11
"""Smallest sum of squared windows that is divided by, as torch.istft has it."""


@functools.cache
def _window(size: int) -> Samples:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


@functools.cache
def _envelope(size: int, frames: int) -> Samples:
    """The sum of squared windows of so many frames."""
    hop = size // _OVERLAP
    total = np.zeros((frames - 1) * hop + size, np.float32)
    square = _window(size) ** 2
    for frame in range(frames):
        total[frame * hop : frame * hop + size] += square
    return np.maximum(total, np.float32(_FLOOR))


def spectrum(mixture: Samples, size: int) -> Samples:
    """`(2 · channels, size / 2, frames)` of `(channels, length)`: real and imaginary parts of each channel.

    `frames` is the length divided by the hop, rounded up; the bin at half the sample rate is left out.
    """
    channels, length = mixture.shape
    hop = size // _OVERLAP
    frames, pad = math.ceil(length / hop), hop // 2 * 3
    padded = np.pad(mixture, ((0, 0), (pad, pad + frames * hop - length)), mode="reflect")
    padded = np.pad(padded, ((0, 0), (size // 2, size // 2)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[:, ::hop][:, 2 : 2 + frames]
    scaled = _window(size) * np.float32(1 / math.sqrt(size))
    bins = np.fft.rfft(windows * scaled, axis=-1)[..., :-1]
    parts = np.empty((channels, 2, size // 2, frames), np.float32)
    parts[:, 0] = bins.real.transpose(0, 2, 1)
    parts[:, 1] = bins.imag.transpose(0, 2, 1)
    return parts.reshape(2 * channels, size // 2, frames)


def waves(parts: Samples, length: int) -> Samples:
    """`(…, channels, length)` of spectra `(…, 2 · channels, bins, frames)`: the inverse of `spectrum`."""
    *lead, pairs, bins, frames = parts.shape
    size = 2 * bins
    hop = size // _OVERLAP
    padded = frames + 4  # two frames of zeros on each side, as `HTDemucs._ispec` has them
    start = size // 2 + hop // 2 * 3
    envelope = _envelope(size, padded)[start : start + length]
    window = _window(size) * np.float32(math.sqrt(size))
    flat = parts.reshape(-1, 2, bins, frames)
    out = np.empty((len(flat), length), np.float32)
    full = np.zeros((frames, bins + 1), np.complex64)
    for index, (real, imaginary) in enumerate(flat):  # one channel at a time: the peak stays small
        full.real[:, :bins], full.imag[:, :bins] = real.T, imaginary.T
        pieces = np.fft.irfft(full, n=size, axis=-1).astype(np.float32, copy=False) * window
        summed = np.zeros((padded + _OVERLAP - 1, hop), np.float32)
        for quarter in range(_OVERLAP):
            summed[2 + quarter : 2 + quarter + frames] += pieces[:, quarter * hop : (quarter + 1) * hop]
        out[index] = summed.reshape(-1)[start : start + length] / envelope
    return out.reshape(*lead, pairs // 2, length)
