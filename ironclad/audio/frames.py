"""Between PCM blocks and FFmpeg's frames."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np

from ironclad.errors import TooManyChannels

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAYOUTS: Final = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""FFmpeg's default layout by number of channels."""


def layout_of(channels: int) -> str:
    """FFmpeg's default layout of so many channels. Raises `TooManyChannels`."""
    if channels not in LAYOUTS:
        raise TooManyChannels(f"{channels} of {max(LAYOUTS)} possible")
    return LAYOUTS[channels]


def to_frame(block: NDArray[Any], form: str, sample_rate: int, position: int) -> av.AudioFrame:
    """A (frames, channels) block as an FFmpeg frame in the sample format `form`, starting at sample `position`."""
    layout = layout_of(block.shape[1])
    packed = block.T if form.endswith("p") else block.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), form, layout)
    frame.sample_rate = sample_rate
    frame.pts = position
    frame.time_base = Fraction(1, sample_rate)
    return frame
