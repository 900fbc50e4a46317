"""Two passes over a recording of any length in constant memory, equal to `demucs.apply.apply_model` on the whole.

The first pass measures mean and standard deviation of the mono mix-down, as `demucs.api.Separator` does on the whole
file. The second runs the same segments at the same offsets as `apply_model` and overlap-adds them with the same
triangular weights in a ring of one segment; what no later segment touches is final and handed on. Segments of several
networks and shifts ("lanes") advance in step, so that nothing piles up.

Float operations happen in apply_model's order, so with the same statistics and PyTorch the results are the same bits
(with one segment at a time; PyTorch may round otherwise in a batch). Everything here is NumPy, whatever runs the
networks.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from ironclad.engines.host.api import Reader
    from ironclad_engine_demucs.networks import Network

    Samples = NDArray[np.float32]

_BLOCK: Final = 1 << 18


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation (plus 1e-8) of the mono mix-down."""

    mean: np.float32
    deviation: np.float32


@dataclass(frozen=True)
class Plan:
    """How to separate: as `apply_model`'s parameters of the same names."""

    shifts: int = 0
    overlap: float = 0.25
    segment: float | None = None
    transition_power: float = 1.0
    batch: int = 1


def measure(reader: Reader, progress: Callable[[int], None] = lambda _done: None) -> Statistics:
    """Statistics of the whole recording, block by block in double precision.

    Merged after T. Chan, G. Golub and R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979. `progress` gets frames read.
    """
    count, mean, squares = 0, 0.0, 0.0
    for start in range(0, reader.frames, _BLOCK):
        size = min(_BLOCK, reader.frames - start)
        mono = reader.read(start, size).mean(0, dtype=np.float64)
        here = float(mono.mean())
        delta = here - mean
        squares += float(((mono - here) ** 2).sum()) + delta * delta * count * size / (count + size)
        mean += delta * size / (count + size)
        count += size
        progress(count)
    deviation = math.sqrt(squares / (count - 1)) if count > 1 else 0.0
    return Statistics(np.float32(mean), np.float32(deviation) + np.float32(1e-8))


