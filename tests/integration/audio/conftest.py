"""Signals and files made by code."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, cast

import av
import numpy as np
import pytest
import soundfile

from ironclad.audio.info import AudioLimits
from ironclad.audio.pcm import PcmFile, PcmWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


class MakeFile(Protocol):
    def __call__(self, name: str, signal: NDArray[np.float32] | None = None, rate: int = 44100) -> Path: ...


@pytest.fixture(scope="session")
def limits() -> AudioLimits:
    """Small enough that a runaway decode ends soon."""
    return replace(AudioLimits(), decode_seconds=20, decode_wall_seconds=60.0)


@pytest.fixture(scope="session")
def noise() -> Callable[..., NDArray[np.float32]]:
    """Band-limited noise, different in every channel and swelling: its place in time cannot be mistaken."""

    def make(seconds: float = 1.3, channels: int = 2, rate: int = 44100, seed: int = 0) -> NDArray[np.float32]:
        frames = round(seconds * rate) + 7
        random = np.random.default_rng(seed)
        taper = np.hanning(16) / 8
        parts = [np.convolve(random.standard_normal(frames), taper, "same") for _ in range(channels)]
        time = np.arange(frames)[:, None] / rate
        swell = 1 + 0.5 * np.sin(2 * np.pi * (0.7 + np.arange(channels)) * time)
        return (0.08 * np.stack(parts, axis=1) * swell).astype(np.float32)

    return make


@pytest.fixture
def pcm(tmp_path: Path) -> Callable[..., PcmFile]:
    """A PCM file of a signal."""

    def make(signal: NDArray[np.float32], rate: int = 44100, name: str = "source.f32") -> PcmFile:
        with PcmWriter(tmp_path / name, signal.shape[1], rate) as writer:
            writer.write(signal)
            return writer.finish()

    return make


_SNDFILE = {
    "flac": ("FLAC", "PCM_16"),
    "flac24": ("FLAC", "PCM_24"),
    "wav": ("WAV", "PCM_16"),
    "wav8": ("WAV", "PCM_U8"),
    "wav32": ("WAV", "PCM_32"),
    "wavf": ("WAV", "FLOAT"),
    "wavd": ("WAV", "DOUBLE"),
    "adpcm": ("WAV", "IMA_ADPCM"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_24"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "ALAC_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}
_FFMPEG = {
    "m4a": ("ipod", "aac", "fltp"),
    "alac": ("ipod", "alac", "s16p"),
    "aac": ("adts", "aac", "fltp"),
    "wma": ("asf", "wmav2", "fltp"),
    "wv": ("wv", "wavpack", "s16p"),
    "tta": ("tta", "tta", "s16"),
    "mka": ("matroska", "flac", "s16"),
    "ac3": ("ac3", "ac3", "fltp"),
    "mp2": ("mp2", "mp2", "s16"),
    "ts": ("mpegts", "mp2", "s16"),
}


@pytest.fixture
def make_file(tmp_path: Path, noise: Callable[..., NDArray[np.float32]]) -> MakeFile:
    """`name.KIND` written by a library that is not under test, with KIND from the tables above."""

    def make(name: str, signal: NDArray[np.float32] | None = None, rate: int = 44100) -> Path:
        path, kind = tmp_path / name, name.rpartition(".")[2]
        samples = noise(rate=rate) if signal is None else signal
        if kind in _SNDFILE:
            form, subtype = _SNDFILE[kind]
            with soundfile.SoundFile(path, "w", rate, samples.shape[1], format=form, subtype=subtype) as sound:
                sound.write(samples)
        else:
            _write_ffmpeg(path, samples, rate, _FFMPEG[kind])
        return path

    return make


def _write_ffmpeg(path: Path, samples: NDArray[np.float32], rate: int, kind: tuple[str, str, str]) -> None:
    form, codec, layout = kind
    channels = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(str(path), "w", format=form) as container:
        stream = cast("av.AudioStream", container.add_stream(codec, rate=rate, layout=channels))
        stream.codec_context.format = av.AudioFormat(layout)
        stream.codec_context.bit_rate = 192_000
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 4096
        converter = av.AudioResampler(format=layout, layout=channels, rate=rate, frame_size=size)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "flt", channels)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for part in [*converter.resample(frame), *converter.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def rewrite(path: Path, change: Callable[[bytearray], Any]) -> Path:
    """Change a file's bytes in place."""
    data = bytearray(path.read_bytes())
    result = change(data)
    path.write_bytes(data if result is None else result)
    return path


@pytest.fixture(name="rewrite")
def _rewrite() -> Callable[..., Path]:
    return rewrite
