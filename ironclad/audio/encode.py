"""Writes PCM files in the formats of a music library, sample-exactly and reproducibly."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ironclad import durable
from ironclad.audio.declared import read_promise
from ironclad.audio.formats import FORMATS, EncodeSpec
from ironclad.audio.ogg import fix_serial
from ironclad.audio.resample import resampled_blocks, resampled_frames
from ironclad.audio.sniff import sniff
from ironclad.audio.writers import open_writer
from ironclad.errors import InputError, NoSamples, OutputInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ironclad.audio.pcm import PcmFile

__all__ = ["FORMATS", "EncodeSpec", "Encoded", "encode"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What was written."""

    format: str
    frames: int
    """Samples per channel that a decode gives: the source's, or its length at 48 kHz for Opus."""
    channels: int
    sample_rate: int
    """Hz, as stored."""
    bytes: int
    """Size of the file."""
    peak_before: float
    """Largest absolute sample at the stored rate before the gain, 1.0 is full scale."""
    peak_after: float
    """The same after the gain, as handed to the encoder."""
    clipped_samples: int
    """Samples beyond full scale after the gain: cut off in lossless formats, and by most players in lossy ones."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From `to_dict`."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})


def encode(
    pcm: PcmFile,
    out: Path,
    spec: EncodeSpec,
    *,
    progress: Callable[[float], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Encoded:
    """Write `pcm` to exactly the path `out` (replacing what is there), whole and flushed to disk when this returns.

    A decode gives back the same number of samples without lag: encoder delay and padding are on record in the file.
    The same samples and spec give the same bytes. Sample rates that the format cannot hold are converted. Memory is
    bounded. `progress` gets 0 to 1; `check` is called for each block. A failed encode leaves no `out`.

    Raises `NoSamples`, `TooManyChannels`, `SampleRateUnsupported`, `DiskFull`, `StorageError`, `OutputInvalid`, and
    what `check` raises.
    """
    if not pcm.frames:
        raise NoSamples
    spec.accept(pcm.channels)
    rate = spec.stored_rate(pcm.sample_rate)
    frames = resampled_frames(pcm.frames, pcm.sample_rate, rate)
    tally = _Tally(spec.gain)
    try:
        with durable.stored(out), out.open("wb") as file:
            with open_writer(file, spec, pcm.channels, rate, frames) as writer:
                for block in tally.through(_at_rate(pcm, rate)):
                    if check is not None:
                        check()
                    writer.write(block)
                    if progress is not None:
                        progress(min(1.0, tally.frames / frames))
            file.flush()
        if spec.format in {"ogg", "opus"}:
            fix_serial(out)
        _verify(out, frames, tally)
        with durable.stored(out):
            durable.fsync_file(out)
    except BaseException:
        durable.remove(out, reason="the encode that wrote it failed")
        raise
    return Encoded(
        format=spec.format,
        frames=frames,
        channels=pcm.channels,
        sample_rate=rate,
        bytes=out.stat().st_size,
        peak_before=tally.peak,
        peak_after=tally.peak * spec.gain,
        clipped_samples=tally.clipped,
    )


def _at_rate(pcm: PcmFile, rate: int) -> Iterator[NDArray[np.float32]]:
    if rate == pcm.sample_rate:
        return pcm.blocks()
    return resampled_blocks(pcm.blocks(), pcm.channels, pcm.sample_rate, rate)


class _Tally:
    """Applies the gain and counts."""

    def __init__(self, gain: float) -> None:
        self._gain = np.float32(gain)
        self.frames = 0
        self.peak = 0.0
        self.clipped = 0

    def through(self, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for block in blocks:
            if not block.size:
                continue
            peak = float(max(block.max(), -block.min()))
            if not np.isfinite(peak):
                raise OutputInvalid("the samples are not all finite numbers")
            self.peak = max(self.peak, peak)
            self.frames += len(block)
            louder = block if self._gain == 1 else block * self._gain
            if peak * self._gain > 1:
                self.clipped += int(np.count_nonzero(np.abs(louder) > 1))
            yield louder


def _verify(out: Path, frames: int, tally: _Tally) -> None:
    """An encoder that could not write its last bytes may say nothing: see that headers and file agree."""
    if tally.frames != frames:
        raise OutputInvalid(f"{tally.frames} of {frames} samples were encoded")
    with out.open("rb") as file:
        size = out.stat().st_size
        try:
            promise = read_promise(file, size, sniff(file, size))
        except InputError as exc:
            raise OutputInvalid(f"{out.name}: {exc}") from exc
    if promise.cut or promise.frames not in {None, frames}:
        raise OutputInvalid(f"{out.name}: {promise.cut or f'it declares {promise.frames} of {frames} samples'}")
