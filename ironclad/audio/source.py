"""An untrusted audio file, read with FFmpeg. Runs in the sandbox child only.

FFmpeg sees one file object through one demuxer that we named; it can open nothing by itself.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

import av
from av.error import FFmpegError

from ironclad.audio.declared import Promise, read_promise
from ironclad.audio.describe import describe, lost_start
from ironclad.audio.frames import silence, to_float
from ironclad.audio.mpeg import parse_mpeg
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

    import numpy as np
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from numpy.typing import NDArray

    from ironclad.audio.info import AudioInfo, AudioLimits

_IO_BUFFER = 1 << 18
_SAMPLE_BYTES = 4
_MAX_DEMUX_FAILURES = 16
_PADDED: Final = {"mov", "ogg", "caf"}
"""Containers that declare where the recording ends inside the last block, which FFmpeg does not always respect."""
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
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SourceMissing(str(path)) from None
    except PermissionError as exc:
        raise SourceUnreadable(f"{path}: {exc.strerror}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotAudio("it is not a regular file")
    return os.fdopen(fd, "rb", buffering=0)


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
        """Packets that could not be decoded (or read) so far, and stretches without any."""
        self.packets = 0
        self.lost = 0
        """Samples that are zeros because they were lost."""
        self._demuxer = demuxer
        self._container = container
        self._window = window
        self._stream = self._choose(container)
        self._frames = self._decode()
        self._first = next(self._frames, None)
        if self._first is None:
            self._nothing()
        self.info = describe(container, self._stream, self._first, demuxer, promise)
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
        if (container.format.name, context.name) == ("caf", "alac"):
            context.options["flags2"] = "+skip_manual"  # FFmpeg takes the padding off twice
        return stream

    def _nothing(self) -> NoReturn:
        if self.promise.cut or self.promise.frames or (self.promise.exact and self._stream.duration):
            raise TruncatedAudio(self.promise.cut or "its header is there and its samples are not")
        if self.damaged:
            raise CorruptAudio("no part of it can be decoded")
        raise NoSamples

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
        info, frame = self.info, self._first
        end = info.declared_frames if info.container in _PADDED else None
        tick = float(frame.time_base or 0) * info.sample_rate if frame is not None else 0.0
        origin: float | None = None
        done = known = 0
        padding: NDArray[np.float32] | None = None
        while frame is not None:
            if (frame.sample_rate, frame.layout.nb_channels) != (info.sample_rate, info.channels):
                raise CorruptAudio("its sample rate or its number of channels changes on the way")
            block = to_float(frame)
            if frame.pts is not None:
                at = frame.pts * tick
                origin = self._origin(at, tick) if origin is None else origin
                gap = round(at - origin) - done
                if gap >= info.sample_rate // (50 if self.damaged == known else 100):
                    self.damaged += self.damaged == known
                    self.lost += gap
                    yield from silence(gap, info.channels)
                    done += gap
                known = self.damaged
            if padding is not None and info.container == "ogg":  # streams chained to one file: it was no padding
                yield padding
                done += len(padding)
                end = padding = None
            if end is not None and done + len(block) > end:
                cut = max(0, end - done)
                block, padding = block[:cut], block[cut:]
            done += len(block)
            yield block
            frame = next(self._frames, None)

    def _origin(self, first: float, tick: float) -> float:
        """The timestamp of sample 0: the first frame's, unless something before it was lost."""
        began = lost_start(self._stream, self.promise, self.info.sample_rate)
        if began is not None:
            return began
        start = self._stream.start_time
        return start * tick if self.damaged and start is not None else first

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
                if self._demuxer == "mp3" and packet.size:
                    self.damaged += _has_junk(packet)
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


def _has_junk(packet: Packet[Any]) -> bool:
    """Whether bytes that belong to no frame follow the frame: FFmpeg skips them without a word."""
    header = parse_mpeg(bytes(memoryview(packet)[:4]))
    return header is not None and packet.size > header.length


def check_length(frames: int, info: AudioInfo, limits: AudioLimits) -> None:
    """Raise `TooLong` or `DecodedTooLarge` if a signal of `frames` is over the limits."""
    if frames > limits.max_seconds * info.sample_rate:
        raise TooLong(f"more than {limits.max_seconds:g} s", seconds=round(frames / info.sample_rate, 1))
    size = frames * info.channels * _SAMPLE_BYTES
    if size > limits.max_decoded_bytes:
        raise DecodedTooLarge(f"{size} bytes of {limits.max_decoded_bytes} allowed", bytes=size)
