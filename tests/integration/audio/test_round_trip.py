"""decode(encode(x)) is x: same length, no lag, and as close as the format allows."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from ironclad.audio import decode_child
from ironclad.audio.compare import lag, sdr_db
from ironclad.audio.decode import Decoded
from ironclad.audio.encode import FORMATS, Encoded, EncodeSpec, encode
from ironclad.audio.info import AudioInfo
from ironclad.audio.pcm import PcmFile
from ironclad.audio.resample import resample
from ironclad.errors import BadRequest, Cancelled, NoSamples, OutputInvalid, StorageError, TooManyChannels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from ironclad.audio.info import AudioLimits

    Noise = Callable[..., NDArray[np.float32]]
    MakePcm = Callable[..., PcmFile]

LFE = 3
LOSSLESS = [name for name, form in FORMATS.items() if form.lossless]
LOSSY = [name for name, form in FORMATS.items() if not form.lossless]
ENOUGH_DB = {"mp3": 24, "m4a": 18, "ogg": 14, "opus": 14}
"""Noise is the worst case for a lossy codec; a lag of one sample would leave less than 12 dB."""


def probe(path: Path, limits: AudioLimits) -> AudioInfo:
    """What the sandbox child does, without the child: the files here are many and ours."""
    request = {"path": str(path), "limits": limits.to_dict()}
    return AudioInfo.from_dict(decode_child.probe(request, lambda _: None))


def decode(path: Path, out: Path | None, limits: AudioLimits) -> Decoded:
    """Likewise."""
    request = {"path": str(path), "out": None if out is None else str(out), "limits": limits.to_dict()}
    return Decoded.from_dict(decode_child.main(request, lambda _: None))


def there_and_back(source: PcmFile, tmp_path: Path, spec: EncodeSpec, limits: AudioLimits) -> tuple[Encoded, PcmFile]:
    out = tmp_path / f"encoded{spec.suffix}"
    encoded = encode(source, out, spec)
    info = probe(out, limits)
    decoded = decode(out, tmp_path / "decoded.f32", limits)
    assert info.declared_frames == decoded.frames == encoded.frames
    assert (decoded.channels, decoded.sample_rate) == (encoded.channels, encoded.sample_rate)
    assert not decoded.damaged_packets
    assert not decoded.truncated
    assert encoded.bytes == out.stat().st_size
    result = PcmFile(tmp_path / "decoded.f32", decoded.frames, decoded.channels, decoded.sample_rate)
    result.verify()
    assert result.digest() == decoded.blake3
    return encoded, result


@pytest.mark.parametrize("fmt", LOSSY)
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1), (44100, 6), (96000, 2)])
def test_lossy_formats_keep_every_sample_in_its_place(
    *, noise: Noise, pcm: MakePcm, tmp_path: Path, limits: AudioLimits, fmt: str, rate: int, channels: int
) -> None:
    if channels not in FORMATS[fmt].channels:
        pytest.skip(f"{fmt} is not written with {channels} channels")
    source = pcm(noise(1.1, channels, rate), rate)
    _, result = there_and_back(source, tmp_path, EncodeSpec(fmt), limits)
    if result.sample_rate != rate:
        source = resample(source, tmp_path / "resampled.f32", result.sample_rate)
    assert result.frames == source.frames
    truth, heard = source.read(), result.read()
    for channel in range(channels):
        if channels == 6 and channel == LFE:
            continue  # codecs keep only the lowest octaves of it
        one, other = truth[:, channel : channel + 1], heard[:, channel : channel + 1]
        assert lag(one, other, 2500) == 0
        assert sdr_db(one, other) > ENOUGH_DB[fmt]


@pytest.mark.parametrize("fmt", LOSSLESS)
@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (8000, 1), (48000, 6), (192_000, 2)])
def test_lossless_formats_keep_every_sample(
    *, noise: Noise, pcm: MakePcm, tmp_path: Path, limits: AudioLimits, fmt: str, bits: int, rate: int, channels: int
) -> None:
    signal = noise(0.4, channels, rate)
    grid = (np.rint(signal.astype(np.float64) * 2 ** (bits - 1)) / 2 ** (bits - 1)).astype(np.float32)
    encoded, result = there_and_back(pcm(grid, rate), tmp_path, EncodeSpec(fmt, bits=bits), limits)
    assert np.array_equal(result.read(), grid)
    assert encoded.clipped_samples == 0
    assert probe(tmp_path / f"encoded{FORMATS[fmt].suffix}", limits).bits_per_sample == bits


@pytest.mark.parametrize("fmt", LOSSLESS)
def test_sixteen_bits_of_a_finer_signal_are_dithered(
    noise: Noise, pcm: MakePcm, tmp_path: Path, limits: AudioLimits, fmt: str
) -> None:
    source = pcm(noise(0.5))
    _, result = there_and_back(source, tmp_path, EncodeSpec(fmt), limits)
    error = (result.read().astype(np.float64) - source.read()) * 2**15
    assert np.abs(error).max() <= 1.5 + 1e-3
    assert np.mean(error**2) == pytest.approx(1 / 4, rel=0.05)  # rounding 1/12 + TPDF 2/12
    assert abs(np.corrcoef(error[:, 0], source.read()[:, 0])[0, 1]) < 0.05


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_same_samples_make_the_same_bytes(
    noise: Noise, pcm: MakePcm, tmp_path: Path, fmt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pcm(noise(0.5))
    spec = EncodeSpec(fmt)
    first, second = tmp_path / f"a{spec.suffix}", tmp_path / f"b{spec.suffix}"
    encode(source, first, spec)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    program = (
        "import sys; from pathlib import Path; from ironclad.audio.encode import *; "
        "from ironclad.audio.pcm import PcmFile; "
        f"encode(PcmFile(Path({str(source.path)!r}), {source.frames}, 2, 44100), Path({str(second)!r}), "
        f"EncodeSpec({fmt!r}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("frames", [1, 100, 1151])
def test_very_short_signals_survive(
    *, noise: Noise, pcm: MakePcm, tmp_path: Path, limits: AudioLimits, fmt: str, frames: int
) -> None:
    encoded, _ = there_and_back(pcm(noise(0.1)[:frames]), tmp_path, EncodeSpec(fmt), limits)
    assert encoded.frames == (frames if fmt != "opus" else round(frames * 48000 / 44100))


@pytest.mark.parametrize("fmt", ["ogg", "opus"])
def test_other_readers_accept_the_rewritten_ogg_pages(noise: Noise, pcm: MakePcm, tmp_path: Path, fmt: str) -> None:
    out = tmp_path / f"x.{fmt}"
    encoded = encode(pcm(noise(2.0)), out, EncodeSpec(fmt))
    samples, rate = soundfile.read(out)
    assert rate == encoded.sample_rate
    assert len(samples) == encoded.frames


def test_samples_beyond_full_scale_are_counted_and_a_gain_prevents_them(
    noise: Noise, pcm: MakePcm, tmp_path: Path, limits: AudioLimits
) -> None:
    signal = noise(0.3)
    signal *= 1.6 / np.abs(signal).max()
    source = pcm(signal)
    loud = encode(source, tmp_path / "loud.flac", EncodeSpec("flac", bits=24))
    assert loud.clipped_samples == np.count_nonzero(np.abs(signal) > 1) > 0
    assert loud.peak_before == loud.peak_after == pytest.approx(1.6)
    safe, result = there_and_back(source, tmp_path, EncodeSpec("flac", bits=24, gain=0.5), limits)
    assert safe.clipped_samples == 0
    assert safe.peak_before == pytest.approx(1.6)
    assert safe.peak_after == pytest.approx(0.8)
    assert np.allclose(result.read(), signal * 0.5, atol=2**-23)


def test_silence_stays_digital_silence(pcm: MakePcm, tmp_path: Path, limits: AudioLimits) -> None:
    _, result = there_and_back(pcm(np.zeros((30000, 2), np.float32)), tmp_path, EncodeSpec("flac"), limits)
    assert not result.read().any()


def test_progress_ends_at_one_and_cancel_leaves_nothing(noise: Noise, pcm: MakePcm, tmp_path: Path) -> None:
    source = pcm(noise(4.0))
    seen: list[float] = []
    encode(source, tmp_path / "a.flac", EncodeSpec("flac"), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise Cancelled

    for fmt in FORMATS:
        calls.clear()
        out = tmp_path / f"cancelled-{fmt}"
        with pytest.raises(Cancelled):
            encode(source, out, EncodeSpec(fmt), check=check)
        assert not out.exists()


@pytest.mark.parametrize(
    "name", ["a\nb.flac", "\U0001f3b8 ü.m4a", "x" * 250 + ".flac", "-v.mp3", "a:b%d.m4a", os.fsdecode(b"\xff\xfe.flac")]
)
def test_any_file_name_can_be_written_and_read(
    noise: Noise, pcm: MakePcm, tmp_path: Path, limits: AudioLimits, name: str
) -> None:
    source = pcm(noise(0.2))
    out = tmp_path / name
    encoded = encode(source, out, EncodeSpec(name.rpartition(".")[2]))
    assert decode(out, None, limits).frames == encoded.frames == source.frames


def test_what_cannot_be_encoded_is_refused(noise: Noise, pcm: MakePcm, tmp_path: Path) -> None:
    with pytest.raises(TooManyChannels, match="mp3 is written with 1, 2"):
        encode(pcm(noise(0.1, 6)), tmp_path / "x.mp3", EncodeSpec("mp3"))
    with pytest.raises(NoSamples):
        encode(pcm(np.zeros((0, 2), np.float32)), tmp_path / "x.flac", EncodeSpec("flac"))
    with pytest.raises(OutputInvalid, match="finite"):
        encode(pcm(np.full((100, 2), np.nan, np.float32)), tmp_path / "x.flac", EncodeSpec("flac"))
    with pytest.raises(StorageError):
        encode(pcm(noise(0.1)), tmp_path / "no" / "folder.flac", EncodeSpec("flac"))
    with pytest.raises(BadRequest):
        EncodeSpec("aiff")
    assert [path.name for path in tmp_path.iterdir()] == ["source.f32"]


def test_a_source_file_that_lost_its_end_is_noticed(noise: Noise, pcm: MakePcm, tmp_path: Path) -> None:
    source = pcm(noise(0.5))
    os.truncate(source.path, source.bytes // 2)
    with pytest.raises(OutputInvalid, match="ends before"):
        encode(source, tmp_path / "x.flac", EncodeSpec("flac"))
    assert not (tmp_path / "x.flac").exists()


FULL = """
import resource, signal, sys
from pathlib import Path
from ironclad.audio.encode import EncodeSpec, encode
from ironclad.audio.pcm import PcmFile
from ironclad.errors import IroncladError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    encode(PcmFile(Path(sys.argv[1]), int(sys.argv[2]), 2, 44100), Path(sys.argv[3]), EncodeSpec(sys.argv[5]))
except IroncladError as exc:
    print(exc.code)
else:
    print("written")
"""


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_disk_that_fills_up_is_never_a_success(noise: Noise, pcm: MakePcm, tmp_path: Path, fmt: str) -> None:
    source = pcm(noise(1.0))
    whole = encode(source, tmp_path / "whole", EncodeSpec(fmt)).bytes
    for room in (whole // 2, whole - 1):
        out = tmp_path / "out"
        told = subprocess.run(
            [sys.executable, "-c", FULL, str(source.path), str(source.frames), str(out), str(room), fmt],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert told.stdout.strip() == "E_STORAGE", told.stderr  # EFBIG, as near to ENOSPC as a test without mounts gets
        assert not out.exists()
