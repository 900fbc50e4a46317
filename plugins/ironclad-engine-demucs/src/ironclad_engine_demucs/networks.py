"""What the streaming driver needs of a network, whatever runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from fractions import Fraction

    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]


class Network(Protocol):
    """A network that is loaded. Samples are float32."""

    @property
    def sources(self) -> Sequence[str]:
        """The stems that it makes, in its order."""
        ...

    @property
    def samplerate(self) -> int:
        """Hz."""
        ...

    @property
    def audio_channels(self) -> int:
        """Channels."""
        ...

    @property
    def segment(self) -> float | Fraction:
        """Seconds that it works on at a time."""
        ...

    @property
    def longest(self) -> float:
        """Seconds that it can work on at a time at most; infinity for any."""
        ...

    def padded(self, count: int, segment: float | None) -> int:
        """How long an input it wants for `count` frames, with segments of so many seconds (None: its own)."""
        ...

    def __call__(self, mixtures: Samples) -> Samples:
        """Stems `(batch, stems, channels, frames)` of mixtures `(batch, channels, frames)`."""
        ...

    def listening(self, report: Callable[[float], None]) -> AbstractContextManager[Any]:
        """While this lasts, `report` gets the share of the running segment that is done; what it raises ends it."""
        ...
