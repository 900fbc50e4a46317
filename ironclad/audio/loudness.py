"""Programme loudness by ITU-R BS.1770-5 and EBU R 128 (loudness range: EBU Tech 3342)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import av
import numpy as np
from av.filter import Graph

from ironclad.audio.frames import layout_of, to_frame
from ironclad.audio.levels import FLOOR_DB
from ironclad.audio.resample import resampled_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ironclad.audio.pcm import PcmFile

SILENCE_LUFS = -70.0
"""The absolute gate: what the integrated loudness of silence is given as."""
_TRUE_PEAK_RATE = 192_000
"""BS.1770-5, annex 2: four times 48 kHz."""
_TRUE_PEAK_TAPS = 64
"""For each phase; the filter in BS.1770-5, annex 2, has 12. With 128, peaks up to 20 kHz differ by less than 0.2 dB."""


@dataclass(frozen=True, slots=True)
class Loudness:
    """The loudness of a whole programme."""

    integrated_lufs: float
    """Gated loudness; -70 for silence and for anything shorter than one 400 ms gating block."""
    range_lu: float
    """Loudness range (LRA)."""
    sample_peak: float
    """Largest absolute sample, 1.0 is full scale."""
    true_peak: float
    """Largest absolute value of the signal oversampled to at least 192 kHz, 1.0 is full scale."""

    @property
    def true_peak_dbtp(self) -> float:
        """True peak in dB re full scale; -200 for silence."""
        return FLOOR_DB if self.true_peak <= 0 else max(FLOOR_DB, 20 * float(np.log10(self.true_peak)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From `to_dict`."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})


class _Meter:
    """FFmpeg's ebur128 filter, fed block by block."""

    def __init__(self, channels: int, sample_rate: int) -> None:
        self._graph = Graph()
        self._source = self._graph.add_abuffer(
            sample_rate=sample_rate, format="flt", layout=layout_of(channels), time_base=Fraction(1, sample_rate)
        )
        meter = self._graph.add("ebur128", "metadata=1:framelog=quiet")
        sink = self._graph.add("abuffersink")
        self._source.link_to(meter)
        meter.link_to(sink)
        self._graph.configure()
        self._rate = sample_rate
        self._position = 0
        self.integrated = SILENCE_LUFS
        self.range = 0.0

    def add(self, block: NDArray[np.float32]) -> None:
        self._source.push(to_frame(block, "flt", self._rate, self._position))
        self._position += len(block)
        self._drain()

    def finish(self) -> None:
        if self._position:
            self._source.push(None)
            self._drain()

    def gated(self) -> float:
        """The integrated loudness in LUFS."""
        return max(SILENCE_LUFS, self.integrated) if np.isfinite(self.integrated) else SILENCE_LUFS

    def _drain(self) -> None:
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            if isinstance(frame, av.AudioFrame) and "lavfi.r128.I" in frame.metadata:
                self.integrated = float(frame.metadata["lavfi.r128.I"])
                self.range = float(frame.metadata["lavfi.r128.LRA"])


def measure(
    pcm: PcmFile,
    *,
    progress: Callable[[float], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Loudness:
    """Measure a PCM file in bounded memory. `progress` gets 0 to 1; what `check` raises stops it."""
    meter = _Meter(pcm.channels, pcm.sample_rate)
    peak = 0.0
    done = 0

    def watched() -> Iterator[NDArray[np.float32]]:
        nonlocal peak, done
        for block in pcm.blocks():
            if check is not None:
                check()
            meter.add(block)
            peak = max(peak, _peak(block))
            done += len(block)
            if progress is not None:
                progress(done / pcm.frames)
            yield block

    factor = max(1, -(-_TRUE_PEAK_RATE // pcm.sample_rate))
    true_peak = 0.0
    rate = factor * pcm.sample_rate
    for block in resampled_blocks(watched(), pcm.channels, pcm.sample_rate, rate, taps=_TRUE_PEAK_TAPS):
        true_peak = max(true_peak, _peak(block))
    meter.finish()
    return Loudness(meter.gated(), meter.range, peak, max(peak, true_peak))


def integrated_lufs(pcm: PcmFile, *, check: Callable[[], None] | None = None) -> float:
    """The integrated loudness alone, as in `Loudness`, in a quarter of the time. What `check` raises stops it."""
    meter = _Meter(pcm.channels, pcm.sample_rate)
    for block in pcm.blocks():
        if check is not None:
            check()
        meter.add(block)
    meter.finish()
    return meter.gated()


def _peak(block: NDArray[np.float32]) -> float:
    return float(max(block.max(), -block.min())) if block.size else 0.0
