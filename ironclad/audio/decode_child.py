"""Sandbox targets: probe and decode one untrusted file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from ironclad.audio.info import AudioInfo, AudioLimits
from ironclad.audio.levels import LevelMeter, window_frames
from ironclad.audio.pcm import PcmWriter
from ironclad.audio.source import Source, check_length, open_source
from ironclad.errors import CorruptAudio, NoSamples, TruncatedAudio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_WINDOWS_PER_BLOCK = 64
_FEW_DAMAGED = 2
_DAMAGED_SHARE = 0.05
_PROGRESS_STEP = 0.01
_TOLERANCE_FRAMES = {"mp3": 2 * 1152, "aac": 2 * 2048, "vorbis": 8192, "opus": 5760}
"""How much shorter than declared is still whole: encoders disagree about delay and the last block. 0 for lossless."""
_ALAC_PACKET = 4096
_TOLERANCE_SECONDS = 1.0
"""Likewise for containers that declare a rough time only."""


def probe(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """`{"path", "limits"}` -> `AudioInfo` as JSON data."""
    with open_source(Path(request["path"]), AudioLimits.from_dict(request["limits"])) as source:
        return source.info.to_dict()


def main(request: dict[str, Any], report: Callable[[float], None]) -> dict[str, Any]:
    """`{"path", "out", "limits"}` -> `Decoded` as JSON data; the samples go to `out` unless it is None."""
    limits = AudioLimits.from_dict(request["limits"])
    with open_source(Path(request["path"]), limits) as source:
        drain = _Drain(source, limits, report)
        if request["out"] is None:
            hasher = blake3()
            for block in drain.blocks():
                hasher.update(block.data.cast("B"))
            return drain.result(hasher.hexdigest())
        with PcmWriter(Path(request["out"]), source.info.channels, source.info.sample_rate) as writer:
            for block in drain.blocks():
                writer.write(block)
            writer.finish()
        return drain.result(writer.digest)


def examine(request: dict[str, Any], report: Callable[[float], None]) -> dict[str, Any]:
    """`{"path", "limits"}` -> `Examined` as JSON data."""
    limits = AudioLimits.from_dict(request["limits"])
    with open_source(Path(request["path"]), limits) as source:
        drain, hasher = _Drain(source, limits, report), blake3()
        meter = LevelMeter(source.info.channels, source.info.sample_rate)
        for block in drain.blocks():
            meter.add(block)
            hasher.update(block.data.cast("B"))
        return drain.result(hasher.hexdigest()) | asdict(meter.result())


class _Drain:
    """A source's samples in blocks that are good for every use, and what was seen of them."""

    def __init__(self, source: Source, limits: AudioLimits, report: Callable[[float], None]) -> None:
        self._frames = 0
        self._source = source
        self._limits = limits
        self._report = report
        self._reported = 0.0

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Finite samples, in whole windows of `LevelMeter` (the last block aside), the same array each time."""
        for block in self._filled():
            if not np.isfinite(block).all():
                self._source.damaged += 1
                np.nan_to_num(block, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            yield block
            progress = self._source.progress
            if progress >= self._reported + _PROGRESS_STEP:
                self._reported = progress
                self._report(progress)

    def result(self, digest: str) -> dict[str, Any]:
        """`Decoded` as JSON data. Raises if what was decoded cannot be used."""
        truncated = _judge(self._source, self._frames, self._limits)
        return {
            "frames": self._frames,
            "channels": self._source.info.channels,
            "sample_rate": self._source.info.sample_rate,
            "blake3": digest,
            "damaged_packets": self._source.damaged,
            "truncated": truncated,
        }

    def _filled(self) -> Iterator[NDArray[np.float32]]:
        info = self._source.info
        buffer = np.empty((window_frames(info.sample_rate) * _WINDOWS_PER_BLOCK, info.channels), np.float32)
        filled = 0
        for samples in self._source.samples():
            self._frames += len(samples)
            check_length(self._frames, info, self._limits)
            rest = samples
            while len(rest):
                count = min(len(rest), len(buffer) - filled)
                buffer[filled : filled + count] = rest[:count]
                rest, filled = rest[count:], filled + count
                if filled == len(buffer):
                    yield buffer
                    filled = 0
        if filled:
            yield buffer[:filled]


def _judge(source: Source, frames: int, limits: AudioLimits) -> bool:
    """Whether the decoded signal is truncated; raises if it cannot be used."""
    damaged, packets = source.damaged, source.packets
    if damaged > max(_FEW_DAMAGED, _DAMAGED_SHARE * packets):
        raise CorruptAudio(f"{damaged} of {packets} packets are damaged", damaged_packets=damaged)
    short = _shortage(source, frames)
    whole = source.promise.whole
    lost = source.lost + (short if whole and damaged else 0)
    if lost > _DAMAGED_SHARE * (frames + short):
        raise CorruptAudio(f"{lost} samples were lost on the way", damaged_packets=damaged, lost_samples=lost)
    if not short or whole:
        if not frames:
            raise NoSamples
        return False
    if not limits.allow_truncated:
        declared = source.info.declared_frames
        detail = source.promise.cut or f"{frames} of {frames + short} samples are there"
        raise TruncatedAudio(detail, frames=frames, declared_frames=declared)
    return True


def _tolerance(info: AudioInfo) -> int:
    if (info.container, info.family) == ("caf", "alac"):
        return _ALAC_PACKET - 1  # FFmpeg's older writers count the last packet in full
    return _TOLERANCE_FRAMES.get(info.family, 0 if info.lossless else 8192)


def _shortage(source: Source, frames: int) -> int:
    """How many samples are missing of those declared; 1 for a file that is cut and does not say."""
    info = source.info
    if info.declared_frames is not None:
        short = info.declared_frames - frames
        return short if short > _tolerance(info) else 0
    if source.promise.cut:
        return 1
    if source.promise.exact and info.duration is not None:
        short = round(info.duration * info.sample_rate) - frames
        return short if short > _TOLERANCE_SECONDS * info.sample_rate else 0
    return 0
