"""Audio files of the protocol: raw float32, little-endian, channels interleaved; memory does not grow with length."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ironclad.engines.host.api import EngineError
from ironclad.engines.host.protocol import StemReport

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ironclad.engines.host.api import Samples

SAMPLE_BYTES = 4
_BLOCK_BYTES = 1 << 22


class PcmReader:
    """The mixture. Raises `EngineError` (storage) if the file is not as long as declared."""

    def __init__(self, path: str, *, frames: int, channels: int, rate: int) -> None:
        if channels < 1 or rate < 1:
            raise EngineError("input", f"{channels} channels at {rate} Hz is no recording")
        self.frames = frames
        self.channels = channels
        self.rate = rate
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115  # closed by close(), kept open between reads
        size = os.fstat(self._file.fileno()).st_size
        if size != frames * channels * SAMPLE_BYTES:
            self._file.close()
            raise EngineError("storage", f"{path} has {size} bytes, not {frames} frames of {channels} float32 samples")

    def read(self, start: int, count: int) -> Samples:
        """Frames `start` to `start + count`: `(channels, count)`. Raises `EngineError` for NaN and infinity."""
        if start < 0 or count < 0 or start + count > self.frames:
            raise IndexError(f"frames {start} to {start + count} of {self.frames}")
        width = self.channels * SAMPLE_BYTES
        data = os.pread(self._file.fileno(), count * width, start * width)
        while len(data) < count * width:  # one call reads 2 GiB at most
            more = os.pread(self._file.fileno(), count * width - len(data), start * width + len(data))
            if not more:
                raise EngineError("storage", "the mixture became shorter while it was read")
            data += more
        samples = np.frombuffer(data, dtype="<f4").reshape(count, self.channels).T
        if not np.isfinite(samples).all():
            raise EngineError("input", f"there are samples that are not numbers after frame {start}", "E_CORRUPT_AUDIO")
        return np.ascontiguousarray(samples, dtype=np.float32)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PcmSinks:
    """The stems of one separation, as `STEM.f32.part` until `finish`."""

    def __init__(
        self, folder: str, stems: Collection[str], *, frames: int, channels: int, resume: int = 0, keep: bool = False
    ) -> None:
        """`resume`: frames that are in the files already; `keep`: `discard` leaves the files where they are.

        Raises `EngineError` (storage) if fewer frames are there.
        """
        self.wanted = frozenset(stems)
        self.frames = 0
        self.resumed = resume
        self._total = frames
        self._channels = channels
        self._folder = Path(folder)
        self._keep = keep
        self._files: dict[str, IO[bytes]] = {}
        self._peaks = dict.fromkeys(stems, 0.0)
        self._hashes = {stem: hashlib.sha256() for stem in stems}
        try:
            for stem in stems:
                # Unbuffered: what is reported as written is in the file, whatever becomes of this process.
                mode = "r+b" if resume else "wb"
                self._files[stem] = (self._folder / f"{stem}.f32.part").open(mode, buffering=0)
                if resume:
                    self._take_up(stem, resume)
        except OSError:
            self.discard()
            raise
        self.frames = resume

    def _take_up(self, stem: str, frames: int) -> None:
        """Go on after so many frames: what follows them is cut off, peak and digest are those of what is there."""
        left = frames * self._channels * SAMPLE_BYTES
        file = self._files[stem]
        if left > os.fstat(file.fileno()).st_size:
            raise EngineError("storage", f"{stem} has fewer than the {frames} frames to go on from")
        file.truncate(left)
        while left:
            data = file.read(min(left, _BLOCK_BYTES))
            self._peaks[stem] = max(self._peaks[stem], float(np.abs(np.frombuffer(data, "<f4")).max(initial=0.0)))
            self._hashes[stem].update(data)
            left -= len(data)

    def write(self, stems: Mapping[str, Samples]) -> None:
        """Append a block; see `Sinks.write`."""
        if missing := self.wanted - stems.keys():
            raise EngineError("engine", f"the block after frame {self.frames} lacks {', '.join(sorted(missing))}")
        counts = {stems[stem].shape[-1] for stem in self.wanted}
        shapes = {stems[stem].shape[:-1] for stem in self.wanted}
        if len(counts) != 1 or shapes != {(self._channels,)}:
            raise EngineError("engine", f"the block after frame {self.frames} has stems of the wrong shape")
        count = counts.pop()
        if self.frames + count > self._total:
            raise EngineError(
                "engine", f"{self.frames + count} frames for a recording of {self._total}", "E_OUTPUT_INVALID"
            )
        for stem, file in self._files.items():
            block = np.ascontiguousarray(stems[stem].T, dtype="<f4")
            peak = float(np.abs(block).max(initial=0.0))
            if not math.isfinite(peak):
                message = f"{stem} has samples that are not finite after frame {self.frames}"
                raise EngineError("engine", message, "E_OUTPUT_INVALID")
            self._peaks[stem] = max(self._peaks[stem], peak)
            self._hashes[stem].update(block.data)
            view = block.data.cast("B")
            while view:  # one call writes 2 GiB at most
                view = view[file.write(view) :]
        self.frames += count

    def finish(self) -> dict[str, StemReport]:
        """Put the files on disk under their final names. Raises `EngineError` if they are too short."""
        if self.frames != self._total:
            message = f"the engine made {self.frames} of {self._total} frames"
            raise EngineError("engine", message, "E_OUTPUT_INVALID")
        reports = {}
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        for stem in self._files:
            final = self._folder / f"{stem}.f32"
            (self._folder / f"{final.name}.part").replace(final)
            reports[stem] = StemReport(final.name, self.frames, self._peaks[stem], self._hashes[stem].hexdigest())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return reports

    def discard(self) -> None:
        """Let go of what is not finished, and remove it unless it is to be kept."""
        for stem, file in self._files.items():
            with contextlib.suppress(OSError):  # a full disk makes close() fail, once more
                file.close()
            if self._keep:
                continue
            (self._folder / f"{stem}.f32.part").unlink(missing_ok=True)
