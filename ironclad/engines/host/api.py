"""What an engine author implements, and what the host gives it. Samples are float32 arrays `(channels, frames)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]


class EngineError(Exception):
    """A failure that the engine can name.

    `kind` is one of the protocol's: `input` (the recording), `model`, `oom`, `storage` or `engine`; `code` is an error
    code of Ironclad's catalogue, or "" for the kind's own.
    """

    def __init__(self, kind: str, message: str, code: str = "") -> None:
        self.kind = kind
        self.code = code
        super().__init__(message)


class SeparationCancelled(BaseException):
    """Raised out of `progress` when the separation was cancelled; not an Exception, so that no engine swallows it."""


@dataclass(frozen=True)
class LoadRequest:
    """The model to load: its name, the folder of its files ("" where it has none), and the device."""

    model: str
    folder: str
    device: str


class Reader(Protocol):
    """The mixture, with random access."""

    @property
    def frames(self) -> int:
        """Samples per channel."""
        ...

    @property
    def channels(self) -> int:
        """Channels."""
        ...

    @property
    def rate(self) -> int:
        """Sample rate in Hz."""
        ...

    def read(self, start: int, count: int) -> Samples:
        """Frames `start` to `start + count`, all inside the recording: `(channels, count)`."""
        ...


class Sinks(Protocol):
    """The stems, written in step from the first frame to the last."""

    @property
    def wanted(self) -> Collection[str]:
        """The stems asked for; the others need not be made."""
        ...

    @property
    def frames(self) -> int:
        """Frames that every stem has so far; not 0 at the start when a separation is resumed."""
        ...

    def write(self, stems: Mapping[str, Samples]) -> None:
        """Append a block, the same number of frames for every stem wanted; stems that are not wanted are ignored.

        Raises `EngineError` for samples that are not finite, of another shape, or beyond the recording's end.
        """
        ...


class Separator(Protocol):
    """An engine at work. Both methods run on the host's main thread.

    It may have more than these: `devices()`, the kinds of device it can use on this machine, best first;
    `device_memory()`, bytes held on the device now and at their peak in the last separation; `backend`, the name of
    what ran the networks in the last separation, for the receipt; and `resumes = True`, if it goes on where
    `sinks.frames` says, with the very samples that it would have made in one go. An engine without it begins anew.
    """

    def load(self, request: LoadRequest) -> None:
        """Get the model ready. Called again only to change it."""
        ...

    def separate(
        self,
        reader: Reader,
        sinks: Sinks,
        params: Mapping[str, Any],
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Separate one recording: `reader.frames` frames into every stem of `sinks.wanted`.

        Call `progress(done, total)` often (several times a second where possible): it is the sign of life, and it
        raises `SeparationCancelled`. Between two calls, long loops may look at `cancelled()` and return early.
        """
        ...
