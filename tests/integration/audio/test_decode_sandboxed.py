"""Decoding in the sandbox: real limits, cancelling, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ironclad.audio.decode import Decoded, Examined, decode, examine, probe
from ironclad.audio.info import AudioInfo
from ironclad.audio.pcm import PcmFile
from ironclad.errors import Cancelled, DecodeLimit, InputError, TruncatedAudio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from ironclad.audio.info import AudioLimits

    MakeFile = Callable[..., Path]
    Noise = Callable[..., NDArray[np.float32]]


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes in a small file: long enough to be interrupted."""
    path = tmp_path_factory.mktemp("long") / "long.flac"
    with soundfile.SoundFile(path, "w", 44100, 2, format="FLAC", subtype="PCM_16", compression_level=0.0) as sound:
        block = np.round(np.sin(np.arange(44100 * 60) * 0.05) * 8000).astype(np.int16)
        for _ in range(20):
            sound.write(np.stack([block, block], axis=1))
    return path


def test_probe_and_decode_agree_and_progress_runs_to_one(
    make_file: MakeFile, noise: Noise, tmp_path: Path, limits: AudioLimits
) -> None:
    signal = noise(20.0)
    path = make_file("x.flac24", signal)
    seen: list[float] = []
    out = tmp_path / "out.f32"
    decoded = decode(path, out, limits, progress=seen.append)
    info = probe(path, limits)
    assert info == AudioInfo.from_dict(info.to_dict())
    assert info.declared_frames == decoded.frames == len(signal)
    assert (info.channels, info.sample_rate) == (decoded.channels, decoded.sample_rate)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    pcm = PcmFile(out, decoded.frames, decoded.channels, decoded.sample_rate)
    assert pcm.digest() == decoded.blake3
    assert np.abs(pcm.read() - signal).max() <= 2.0**-23
    assert decode(path, None, limits) == decoded
    seen.clear()
    examined = examine(path, limits, progress=seen.append)
    assert (seen, seen[-1]) == (sorted(seen), 1.0)
    assert Decoded.from_dict(examined.to_dict()) == decoded
    assert Examined.from_dict(examined.to_dict()) == examined
    assert examined.peak == np.abs(pcm.read()).max()
    assert examined.rms_dbfs == pytest.approx(20 * np.log10(np.sqrt(np.mean(np.square(signal)))), abs=0.01)


def test_a_failed_decode_leaves_no_output(
    make_file: MakeFile, noise: Noise, tmp_path: Path, limits: AudioLimits
) -> None:
    path = make_file("x.flac", noise(3.0))
    path.write_bytes(path.read_bytes()[:-20_000])
    out = tmp_path / "out.f32"
    with pytest.raises(TruncatedAudio) as caught:
        decode(path, out, limits)
    assert caught.value.context["declared_frames"] == 132307
    assert not out.exists()


def test_the_clock_is_limited(minutes: Path, tmp_path: Path, limits: AudioLimits) -> None:
    out = tmp_path / "out.f32"
    with pytest.raises(DecodeLimit, match="on the clock"):
        decode(minutes, out, replace(limits, decode_wall_seconds=0.3))
    assert not out.exists()


def test_processor_time_is_limited(minutes: Path, limits: AudioLimits) -> None:
    with pytest.raises(DecodeLimit, match="processor"):
        examine(minutes, replace(limits, decode_seconds=1))


def test_memory_is_limited_and_the_default_is_enough(make_file: MakeFile, limits: AudioLimits) -> None:
    path = make_file("x.flac")
    with pytest.raises(DecodeLimit, match="memory"):
        probe(path, replace(limits, decode_memory_bytes=120 << 20))
    assert probe(path, replace(limits, decode_memory_bytes=600 << 20)).family == "flac"


def test_a_cancelled_decode_stops_at_once_and_leaves_nothing(
    minutes: Path, tmp_path: Path, limits: AudioLimits
) -> None:
    out = tmp_path / "out.f32"
    asked: list[float] = []
    begun: list[float] = []

    def check() -> None:
        if begun:
            asked.append(begun[-1])
            raise Cancelled

    with pytest.raises(Cancelled):
        decode(minutes, out, limits, progress=begun.append, check=check)
    assert asked == [begun[-1]]  # nothing was waited for or reported after the wish
    assert not out.exists()


def test_the_child_imports_only_what_it_needs() -> None:
    program = (
        "import sys, ironclad.audio.decode_child; "
        "heavy = {'soundfile', 'mutagen', 'prefect', 'sqlalchemy', 'pydantic', 'scipy', 'textual', 'psutil', 'httpx'}; "
        "print(*sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-I", "-c", program], check=True, timeout=60, capture_output=True, text=True)
    assert told.stdout.strip() == ""


MAGIC = [
    b"fLaC\x00\x00\x00\x22",
    b"RIFF\xff\xff\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x02\x00\x44\xac\x00\x00\x10\xb1\x02\x00\x04\x00\x10\x00",
    b"FORM\x00\x00\xff\xffAIFFCOMM\x00\x00\x00\x12\x00\x02",
    b"OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00",
    b"\x00\x00\x00\x20ftypM4A \x00\x00\x02\x00",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
    b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska",
    b"caff\x00\x01\x00\x00desc\x00\x00\x00\x00\x00\x00\x00\x20",
    b"wvpk\x20\x00\x00\x00\x10\x04",
    b"TTA1\x01\x00\x02\x00\x10\x00",
    b".snd\x00\x00\x00\x1c\xff\xff\xff\xff\x00\x00\x00\x03",
    b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb",
    b"\xff\xfb\x90\x64",
    b"\xff\xf1\x50\x80\x02\x1f\xfc",
    b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + b"\xff\xfb\x90\x64",
    b"APETAGEX\xd0\x07\x00\x00",
    b"",
]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(magic=st.sampled_from(MAGIC), body=st.binary(min_size=0, max_size=4000), copies=st.integers(1, 4))
def test_random_bytes_give_a_catalogue_error_or_a_signal(
    *, tmp_path: Path, limits: AudioLimits, magic: bytes, body: bytes, copies: int
) -> None:
    path = tmp_path / "x.mp3"
    path.write_bytes((magic + body) * copies)
    try:
        decoded = decode(path, None, replace(limits, max_seconds=600.0))
    except (InputError, DecodeLimit) as exc:
        assert exc.code  # noqa: PT017 -- one of two good outcomes
    else:
        assert decoded.frames > 0