class Lane:
    """One network over the recording delayed by `lead` zeros (the shift), segment by segment.

    Positions are in the delayed recording, `total` frames long. Segments that end before frame `since` of the recording
    are left out: nothing after it depends on them.
    """

    def __init__(self, network: Network, frames: int, lead: int, plan: Plan, since: int = 0) -> None:
        segment = network.segment if plan.segment is None else plan.segment
        self.network = network
        self.lead = lead
        self.total = frames + lead
        self.length = int(network.samplerate * segment)
        self.stride = max(1, int((1 - plan.overlap) * self.length))
        self._plan = plan
        offsets = range(0, self.total, self.stride)
        self._offsets = deque(offset for offset in offsets if offset + self.length > since + lead)
        self._ready: deque[Samples] = deque()
        half = self.length // 2
        rising, falling = np.arange(1, half + 1), np.arange(self.length - half, 0, -1)
        triangle = np.concatenate([rising, falling]).astype(np.float32)
        self._weight = (triangle / triangle.max()) ** np.float32(plan.transition_power)
        stems, channels = len(network.sources), network.audio_channels
        self._ring = np.zeros((stems, channels, self.length), np.float32)  # from `_base` on
        self._sum = np.zeros(self.length, np.float32)
        self._base = self._offsets[0]

    @property
    def segments(self) -> int:
        """How many segments there are still to run or to add up."""
        return len(self._offsets)

    def step(self, reader: Reader, statistics: Statistics) -> tuple[int, Samples]:
        """Add one segment up; the samples that are final now, `(stems, channels, n)`, and where they start."""
        if not self._ready:
            self._run(reader, statistics)
        offset = self._offsets.popleft()
        output = self._ready.popleft()
        count, place = output.shape[-1], offset - self._base
        self._ring[..., place : place + count] += self._weight[:count] * output
        self._sum[place : place + count] += self._weight[:count]
        until = self._offsets[0] if self._offsets else self.total
        final = until - self._base
        start, block = self._base, self._ring[..., :final] / self._sum[:final]
        keep = max(0, self.length - final)
        for buffer in (self._ring, self._sum):
            if keep:
                buffer[..., :keep] = buffer[..., final:].copy()
            buffer[..., keep:] = 0
        self._base = until
        return start, block

    def _run(self, reader: Reader, statistics: Statistics) -> None:
        """Run the next segments through the network, as many at a time as the plan says and have one length."""
        inputs: list[Samples] = []
        shapes: list[tuple[int, int]] = []
        for offset in list(self._offsets)[: self._plan.batch]:
            count = min(self.total - offset, self.length)
            padding = self.network.padded(count, self._plan.segment) - count
            if inputs and count + padding != inputs[0].shape[-1]:
                break
            inputs.append(self._input(reader, statistics, offset - padding // 2, count + padding))
            shapes.append((padding // 2, count))
        outputs = self.network(np.stack(inputs))
        for output, (skip, count) in zip(outputs, shapes, strict=True):
            self._ready.append(output[..., skip : skip + count])

    def _input(self, reader: Reader, statistics: Statistics, start: int, count: int) -> Samples:
        """Normalised frames from `start` on; outside the recording there are zeros, after normalising."""
        begin, end = max(start, self.lead), min(start + count, self.total)
        padded = np.zeros((reader.channels, count), np.float32)
        if end > begin:
            samples = reader.read(begin - self.lead, end - begin)
            padded[:, begin - start : end - start] = (samples - statistics.mean) / statistics.deviation
        # The delay itself is made of zeros of the mixture, before normalising: as apply_model pads a normalised mix,
        # those are zeros too.
        return padded


def separate(
    networks: Sequence[Network],
    weights: Sequence[Sequence[float]] | None,
    reader: Reader,
    plan: Plan,
    *,
    statistics: Statistics,
    rng: random.Random | None = None,
    wanted: Collection[str] | None = None,
    since: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[tuple[int, dict[str, Samples]]]:
    """Consecutive blocks `(start, {stem: (channels, n)})`, together exactly as long as the recording.

    From frame `since` on, samples are the very ones that are made from the start. Networks that weigh nothing in the
    stems wanted are not run. `progress` gets segments, after each one; what it raises ends the separation.
    """
    rng = rng or random.Random(0)  # noqa: S311  # delays, not secrets
    stems = list(networks[0].sources)
    rows = weights if weights is not None else [[1.0] * len(stems) for _ in networks]
    totals = [sum(row[index] for row in rows) for index in range(len(stems))]
    chosen = [index for index, stem in enumerate(stems) if wanted is None or stem in wanted]
    repeats = max(1, plan.shifts)
    groups: list[tuple[list[Lane], Sequence[float]]] = []
    for network, row in zip(networks, rows, strict=True):
        longest = int(0.5 * network.samplerate)
        leads = [longest - rng.randint(0, longest) if plan.shifts else 0 for _ in range(repeats)]
        if any(row[index] for index in chosen):
            groups.append(([Lane(network, reader.frames, lead, plan, since) for lead in leads], row))
    lanes = [lane for group, _ in groups for lane in group]
    pending: list[deque[Samples]] = [deque() for _ in lanes]
    have = [since] * len(lanes)
    total, done, position = sum(lane.segments for lane in lanes), 0, since
    while position < reader.frames:
        index = min(range(len(lanes)), key=have.__getitem__)  # the one that is furthest behind
        start, block = lanes[index].step(reader, statistics)
        late = max(0, since + lanes[index].lead - start)
        if late < block.shape[-1]:
            pending[index].append(block[..., late:])
            have[index] += block.shape[-1] - late
        done += 1
        count = min(have) - position
        if count > 0:
            pieces = iter([_take(queue, count) for queue in pending])
            estimate = _combine(groups, pieces, totals, averaged=bool(plan.shifts))
            estimate = estimate * statistics.deviation + statistics.mean
            yield position, {stems[stem]: estimate[stem] for stem in chosen}
            position += count
        progress(done, total)


def _take(queue: deque[Samples], count: int) -> Samples:
    """The next `count` frames."""
    taken: list[Samples] = []
    while count:
        block = queue.popleft()
        if block.shape[-1] > count:
            queue.appendleft(block[..., count:])
            block = block[..., :count]
        taken.append(block)
        count -= block.shape[-1]
    return taken[0] if len(taken) == 1 else np.concatenate(taken, -1)


def _combine(
    groups: Sequence[tuple[list[Lane], Sequence[float]]], pieces: Iterator[Samples], totals: Sequence[float],
    *, averaged: bool,
) -> Samples:  # fmt: skip
    """The weighted mean over networks of the mean over shifts."""
    estimate: Samples | None = None
    for lanes, row in groups:
        one: Samples | None = None
        for _lane in lanes:
            piece = next(pieces)
            one = piece if one is None else one + piece
        assert one is not None  # noqa: S101  # a group has a lane
        if averaged:
            one = one / np.float32(len(lanes))
        one = one * np.asarray(row, np.float32)[:, None, None]
        estimate = one if estimate is None else estimate + one
    assert estimate is not None  # noqa: S101  # some network makes what is wanted
    return estimate / np.asarray([total or 1.0 for total in totals], np.float32)[:, None, None]
