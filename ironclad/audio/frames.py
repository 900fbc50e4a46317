"""Between PCM blocks and FFmpeg's frames."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np

from ironclad.errors import NotAudio, TooManyChannels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_SCALE: Final = {"u8": 2.0**-7, "s16": 2.0**-15, "s32": 2.0**-31, "flt": 1.0, "dbl": 1.0}
_U8_ZERO = 128
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


def to_float(frame: av.AudioFrame) -> NDArray[np.float32]:
    """A frame's samples as float32 (frames, channels), full scale ±1; 24-bit integers are exact."""
    kind = frame.format.name.removesuffix("p")
    if kind not in _SCALE:
        raise NotAudio(f"its sample format {kind} is not supported")
    data = frame.to_ndarray()
    shaped = data.T if frame.format.is_planar else data.reshape(-1, frame.layout.nb_channels)
    if kind == "flt":
        return shaped.astype(np.float32, copy=False)
    if kind == "u8":
        shaped = shaped.astype(np.int16) - _U8_ZERO
    return (shaped * np.float32(_SCALE[kind])).astype(np.float32, copy=False)


def silence(frames: int, channels: int) -> Iterator[NDArray[np.float32]]:
    """Zeros in blocks of bounded size."""
    zeros = np.zeros((min(frames, 1 << 16), channels), np.float32)
    while frames > 0:
        yield zeros[:frames]
        frames -= len(zeros)
