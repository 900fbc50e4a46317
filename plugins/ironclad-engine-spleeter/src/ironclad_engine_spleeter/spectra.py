"""Spleeter's transforms, blocks and masks, over a recording of any length in constant memory.

As spleeter 2.4.2 `model/__init__.py`: 4096 zeros before the recording, windows of 4096 samples every 1024, blocks of
512 frames that no network looks beyond, masks of squared magnitudes, zeros above the networks' band, overlap-add.
Because the blocks are independent, the result is that of the whole recording at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ironclad_engine_spleeter.recipes import FRAMES, HOP, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ironclad.engines.host.api import Reader

    Samples = NDArray[np.float32]
    Spectrum = NDArray[np.complex64]
    Masker = Callable[["Block", Sequence[Samples]], Sequence[Spectrum]]

_EPSILON: Final = np.float32(1e-10)
_COMPENSATION: Final = np.float32(2 / 3)
"""Of the windows that overlap, squared."""
_TAIL: Final = WINDOW - HOP
_OVERLAP: Final = WINDOW // HOP
_AT_ONCE: Final = 32
"""Frames that are transformed at a time: what does not leave the cache takes half the time."""


@dataclass(frozen=True)
class Block:
    """512 frames of the recording, or what is left: `(channels, frames, 2049)`."""

    index: int
    spectrum: Spectrum


def window() -> Samples:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def count_frames(samples: int) -> int:
    """Frames of a recording, with the zeros before it."""
    return -(-(samples + WINDOW) // HOP)


def count_blocks(samples: int) -> int:
    """Blocks of a recording."""
    return -(-count_frames(samples) // FRAMES)


def first_block(since: int) -> int:
    """The first block that samples from `since` on depend on: its frames reach 3072 samples into the next one."""
    return max(0, (since + WINDOW) // (FRAMES * HOP) - 1)


def blocks(reader: Reader, first: int = 0) -> Iterator[Block]:
    """The recording, block by block."""
    shape = window()
    total = count_frames(reader.frames)
    for index in range(first, count_blocks(reader.frames)):
        count = min(FRAMES, total - index * FRAMES)
        samples = _read(reader, index * FRAMES * HOP - WINDOW, (count - 1) * HOP + WINDOW)
        windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW, axis=-1)[:, ::HOP]
        spectrum = np.empty((reader.channels, count, WINDOW // 2 + 1), np.complex64)
        for start in range(0, count, _AT_ONCE):
            few = slice(start, start + _AT_ONCE)
            spectrum[:, few] = np.fft.rfft(windows[:, few] * shape, axis=-1)
        yield Block(index, spectrum)


def _read(reader: Reader, start: int, count: int) -> Samples:
    """Samples from `start` on, zeros outside the recording."""
    padded = np.zeros((reader.channels, count), np.float32)
    begin, end = max(0, start), min(reader.frames, start + count)
    if end > begin:
        padded[:, begin - start : end - start] = reader.read(begin, end - begin)
    return padded


def magnitudes(block: Block, bins: int) -> Samples:
    """What the networks see: `(channels, 1, 512, bins)`, zeros after the end."""
    count = block.spectrum.shape[1]
    made = np.zeros((block.spectrum.shape[0], 1, FRAMES, bins), np.float32)
    made[:, 0, :count] = np.abs(block.spectrum[:, :, :bins])
    return made


def ratio_masks(block: Block, estimates: Sequence[Samples]) -> list[Spectrum]:
    """Each stem's spectrum `(channels, frames, bins)` by its share of the squared estimates."""
    count, bins = block.spectrum.shape[1], estimates[0].shape[-1]
    squares = [estimate[:, 0, :count] ** 2 for estimate in estimates]
    total = np.sum(squares, axis=0) + _EPSILON
    share = _EPSILON / np.float32(len(squares))
    return [block.spectrum[:, :, :bins] * ((square + share) / total) for square in squares]


