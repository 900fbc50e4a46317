"""Voice extraction without a model: what both channels share, in the band and manner of a voice, by a soft mask.

The mask multiplies two measures of each time-frequency bin of the two channels L and R:

* *similarity* `max(0, 2 Re(L R*) / (|L|² + |R|²)) ** sharpness`: 1 for what is panned to the centre, after C. Avendano,
  "Frequency-domain source identification and manipulation in stereo mixes for enhancement, suppression and re-panning
  applications", IEEE WASPAA 2003, sections 2 and 3;
* *steadiness* `H² / (H² + transients·P²)`, where H and P are the centre's magnitude averaged along time and along
  frequency: low for drum hits, which are broad and short. The idea is that of D. FitzGerald, "Harmonic/percussive
  separation using median filtering", DAFx-10, 2010, with means for medians (they measured as well, at a fraction of
  the time).

Below `low_hz` and above `high_hz` everything stays in the accompaniment: bass and kick drum are in the centre as well.
The voice is `mask · (L + R) / 2` on both channels and the accompaniment is the mixture minus the voice, so the two sum
to the mixture. Memory does not depend on the length. Runs in the engine host: NumPy and the host's API only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ironclad.engines.host.api import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from ironclad.engines.host.api import LoadRequest, Reader, Samples, Sinks

    Spectrum = NDArray[np.complex64]

_STEREO = 2
_WINDOW = 4096
"""Samples at 44.1 kHz, scaled to the nearest power of two at other rates: 93 ms."""
_OVERLAP = 4
_BLOCK = 128
"""Frames worked on at a time: what bounds the memory."""
_CONTEXT = 3
"""Frames on each side that the average along time reaches: 70 ms."""
_BREADTH = 30
"""Bins on each side that the average along frequency reaches: 320 Hz."""
_SURVEY = 1 << 18
_MONO = 1e-5
"""Share of the weaker principal component below which there is one stereo position only (-50 dB)."""
_GRID = np.float32(2**23)
"""The voice is rounded to 24 bits, so that mixture minus voice is exact for mixtures of 16 and 24 bits."""
_TINY = np.float32(1e-12)


class CenterSeparator:
    """The engine, as the host runs it: stems `vocals` and `accompaniment`, any sample rate, two channels."""

    def load(self, request: LoadRequest) -> None:
        """There is nothing to load. Raises `EngineError` for a device other than the CPU."""
        if request.device != "cpu":
            raise EngineError("model", f"the centre engine runs on the CPU, not on {request.device}")

    def separate(
        self,
        reader: Reader,
        sinks: Sinks,
        params: Mapping[str, Any],
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],  # noqa: ARG002  # progress comes often enough
    ) -> None:
        """Separate a recording. Raises `EngineError` (input) if it is not stereo in fact."""
        if reader.channels > _STEREO:
            message = f"the centre engine takes two channels, not {reader.channels}: mix them down first"
            raise EngineError("input", message, "E_TOO_MANY_CHANNELS")
        survey, total = reader.frames // 8, reader.frames + reader.frames // 8
        _refuse_mono(reader, lambda done: progress(done // 8, total))
        mask = _Mask(params, reader.rate)
        for voice in _voices(reader, mask):
            mixture = reader.read(sinks.frames, voice.shape[-1])
            vocals = np.broadcast_to(voice, mixture.shape)
            sinks.write({"vocals": vocals, "accompaniment": mixture - vocals})
            progress(survey + sinks.frames, total)


class _Mask:
    """The soft mask for blocks of frames at one sample rate."""

    def __init__(self, params: Mapping[str, Any], rate: int) -> None:
        self.window = max(256, int(_WINDOW * 2.0 ** round(math.log2(rate / 44100))))
        self._sharpness = np.float32(params["sharpness"])
        self._transients = np.float32(params["transients"])
        low, high = float(params["low_hz"]), float(params["high_hz"])
        hertz = np.fft.rfftfreq(self.window, 1 / rate)
        # Straight slopes of a third of an octave: an edge inside a bin would ring.
        rising = np.clip((hertz - 0.8 * low) / (0.4 * low), 0, 1) if low else np.ones_like(hertz)
        falling = np.clip((1.1 * high - hertz) / (0.2 * high), 0, 1)
        self._band = (rising * falling).astype(np.float32)

    def __call__(self, left: Spectrum, right: Spectrum) -> NDArray[np.float32]:
        """Mask of the frames between the first and the last `_CONTEXT`: `(frames - 2·_CONTEXT, bins)`."""
        inner = slice(_CONTEXT, len(left) - _CONTEXT)
        a, b = left[inner], right[inner]
        shared = 2 * (a.real * b.real + a.imag * b.imag)
        energy = a.real**2 + a.imag**2 + b.real**2 + b.imag**2
        mask = np.maximum(shared / (energy + _TINY), 0) ** self._sharpness
        if self._transients:
            mask *= self._steadiness(np.abs(left + right), inner)
        return np.asarray(mask * self._band)

    def _steadiness(self, centre: NDArray[np.float32], inner: slice) -> NDArray[np.float32]:
        span = 2 * _CONTEXT + 1
        count = len(centre) - span + 1
        along_time = sum((centre[i : i + count] for i in range(1, span)), start=centre[:count]) / np.float32(span)
        # Running sums in double precision: their differences would lose the quiet bins in single precision.
        padded = np.pad(centre[inner], ((0, 0), (_BREADTH + 1, _BREADTH)), mode="edge")
        sums = np.cumsum(padded, axis=1, dtype=np.float64)
        width = 2 * _BREADTH + 1
        along_frequency = ((sums[:, width:] - sums[:, :-width]) / width).astype(np.float32)
        steady, sudden = along_time**2, along_frequency**2
        return np.asarray(steady / (steady + self._transients * sudden + _TINY))


def _refuse_mono(reader: Reader, progress: Callable[[int], None]) -> None:
    """Raises `EngineError` if all sound comes from one stereo position: then nothing tells the voice from the rest.

    That is so when one of the two principal components of the channels is empty. Silence passes.
    """
    covariance = np.zeros((2, 2))
    for start in range(0, reader.frames if reader.channels == _STEREO else 0, _SURVEY):
        count = min(_SURVEY, reader.frames - start)
        samples = reader.read(start, count).astype(np.float64)
        covariance += samples @ samples.T
        progress(start + count)
    weak, strong = np.linalg.eigvalsh(covariance)
    if reader.channels == 1 or (strong > 0 and weak < _MONO * strong):
        raise EngineError("input", "all sound comes from one stereo position", "E_MONO_INPUT")


def _voices(reader: Reader, mask: _Mask) -> Iterator[Samples]:
    """The voice, mono, in consecutive blocks: `(frames,)`, together exactly as long as the recording."""
    size, hop = mask.window, mask.window // _OVERLAP
    lead = size - hop
    # Square-root Hann windows on both sides sum to a constant at this overlap.
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    scale = np.float32(hop / (window**2).sum())
    tail = np.zeros(lead, np.float32)
    for first in range(0, -(-(reader.frames + lead) // hop), _BLOCK):
        left, right = _spectra(reader, window, first - _CONTEXT, _BLOCK + 2 * _CONTEXT)
        centre = (left + right)[_CONTEXT:-_CONTEXT] * (mask(left, right) * np.float32(0.5))
        pieces = np.fft.irfft(centre, n=size, axis=-1).astype(np.float32) * (window * scale)
        output = np.zeros(_BLOCK * hop + lead, np.float32)
        output[:lead] = tail
        for part in range(_OVERLAP):
            rows = output[part * hop : (part + _BLOCK) * hop].reshape(_BLOCK, hop)
            rows += pieces[:, part * hop : (part + 1) * hop]
        tail = output[_BLOCK * hop :].copy()
        start = first * hop - lead
        voice = output[max(0, -start) : max(0, min(_BLOCK * hop, reader.frames - start))]
        if voice.size:
            yield np.rint(voice * _GRID) / _GRID


def _spectra(reader: Reader, window: Samples, first: int, count: int) -> Spectrum:
    """Spectra of frames `first` to `first + count`, silence outside the recording: `(channels, count, bins)`."""
    size, hop = len(window), len(window) // _OVERLAP
    start = first * hop - (size - hop)
    padded = np.zeros((_STEREO, (count - 1) * hop + size), np.float32)
    begin, end = max(0, start), min(reader.frames, start + padded.shape[1])
    if end > begin:
        padded[:, begin - start : end - start] = reader.read(begin, end - begin)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[:, ::hop]
    return np.fft.rfft(frames * window, axis=-1).astype(np.complex64)
