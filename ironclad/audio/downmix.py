"""Changing the number of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ironclad.audio.pcm import PcmFile, PcmWriter
from ironclad.errors import TooManyChannels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_H: Final = 0.5**0.5
# ITU-R BS.775-4, Annex 4, Table 2: centre and surrounds at -3 dB, LFE left out. Order of channels as in WAVE and FLAC.
_TO_STEREO: Final[dict[int, tuple[tuple[float, float], ...]]] = {
    3: ((1, 0), (0, 1), (_H, _H)),
    4: ((1, 0), (0, 1), (_H, 0), (0, _H)),
    5: ((1, 0), (0, 1), (_H, _H), (_H, 0), (0, _H)),
    6: ((1, 0), (0, 1), (_H, _H), (0, 0), (_H, 0), (0, _H)),
    7: ((1, 0), (0, 1), (_H, _H), (0, 0), (_H * _H, _H * _H), (_H, 0), (0, _H)),
    8: ((1, 0), (0, 1), (_H, _H), (0, 0), (_H, 0), (0, _H), (_H, 0), (0, _H)),
}


def matrix(source: int, target: int) -> NDArray[np.float32]:
    """float32 (source, target): what each channel contributes. A mix-down never exceeds full scale by itself.

    Raises `TooManyChannels` for a layout without a rule.
    """
    if source == target:
        return np.eye(source, dtype=np.float32)
    if source == 1:
        return np.ones((1, target), np.float32)
    if target == 1:
        return np.full((source, 1), 1 / source, np.float32)
    if source in _TO_STEREO and target == 2:  # noqa: PLR2004 - stereo
        gains = np.array(_TO_STEREO[source], np.float32)
        return np.asarray(gains / gains.sum(axis=0).max(), np.float32)
    raise TooManyChannels(f"There is no rule for mixing {source} channels to {target}.")


def to_channels(pcm: PcmFile, out: Path, channels: int, *, check: Callable[[], None] | None = None) -> PcmFile:
    """Write `pcm` with another number of channels; same rate, same length."""
    gains = matrix(pcm.channels, channels)
    with PcmWriter(out, channels, pcm.sample_rate) as writer:
        for block in pcm.blocks():
            if check is not None:
                check()
            writer.write(block @ gains)
        return writer.finish()
