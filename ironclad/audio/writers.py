"""The encoders: libsndfile for FLAC, WAV, MP3, Vorbis and Opus, FFmpeg for AAC and ALAC in MP4."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import av
import numpy as np
import soundfile

from ironclad.audio.frames import LAYOUTS, to_frame
from ironclad.audio.quantise import Quantiser
from ironclad.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from numpy.typing import NDArray

    from ironclad.audio.formats import EncodeSpec

_RIFF_LIMIT = 0xFFFFFFFF - (1 << 20)
_STEREO = 2
_LEVEL: Final[dict[str, dict[str, float]]] = {
    # libsndfile's compression level: LAME's V0, V2, V4; Vorbis' quality 8, 6, 4; Opus' 96, 64, 48 kbit/s a channel.
    "mp3": {"high": 0.0, "standard": 0.2, "small": 0.4},
    "ogg": {"high": 0.2, "standard": 0.4, "small": 0.6},
    "opus": {"high": 0.64, "standard": 0.768, "small": 0.832},
}
_AAC_BITS: Final = {"high": 128_000, "standard": 96_000, "small": 64_000}
"""Bits per second of one channel."""
_VORBIS_ORDER: Final = {6: [0, 2, 1, 4, 5, 3]}
"""Vorbis and Opus put the centre second and the bass channel last (Vorbis I, 4.3.9); libsndfile leaves that to us."""
_COMPRESSION_OF_FLAC = 0.625
"""libFLAC's level 5, its default."""


class Writer(Protocol):
    """Takes float32 (frames, channels) blocks in order."""

    def write(self, block: NDArray[np.float32]) -> None:
        """Append samples."""
        ...


@contextmanager
def open_writer(file: BinaryIO, spec: EncodeSpec, channels: int, rate: int, frames: int) -> Iterator[Writer]:
    """The writer for `spec` on an open file; when the context ends without an error the file is complete.

    Raises OSError if the file cannot be written, `StorageError` if the encoder failed for no such reason.
    """
    opened = _open_mp4 if spec.format in {"m4a", "alac"} else _open_sndfile
    target = _Target(file.fileno())
    try:
        with opened(target, spec, channels, rate, frames) as writer:
            yield writer
    except (soundfile.LibsndfileError, AssertionError, av.error.FFmpegError) as exc:
        # soundfile asserts that everything was written.
        raise target.failure or StorageError(f"the encoder failed: {exc}") from exc
    if target.failure is not None:
        raise target.failure


class _Target:
    """The file as the encoders see it. It remembers a failed write, because the encoders may not."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write everything, or note why not and write nothing from then on."""
        rest = memoryview(data)
        try:
            while rest and self.failure is None:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as exc:
            self.failure = exc
        return len(data) - len(rest)

    def read(self, count: int = -1) -> bytes:
        """Read up to `count` bytes."""
        return os.read(self._fd, max(0, count))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move."""
        return os.lseek(self._fd, offset, whence)

    def tell(self) -> int:
        """Where it stands."""
        return os.lseek(self._fd, 0, os.SEEK_CUR)


@contextmanager
def _open_sndfile(file: _Target, spec: EncodeSpec, channels: int, rate: int, frames: int) -> Iterator[Writer]:
    options: dict[str, Any] = {}
    match spec.format:
        case "wav":
            large = frames * channels * spec.bits // 8 > _RIFF_LIMIT
            options = {
                "format": "RF64" if large else "WAV" if channels <= _STEREO else "WAVEX",
                "subtype": f"PCM_{spec.bits}",
            }
        case "flac":
            options = {"format": "FLAC", "subtype": f"PCM_{spec.bits}", "compression_level": _COMPRESSION_OF_FLAC}
        case "mp3":
            options = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE"}
        case "ogg":
            options = {"format": "OGG", "subtype": "VORBIS"}
        case "opus":
            options = {"format": "OGG", "subtype": "OPUS"}
    if spec.format in _LEVEL:
        options["compression_level"] = _LEVEL[spec.format][spec.quality]
    quantiser = Quantiser(spec.bits) if spec.format in {"wav", "flac"} else None
    with soundfile.SoundFile(cast("BinaryIO", file), "w", rate, channels, **options) as sound:
        yield _Sndfile(sound, quantiser, _VORBIS_ORDER.get(channels) if spec.format in {"ogg", "opus"} else None)


class _Sndfile:
    def __init__(self, sound: soundfile.SoundFile, quantiser: Quantiser | None, order: list[int] | None) -> None:
        self._sound = sound
        self._quantiser = quantiser
        self._order = order

    def write(self, block: NDArray[np.float32]) -> None:
        if self._order is not None:
            block = block[:, self._order]
        self._sound.write(block if self._quantiser is None else self._quantiser(block))


@contextmanager
def _open_mp4(file: _Target, spec: EncodeSpec, channels: int, rate: int, _frames: int) -> Iterator[Writer]:
    # The edit list, which says where the recording begins and ends, counts in movie time: let that be samples.
    options = {"movie_timescale": str(rate), "fflags": "+bitexact"}
    with av.open(file, "w", format="ipod", options=options) as container:
        codec = "alac" if spec.format == "alac" else "aac"
        stream = cast("av.AudioStream", container.add_stream(codec, rate=rate, layout=LAYOUTS[channels]))
        context = stream.codec_context
        if codec == "aac":
            form = "fltp"
            context.bit_rate = _AAC_BITS[spec.quality] * channels
        else:
            form = "s16p" if spec.bits == 16 else "s32p"  # noqa: PLR2004 -- of 16 and 24
            context.format = av.AudioFormat(form)
        context.options = {"flags": "+bitexact"}
        context.open()
        writer = _Mp4(container, stream, form, rate)
        writer.quantiser = None if codec == "aac" else Quantiser(spec.bits)
        yield writer
        writer.finish()


class _Mp4:
    """Cuts blocks into the encoder's frames."""

    def __init__(self, container: Any, stream: av.AudioStream, form: str, rate: int) -> None:
        self._container = container
        self._stream = stream
        self._form = form
        self._rate = rate
        self._size = stream.codec_context.frame_size or 4096
        self._position = 0
        self._rest: NDArray[Any] | None = None
        self.quantiser: Quantiser | None = None

    def write(self, block: NDArray[np.float32]) -> None:
        samples: NDArray[Any] = block
        if self.quantiser is not None:
            samples = self.quantiser(block)
            if self._form == "s16p":
                samples = (samples >> 16).astype(np.int16)
        if self._rest is not None and len(self._rest):
            samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % self._size
        for start in range(0, whole, self._size):
            self._encode(samples[start : start + self._size])
        self._rest = samples[whole:].copy()

    def finish(self) -> None:
        if self._rest is not None and len(self._rest):
            self._encode(self._rest)
        self._container.mux(self._stream.encode(None))

    def _encode(self, samples: NDArray[Any]) -> None:
        frame = to_frame(samples, self._form, self._rate, self._position)
        self._position += len(samples)
        self._container.mux(self._stream.encode(frame))
