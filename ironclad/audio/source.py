"""An untrusted audio file, read with FFmpeg. Runs in the sandbox child only.

FFmpeg sees one file object through one demuxer that we named; it can open nothing by itself.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

import av
import numpy as np
from av.error import FFmpegError

from ironclad.audio.declared import Promise, read_promise
from ironclad.audio.info import AudioInfo, AudioLimits
from ironclad.audio.sniff import Window, sniff
from ironclad.errors import (
    CorruptAudio,
    DecodedTooLarge,
    NoSamples,
    NotAudio,
    SampleRateUnsupported,
    SourceMissing,
    SourceUnreadable,
    TooLarge,
    TooLong,
    TooManyChannels,
    TruncatedAudio,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from numpy.typing import NDArray

_IO_BUFFER = 1 << 18
_SAMPLE_BYTES = 4
_MAX_DEMUX_FAILURES = 16
_FAMILY_OF_CODEC: Final = {
    "flac": "flac",
    "alac": "alac",
    "mp3": "mp3",
    "mp3float": "mp3",
    "aac": "aac",
    "vorbis": "vorbis",
    "opus": "opus",
    "libopus": "opus",
}
_LOSSLESS: Final = {"flac", "alac", "tta", "wavpack", "wmalossless"}
_PCM = re.compile(r"pcm_[fsu](\d+)")
_EXACT_DURATION: Final = {"aiff", "au", "caf", "mov", "ogg", "w64", "wv"}
"""Demuxers whose stream duration is a count of samples out of the headers."""
_SCALE: Final = {"u8": 2.0**-7, "s16": 2.0**-15, "s32": 2.0**-31, "flt": 1.0, "dbl": 1.0}
_U8_ZERO = 128
_DRM_TAGS: Final = {"drms", "enca", "p608"}


@contextmanager
def open_source(path: Path, limits: AudioLimits) -> Iterator[Source]:
    """Open `path` and read it up to its first samples, so that everything in `info` is known.

    Raises `SourceMissing`, `SourceUnreadable`, `TooLarge`, `EmptyFile`, `NotAudio`, `NoSamples`, `CorruptAudio`,
    `TruncatedAudio` (cut so that nothing can be decoded), `TooLong`, `DecodedTooLarge`, `TooManyChannels`,
    `SampleRateUnsupported`.
    """
    with _open(path) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NotAudio("it is not a regular file")
        if status.st_size > limits.max_bytes:
            raise TooLarge(f"{status.st_size} bytes of {limits.max_bytes} allowed", bytes=status.st_size)
        sniffed = sniff(file, status.st_size)
        promise = read_promise(file, status.st_size, sniffed)
        window = Window(file.fileno(), sniffed.start, status.st_size)
        with translated(promise):
            container = av.open(
                window,
                "r",
                format=sniffed.demuxer,
                options={"err_detect": "crccheck"},
                metadata_errors="replace",
                buffer_size=_IO_BUFFER,
                io_open=_refuse,
            )
        with container:
            yield Source(container, sniffed.demuxer, promise, window, limits)


def _open(path: Path) -> BinaryIO:
    try:
        # Non-blocking: a FIFO under a music file's name must not hold the child up.
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    except FileNotFoundError:
        raise SourceMissing(str(path)) from None
    except (PermissionError, IsADirectoryError) as exc:
        raise SourceUnreadable(f"{path}: {exc.strerror}") from None


def _refuse(url: str, *_: Any) -> NoReturn:
    raise NotAudio(f"it refers to another file: {url[:200]}")


@contextmanager
def translated(promise: Promise) -> Iterator[None]:
    """Turn FFmpeg's errors into the catalogue's."""
    try:
        yield
    except FFmpegError as exc:
        if exc.errno == errno.ENOMEM:
            raise MemoryError from exc
        if promise.cut:
            raise TruncatedAudio(promise.cut) from exc
        raise CorruptAudio(exc.strerror or str(exc)) from exc


class Source:
    """An opened file: `info`, and its samples once."""

    def __init__(
        self, container: InputContainer, demuxer: str, promise: Promise, window: Window, limits: AudioLimits
    ) -> None:
        self.promise = promise
        self.damaged = 0
        """Packets that could not be decoded (or read) so far."""
        self.packets = 0
        self._container = container
        self._window = window
        self._stream = self._choose(container)
        self._frames = self._decode()
        self._first = next(self._frames, None)
        if self._first is None:
            self._nothing()
        self.info = self._describe(self._first, demuxer)
        self._accept(limits)

    @staticmethod
    def _choose(container: InputContainer) -> AudioStream:
        """The first audio stream: for films and stem files, the mix."""
        if not container.streams.audio:
            raise NotAudio("it has no audio stream")
        stream = container.streams.audio[0]
        context = stream.codec_context
        tag = context.codec_tag if context is not None else ""
        if tag in _DRM_TAGS:
            raise NotAudio("it is copy-protected")
        if context is None:
            raise NotAudio("its codec is unknown")
        context.thread_count = 1
        # A frame with a bad checksum must be counted, not played.
        context.options = {"err_detect": "crccheck+explode" if context.name == "flac" else "crccheck"}
        return stream

    def _nothing(self) -> NoReturn:
        if self.promise.cut or self.promise.frames:
            raise TruncatedAudio(self.promise.cut or f"none of {self.promise.frames} samples is there")
        if self.damaged:
            raise CorruptAudio("no part of it can be decoded")
        raise NoSamples

    def _describe(self, first: AudioFrame, demuxer: str) -> AudioInfo:
        codec = self._stream.codec_context.name
        rate, channels = first.sample_rate, first.layout.nb_channels
        declared = self._declared(demuxer, codec, rate)
        seconds = None if declared is None else declared / rate
        if seconds is None and self._stream.duration is not None and self._stream.time_base:
            seconds = float(self._stream.duration * self._stream.time_base)
        if seconds is None and self._container.duration is not None:
            seconds = self._container.duration / 1_000_000
        return AudioInfo(
            family=_family(codec, demuxer),
            container=demuxer,
            codec=codec.removesuffix("float"),
            lossless=codec in _LOSSLESS or _PCM.match(codec) is not None,
            sample_rate=rate,
            channels=channels,
            declared_frames=declared,
            duration=seconds,
            bits_per_sample=self._bits(codec, first),
            bit_rate=self._stream.codec_context.bit_rate or self._container.bit_rate or None,
        )

    def _declared(self, demuxer: str, codec: str, rate: int) -> int | None:
        if self.promise.frames is not None:
            return self.promise.frames
        stream = self._stream
        if (smpb := _itunes_samples(self._container.metadata.get("iTunSMPB", ""))) is not None:
            return smpb
        if demuxer not in _EXACT_DURATION or not self.promise.exact or not stream.duration or not stream.time_base:
            return None
        if demuxer == "ogg" and self.promise.cut:
            return None  # FFmpeg counts to the last page that is there
        frames = round(stream.duration * stream.time_base * rate)
        if demuxer == "ogg" and codec in {"opus", "libopus"}:
            frames -= int.from_bytes(
                (stream.codec_context.extradata or b"")[10:12], "little"
            )  # RFC 7845, 5.1: pre-skip
        return max(0, frames)

    def _bits(self, codec: str, first: AudioFrame) -> int | None:
        if (pcm := _PCM.match(codec)) is not None:
            return int(pcm[1])
        if self.promise.bits is not None and codec in _LOSSLESS:
            return self.promise.bits
        extradata = self._stream.codec_context.extradata or b""
        if codec == "alac" and len(extradata) > 17:  # noqa: PLR2004 -- bitDepth in its magic cookie
            return extradata[17]
        return 16 if codec in _LOSSLESS and first.format.name.startswith("s16") else None

    def _accept(self, limits: AudioLimits) -> None:
        info = self.info
        if info.channels > limits.max_channels:
            raise TooManyChannels(f"{info.channels} of {limits.max_channels} allowed", channels=info.channels)
        if not limits.min_sample_rate <= info.sample_rate <= limits.max_sample_rate:
            raise SampleRateUnsupported(f"{info.sample_rate} Hz", sample_rate=info.sample_rate)
        if info.declared_frames is not None:
            check_length(info.declared_frames, info, limits)

    def samples(self) -> Iterator[NDArray[np.float32]]:
        """Float32 (frames, channels) arrays of any length, in order, delay and padding removed. Once only.

        Samples that a damaged stretch of the file lost are zeros, as far as the file's timestamps tell.
        """
        info, first = self.info, self._first
        end = info.declared_frames if info.container == "mov" else None
        origin: float | None = None
        done = 0
        while first is not None:
            if (first.sample_rate, first.layout.nb_channels) != (info.sample_rate, info.channels):
                raise CorruptAudio("its sample rate or its number of channels changes on the way")
            block = to_float(first)
            if first.pts is not None and first.time_base:
                at = float(first.pts * first.time_base) * info.sample_rate
                origin = at if origin is None else origin
                gap = round(at - origin) - done
                if gap > max(len(block), info.sample_rate // 50):
                    self.damaged += 1
                    yield from silence(gap, info.channels)
                    done += gap
            if end is not None:
                block = block[: max(0, end - done)]
            done += len(block)
            yield block
            first = next(self._frames, None)

    @property
    def progress(self) -> float:
        """Share of the file that was read, 0 to 1."""
        return min(1.0, self._window.tell() / max(1, self._window.length))

    def _decode(self) -> Iterator[AudioFrame]:
        failures = 0
        packets = self._container.demux(self._stream)
        while failures <= _MAX_DEMUX_FAILURES:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                failures = 0
                self.packets += packet.size > 0
            except FFmpegError as exc:
                self._count(exc)
                failures += 1
                packets = self._container.demux(self._stream)
                continue
            try:
                frames = self._stream.codec_context.decode(packet)
            except FFmpegError as exc:
                self._count(exc)
                continue
            for frame in frames:
                self.damaged += bool(frame.is_corrupt)
                if frame.samples:
                    yield frame

    def _count(self, exc: FFmpegError) -> None:
        if exc.errno == errno.ENOMEM:
            raise MemoryError from exc
        self.damaged += 1


def check_length(frames: int, info: AudioInfo, limits: AudioLimits) -> None:
    """Raise `TooLong` or `DecodedTooLarge` if a signal of `frames` is over the limits."""
    if frames > limits.max_seconds * info.sample_rate:
        raise TooLong(f"more than {limits.max_seconds:g} s", seconds=round(frames / info.sample_rate, 1))
    size = frames * info.channels * _SAMPLE_BYTES
    if size > limits.max_decoded_bytes:
        raise DecodedTooLarge(f"{size} bytes of {limits.max_decoded_bytes} allowed", bytes=size)


def silence(frames: int, channels: int) -> Iterator[NDArray[np.float32]]:
    """Zeros in blocks of bounded size."""
    zeros = np.zeros((min(frames, 1 << 16), channels), np.float32)
    while frames > 0:
        yield zeros[:frames]
        frames -= len(zeros)


def to_float(frame: AudioFrame) -> NDArray[np.float32]:
    """A frame's samples as float32 (frames, channels), full scale ±1; 24-bit integers are exact."""
    kind = frame.format.name.removesuffix("p")
    if kind not in _SCALE:
        raise NotAudio(f"its sample format {kind} is not supported")
    data = frame.to_ndarray()
    shaped = data.T if frame.format.is_planar else data.reshape(-1, frame.layout.nb_channels)
    if kind == "flt":
        return shaped.astype(np.float32, copy=False)
    if kind == "u8":
        shaped = shaped.astype(np.int16) - _U8_ZERO
    return (shaped * np.float32(_SCALE[kind])).astype(np.float32, copy=False)


def _family(codec: str, demuxer: str) -> str:
    if codec.startswith("pcm_"):
        return "aiff" if demuxer == "aiff" else "wav"
    return "wma" if codec.startswith("wma") else _FAMILY_OF_CODEC.get(codec, "other")


def _itunes_samples(smpb: str) -> int | None:
    """The original sample count of an iTunSMPB comment: ` 00000000 DELAY PADDING COUNT …`, hexadecimal."""
    fields = smpb.split()
    try:
        return int(fields[3], 16) or None
    except (IndexError, ValueError):
        return None
