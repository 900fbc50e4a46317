"""Raw float32 PCM files: what decoder, engines and encoders hand to each other.

Interleaved little-endian float32, shape (frames, channels), no header; full scale is ±1.0 and samples beyond it are
kept. Reading and writing go block by block, so memory does not grow with the length.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from blake3 import blake3

from ironclad.durable import stored
from ironclad.errors import OutputInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import BinaryIO

    from numpy.typing import NDArray

    Block: TypeAlias = NDArray[np.float32]

SAMPLE_BYTES = 4
BLOCK_FRAMES = 1 << 16
_DTYPE = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class PcmFile:
    """A finished PCM file and its shape."""

    path: Path
    frames: int
    """Samples per channel."""
    channels: int
    sample_rate: int
    """Hz."""

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.frames / self.sample_rate

    @property
    def bytes(self) -> int:
        """Size that the file must have."""
        return self.frames * self.channels * SAMPLE_BYTES

    def verify(self) -> None:
        """Raise `OutputInvalid` unless the file has exactly the size that its shape asks for."""
        with stored(self.path):
            size = self.path.stat().st_size
        if size != self.bytes:
            raise OutputInvalid(
                f"{self.path.name} has {size} bytes where {self.frames} frames of {self.channels} channels have "
                f"{self.bytes}"
            )

    def blocks(self, block_frames: int = BLOCK_FRAMES, *, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Frames `start` to `stop` as arrays of float32 (frames, channels), all but the last `block_frames` long.

        Raises `OutputInvalid` if the file is shorter than it should be.
        """
        end = self.frames if stop is None else min(stop, self.frames)
        with stored(self.path), self.path.open("rb") as file:
            file.seek(start * self.channels * SAMPLE_BYTES)
            position = start
            while position < end:
                count = min(block_frames, end - position)
                data = file.read(count * self.channels * SAMPLE_BYTES)
                if len(data) != count * self.channels * SAMPLE_BYTES:
                    raise OutputInvalid(f"{self.path.name} ends before frame {position + count} of {self.frames}")
                position += count
                yield np.frombuffer(data, _DTYPE).reshape(count, self.channels)

    def read(self, start: int = 0, stop: int | None = None) -> Block:
        """Frames `start` to `stop` at once: float32 (frames, channels). For short excerpts."""
        found = list(self.blocks(start=start, stop=stop))
        return np.concatenate(found) if found else np.zeros((0, self.channels), np.float32)

    def digest(self) -> str:
        """BLAKE3 of the samples, in hex."""
        hasher = blake3()
        for block in self.blocks():
            hasher.update(block.data.cast("B"))
        return hasher.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self) | {"path": str(self.path)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From `to_dict`."""
        return cls(Path(data["path"]), data["frames"], data["channels"], data["sample_rate"])


class PcmWriter:
    """Writes a PCM file block by block and digests it on the way. A context manager; `finish` gives the `PcmFile`.

    The file is written to exactly the path given, replacing what is there; it is complete only after `finish`.
    """

    def __init__(self, path: Path, channels: int, sample_rate: int) -> None:
        self.path = path
        self.channels = channels
        self.sample_rate = sample_rate
        self.frames = 0
        self.hasher = blake3()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        with stored(self.path):
            self._file = self.path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with stored(self.path):
                self._file.close()

    def write(self, block: NDArray[np.floating[Any]]) -> None:
        """Append (frames, channels) samples."""
        if block.ndim != 2 or block.shape[1] != self.channels:  # noqa: PLR2004 -- frames and channels
            raise ValueError(f"expected (frames, {self.channels}), got {block.shape}")
        if self._file is None:
            raise ValueError("the writer is not open")
        data = np.ascontiguousarray(block, _DTYPE).data.cast("B") if block.size else b""
        self.hasher.update(data)
        with stored(self.path):
            self._file.write(data)
        self.frames += len(block)

    @property
    def digest(self) -> str:
        """BLAKE3 of what was written so far, in hex."""
        return self.hasher.hexdigest()

    def finish(self) -> PcmFile:
        """Flush to the operating system and describe the file."""
        if self._file is None:
            raise ValueError("the writer is not open")
        with stored(self.path):
            self._file.flush()
        return PcmFile(self.path, self.frames, self.channels, self.sample_rate)
