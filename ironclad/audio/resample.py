"""Sample-rate conversion of PCM, streaming, with no lag and an exact length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np

from ironclad.audio.frames import layout_of, to_frame
from ironclad.audio.pcm import PcmWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ironclad.audio.pcm import PcmFile

_TAPS: Final = 128
_QUALITY: Final = {
    # libswresample's polyphase filter with exact phases: with 128 taps 125 dB signal to error up to 0.9 of the lower
    # Nyquist rate.
    "phase_shift": "10",
    "exact_rational": "1",
    "cutoff": "0.97",
    "filter_type": "kaiser",
    "kaiser_beta": "12",
}


def resampled_frames(frames: int, source_rate: int, target_rate: int) -> int:
    """The length after conversion: round(frames · target / source), halves up."""
    return (2 * frames * target_rate + source_rate) // (2 * source_rate)


def resampled_blocks(
    blocks: Iterable[NDArray[np.float32]], channels: int, source_rate: int, target_rate: int, *, taps: int = _TAPS
) -> Iterator[NDArray[np.float32]]:
    """Convert float32 (frames, channels) blocks; exactly `resampled_frames` come out, the first one without lag.

    The filter has `taps` coefficients for each sample that comes out (at the lower of the two rates).
    """
    options = {**_QUALITY, "filter_size": str(taps)}
    converter = av.AudioResampler(format="flt", layout=layout_of(channels), rate=target_rate, options=options)
    taken = given = 0
    for block in blocks:
        if not len(block):
            continue
        for frame in converter.resample(to_frame(block, "flt", source_rate, taken)):
            out = _array(frame, channels)
            given += len(out)
            yield out
        taken += len(block)
    target = resampled_frames(taken, source_rate, target_rate)
    for frame in converter.resample(None) if taken else []:
        out = _array(frame, channels)[: target - given]
        given += len(out)
        yield out
    if given < target:
        yield np.zeros((target - given, channels), np.float32)


def _array(frame: av.AudioFrame, channels: int) -> NDArray[np.float32]:
    data: NDArray[Any] = frame.to_ndarray()
    return data.reshape(-1, channels).astype(np.float32, copy=False)


def resample(
    pcm: PcmFile,
    out: Path,
    sample_rate: int,
    *,
    progress: Callable[[float], None] | None = None,
    check: Callable[[], None] | None = None,
) -> PcmFile:
    """Convert a PCM file to another sample rate (Hz), written to `out` in bounded memory.

    The result has round(frames · out / in) frames and no lag. `progress` gets 0 to 1; what `check` raises stops it.
    """
    with PcmWriter(out, pcm.channels, sample_rate) as writer:
        expected = max(1, resampled_frames(pcm.frames, pcm.sample_rate, sample_rate))
        for block in resampled_blocks(pcm.blocks(), pcm.channels, pcm.sample_rate, sample_rate):
            if check is not None:
                check()
            writer.write(block)
            if progress is not None:
                progress(min(1.0, writer.frames / expected))
        return writer.finish()
