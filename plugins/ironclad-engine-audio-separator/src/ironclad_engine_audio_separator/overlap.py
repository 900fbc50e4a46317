"""Segments of a recording through a network, added up with cross-fades, in memory that does not grow with its length.

Windows, steps and padding are those of audio-separator 0.47.1 (`architectures/mdx_separator.py`, `mdxc_separator.py`),
so that the result is that of its own `demix` on the whole recording. Nothing is normalised before or after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ironclad.engines.host.api import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ironclad.engines.host.api import Reader, Samples

    Window = Callable[[int], NDArray[np.float64]]


@dataclass(frozen=True)
class Plan:
    """Where segments lie in a recording with zeros around it."""

    chunk: int
    """Samples of a segment."""
    starts: Sequence[int]
    lead: int
    """Zeros before the recording."""
    total: int
    """Samples with the zeros around."""
    window: Window
    """The weights of a segment of so many samples."""


def mdx(frames: int, *, chunk: int, trim: int, overlap: float) -> Plan:
    """MDX-Net: Hann windows; `trim` samples at either end of a segment are half a transform's window."""
    inner = chunk - 2 * trim
    if inner < 1:
        raise EngineError("model", "a segment of this model is shorter than its transform")
    total = trim + frames + inner + trim - frames % inner
    return Plan(chunk, range(0, total, int((1 - overlap) * chunk)), trim, total, np.hanning)


def mdxc(frames: int, *, chunk: int, count: int) -> Plan:
    """TFC-TDF v3: every sample is the mean of `count` segments."""
    hop = chunk // count
    lead = chunk - hop
    total = lead + frames + hop - (frames - chunk) % hop + lead
    return Plan(chunk, range(0, total - chunk + 1, hop), lead, total, np.ones)


def roformer(frames: int, *, chunk: int, count: int) -> Plan:
    """RoFormers: Hamming windows; the last segment ends with the recording.

    A song that is shorter than a segment gets zeros behind it. audio-separator gives it as it is, and loses the samples
    after the last whole hop.
    """
    starts = [*range(0, max(1, frames - chunk), chunk // count)]
    if frames > chunk and starts[-1] != frames - chunk:
        starts.append(frames - chunk)
    whole = np.hamming(chunk)
    return Plan(chunk, starts, 0, frames, lambda length: whole[:length])


def separate(
    reader: Reader, plan: Plan, stems: int, network: Callable[[Samples], NDArray[Any]]
) -> Iterator[NDArray[np.float32]]:
    """Consecutive pieces `(stems, channels, n)`, together exactly as long as the recording.

    `network` gets `(channels, samples)` and gives `(stems, channels, samples)`. Raises `EngineError` (engine) for what
    it gives in another shape, too short, or not finite.
    """
    summed = np.zeros((stems, reader.channels, plan.chunk))
    weights = np.zeros(plan.chunk)
    base = plan.starts[0]
    for start in plan.starts:
        if start > base:
            yield from _within(plan, reader.frames, base, _mean(summed, weights, start - base))
            summed, weights, base = _shifted(summed, start - base), _shifted(weights, start - base), start
        length = min(plan.chunk, plan.total - start)
        block = _read(reader, start - plan.lead, plan.chunk)  # with zeros where the last one ends
        made = _checked(network(block), stems, reader.channels, length)
        window = plan.window(length)
        summed[..., :length] += made * window
        weights[:length] += window
    yield from _within(plan, reader.frames, base, _mean(summed, weights, plan.total - base))


def _mean(summed: NDArray[np.float64], weights: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    made: NDArray[np.float32] = (summed[..., :count] / np.maximum(weights[:count], 1e-10)).astype(np.float32)
    return made


def _within(plan: Plan, frames: int, base: int, made: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """What of these samples, of which the first is number `base`, lies in the recording."""
    first, last = max(0, plan.lead - base), min(made.shape[-1], plan.lead + frames - base)
    if last > first:
        yield made[..., first:last]


def _shifted(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    moved = np.zeros_like(values)
    moved[..., : values.shape[-1] - count] = values[..., count:]
    return moved


def _checked(made: NDArray[Any], stems: int, channels: int, length: int) -> NDArray[Any]:
    if made.shape[:-1] != (stems, channels) or made.shape[-1] < length:
        raise EngineError(
            "engine", f"the network gave {made.shape} for {stems} stems of {channels} x {length}", "E_OUTPUT_INVALID"
        )
    if not np.isfinite(made).all():
        raise EngineError("engine", "the network gave values that are not finite", "E_OUTPUT_INVALID")
    return made[..., :length]


def _read(reader: Reader, start: int, count: int) -> Samples:
    """Samples from `start` on, zeros outside the recording."""
    padded = np.zeros((reader.channels, count), np.float32)
    begin, end = max(0, start), min(reader.frames, start + count)
    if end > begin:
        padded[:, begin - start : end - start] = reader.read(begin, end - begin)
    return padded