def separate(
    reader: Reader,
    stems: Sequence[str],
    networks: Callable[[Samples], Sequence[Samples]],
    bins: int,
    *,
    masks: Masker = ratio_masks,
    since: int = 0,
) -> Iterator[Mapping[str, Samples]]:
    """Consecutive pieces `{stem: (channels, n)}`, together exactly as long as the recording from sample `since` on.

    `networks` gets magnitudes and gives every stem's.
    """
    total = count_blocks(reader.frames)
    shape = window() * _COMPENSATION
    tails = [np.zeros((reader.channels, _TAIL), np.float32) for _ in stems]
    for block in blocks(reader, first_block(since)):
        spectra = masks(block, networks(magnitudes(block, bins)))
        count, start = block.spectrum.shape[1], block.index * FRAMES * HOP - WINDOW
        pieces: dict[str, Samples] = {}
        for index, (stem, spectrum) in enumerate(zip(stems, spectra, strict=True)):
            summed = _overlapped(spectrum, shape)
            summed[:, :_TAIL] += tails[index]
            tails[index] = summed[:, count * HOP :]
            whole = summed if block.index == total - 1 else summed[:, : count * HOP]
            pieces[stem] = whole[:, max(0, since - start) : reader.frames - start]
        if pieces[stems[0]].shape[1]:
            yield pieces


def _overlapped(spectrum: Spectrum, shape: Samples) -> Samples:
    """Waves of a block's frames, added up: `(channels, frames · 1024 + 3072)`."""
    channels, count, _bins = spectrum.shape
    summed = np.zeros((channels, count + _OVERLAP - 1, HOP), np.float32)
    for start in range(0, count, _AT_ONCE):
        few = spectrum[:, start : start + _AT_ONCE]
        waves = np.fft.irfft(few, n=WINDOW, axis=-1).astype(np.float32, copy=False) * shape  # zeros above the band
        for quarter in range(_OVERLAP):
            first = start + quarter
            summed[:, first : first + waves.shape[1]] += waves[:, :, quarter * HOP : (quarter + 1) * HOP]
    flat: Samples = summed.reshape(channels, -1)
    return flat


class Wiener:
    """The multichannel Wiener filter, as spleeter's `MWF` has it: one step of expectation-maximisation.

    After A. Nugraha, A. Liutkus and E. Vincent, "Multichannel audio source separation with deep neural networks",
    IEEE/ACM TASLP 24(9), 2016, with the regularisation of norbert 0.2.1: spatial covariances are those of the softly
    masked stems over the whole recording, so that every block must be given to `learn` before the first to `masks`.
    """

    _REGULAR: Final = float(np.finfo(np.float32).eps)

    def __init__(self, stems: int, bins: int) -> None:
        self._covariance = np.zeros((stems, bins, 2, 2), np.complex128)
        self._power = np.zeros((stems, bins))
        self._largest = 0.0

    def learn(self, block: Block, estimates: Sequence[Samples]) -> None:
        """Take a block into the covariances."""
        self._largest = max(self._largest, float(np.abs(block.spectrum).max(initial=0.0)))
        for index, stem in enumerate(self._soft(block, estimates)):
            self._covariance[index] += np.einsum("itf,jtf->fij", stem, stem.conj())
            self._power[index] += (np.abs(stem) ** 2).mean(0).sum(0)

    def masks(self, block: Block, estimates: Sequence[Samples]) -> list[Spectrum]:
        """Each stem's spectrum."""
        scale = max(1.0, self._largest / 10.0)
        weight = self._REGULAR + self._power / scale**2
        spatial = (self._covariance / scale**2 / weight[..., None, None]).astype(np.complex64)
        bins = estimates[0].shape[-1]
        mixture = block.spectrum[:, :, :bins] / np.float32(scale)
        powers = [(np.abs(stem) ** 2).mean(0) / scale**2 for stem in self._soft(block, estimates)]
        total = sum(power[..., None, None] * one for power, one in zip(powers, spatial, strict=True))
        total = total + np.sqrt(self._REGULAR) * np.eye(2)
        inverse = _inverted(total)
        whitened = np.einsum("tfij,jtf->tfi", inverse, mixture)
        return [
            (np.einsum("fij,tfj->itf", one, whitened) * power * scale).astype(np.complex64)
            for power, one in zip(powers, spatial, strict=True)
        ]

    def _soft(self, block: Block, estimates: Sequence[Samples]) -> Iterator[Spectrum]:
        count, bins = block.spectrum.shape[1], estimates[0].shape[-1]
        total = np.sum([estimate[:, 0, :count] for estimate in estimates], axis=0) + np.float32(self._REGULAR)
        for estimate in estimates:
            yield block.spectrum[:, :, :bins] * (estimate[:, 0, :count] / total)


def _inverted(matrices: Any) -> Any:
    """Inverses of 2 by 2 matrices."""
    a, b, c, d = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 0], matrices[..., 1, 1]
    made = np.empty_like(matrices)
    made[..., 0, 0], made[..., 0, 1], made[..., 1, 0], made[..., 1, 1] = d, -b, -c, a
    return made / (a * d - b * c)[..., None, None]
