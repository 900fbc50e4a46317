from __future__ import annotations

from dataclasses import replace

import pytest

from ironclad.audio.formats import FORMATS, EncodeSpec
from ironclad.audio.info import AudioInfo, AudioLimits
from ironclad.errors import BadRequest, SampleRateUnsupported, TooManyChannels

FLAC = AudioInfo("flac", "flac", "flac", True, 44100, 2, 1000, 0.02, 16, None)
MP3 = AudioInfo("mp3", "mp3", "mp3", False, 44100, 2, 1000, 0.02, None, 192_000)


@pytest.mark.parametrize(
    ("source", "fmt", "expected", "bits"),
    [
        (FLAC, "auto", "flac", 16),
        (replace(FLAC, bits_per_sample=24), "auto", "flac", 24),
        (replace(FLAC, family="wav", bits_per_sample=8), "auto", "flac", 16),
        (replace(FLAC, family="wav", bits_per_sample=32), "auto", "flac", 24),
        (replace(FLAC, family="alac", channels=6), "auto", "flac", 16),
        (replace(FLAC, family="other", bits_per_sample=None), "auto", "flac", 16),
        (MP3, "auto", "mp3", 16),
        (replace(MP3, family="aac"), "auto", "m4a", 16),
        (replace(MP3, family="vorbis"), "auto", "ogg", 16),
        (replace(MP3, family="opus"), "auto", "opus", 16),
        (replace(MP3, family="wma"), "auto", "mp3", 16),
        (replace(MP3, family="other"), "auto", "mp3", 16),
        (replace(MP3, family="wma", channels=6), "auto", "m4a", 16),
        (replace(MP3, family="vorbis", channels=4), "auto", "flac", 16),
        (MP3, "flac", "flac", 16),
        (FLAC, "opus", "opus", 16),
    ],
)
def test_a_source_chooses_its_format(source: AudioInfo, fmt: str, expected: str, bits: int) -> None:
    spec = EncodeSpec.for_source(source, fmt, quality="standard")
    assert (spec.format, spec.bits, spec.quality, spec.gain) == (expected, bits, "standard", 1.0)


@pytest.mark.parametrize(
    ("fmt", "rate", "stored"),
    [
        ("flac", 37_800, 37_800),
        ("mp3", 44100, 44100),
        ("mp3", 96000, 48000),
        ("mp3", 88200, 44100),
        ("mp3", 176_400, 44100),
        ("mp3", 37_800, 48000),
        ("m4a", 96000, 96000),
        ("m4a", 192_000, 96000),
        ("opus", 44100, 48000),
        ("opus", 8000, 48000),
        ("ogg", 192_000, 192_000),
    ],
)
def test_the_rate_that_is_stored(fmt: str, rate: int, stored: int) -> None:
    assert EncodeSpec(fmt).stored_rate(rate) == stored


@pytest.mark.parametrize("rate", [0, 7999, 192_001])
@pytest.mark.parametrize("fmt", FORMATS)
def test_rates_out_of_range(fmt: str, rate: int) -> None:
    with pytest.raises(SampleRateUnsupported):
        EncodeSpec(fmt).stored_rate(rate)


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "aiff"},
        {"quality": "best"},
        {"bits": 20},
        {"gain": 0.0},
        {"gain": float("nan")},
        {"gain": float("inf")},
    ],
)
def test_what_no_format_can_be_asked_for(wrong: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        EncodeSpec(**({"format": "flac"} | wrong))  # type: ignore[arg-type]  # one wrong field at a time


def test_channels() -> None:
    EncodeSpec("flac").accept(8)
    with pytest.raises(TooManyChannels, match="1, 2, 6"):
        EncodeSpec("opus").accept(3)


def test_suffixes() -> None:
    assert {name: EncodeSpec(name).suffix for name in FORMATS} == {
        "flac": ".flac", "wav": ".wav", "alac": ".m4a", "mp3": ".mp3", "m4a": ".m4a", "ogg": ".ogg", "opus": ".opus",
    }  # fmt: skip


def test_infos_and_limits_survive_json() -> None:
    assert AudioInfo.from_dict(FLAC.to_dict() | {"new": 1}) == FLAC
    limits = replace(AudioLimits(), max_seconds=1.0)
    assert AudioLimits.from_dict(limits.to_dict()) == limits
