"""Sums and differences of PCM files, block by block, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ironclad.audio.downmix import to_channels
from ironclad.audio.pcm import BLOCK_FRAMES, PcmFile, PcmWriter
from ironclad.audio.resample import resample
from ironclad.errors import OutputInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_SLACK_FRAMES = 2
"""There and back between two sample rates rounds the length by at most this much."""


def combine(
    parts: Sequence[tuple[PcmFile, float]], out: Path, *, gain: float = 1.0, check: Callable[[], None] | None = None
) -> tuple[PcmFile, float]:
    """Write gain · Σ factor · part; returns the file and its absolute sample peak (1.0 is full scale).

    All parts have the same rate, channels and length; else `OutputInvalid`.
    """
    first = parts[0][0]
    peak = 0.0
    with PcmWriter(out, first.channels, first.sample_rate) as writer:
        for total in _sums(parts, check):
            louder = total * gain
            peak = max(peak, float(np.abs(louder).max(initial=0.0)))
            writer.write(louder.astype(np.float32))
        return writer.finish(), peak


def sample_peak(parts: Sequence[tuple[PcmFile, float]], *, check: Callable[[], None] | None = None) -> float:
    """The absolute sample peak of Σ factor · part, which is written nowhere. Raises as `combine`."""
    return max((float(np.abs(total).max(initial=0.0)) for total in _sums(parts, check)), default=0.0)


def _sums(parts: Sequence[tuple[PcmFile, float]], check: Callable[[], None] | None) -> Iterator[NDArray[np.float64]]:
    first = parts[0][0]
    for pcm, _factor in parts:
        if (pcm.frames, pcm.channels, pcm.sample_rate) != (first.frames, first.channels, first.sample_rate):
            raise OutputInvalid(f"{pcm.path.name} and {first.path.name} differ in length, channels or rate.")
    for blocks in zip(*(pcm.blocks(BLOCK_FRAMES) for pcm, _factor in parts), strict=True):
        if check is not None:
            check()
        total = np.zeros(blocks[0].shape, np.float64)
        for (_pcm, factor), block in zip(parts, blocks, strict=True):
            total += factor * block
        if not np.isfinite(total).all():
            raise OutputInvalid("A stem holds values that are not numbers.")
        yield total


def fit(pcm: PcmFile, like: PcmFile, folder: Path, *, check: Callable[[], None] | None = None) -> PcmFile:
    """`pcm` with the rate, channels and exact length of `like`; itself where it has them already."""
    shaped = pcm
    if shaped.sample_rate != like.sample_rate:
        shaped = resample(shaped, folder / f"{pcm.path.stem}.rate.f32", like.sample_rate, check=check)
    if shaped.channels != like.channels:
        shaped = to_channels(shaped, folder / f"{pcm.path.stem}.channels.f32", like.channels, check=check)
    if shaped.frames != like.frames:
        shaped = _exact(shaped, like.frames, folder / f"{pcm.path.stem}.exact.f32")
    return shaped


def _exact(pcm: PcmFile, frames: int, out: Path) -> PcmFile:
    if abs(pcm.frames - frames) > _SLACK_FRAMES:
        raise OutputInvalid(f"{pcm.path.name} has {pcm.frames} frames where {frames} were expected.")
    with PcmWriter(out, pcm.channels, pcm.sample_rate) as writer:
        for block in pcm.blocks(stop=min(frames, pcm.frames)):
            writer.write(block)
        if pcm.frames < frames:
            writer.write(np.zeros((frames - pcm.frames, pcm.channels), np.float32))
        return writer.finish()
