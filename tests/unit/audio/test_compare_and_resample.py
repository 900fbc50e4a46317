from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ironclad.audio.compare import CEILING_DB, lag, residual_db, sdr_db
from ironclad.audio.levels import FLOOR_DB
from ironclad.audio.pcm import PcmFile, PcmWriter
from ironclad.audio.resample import resample, resampled_blocks, resampled_frames
from ironclad.errors import Cancelled, TooManyChannels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def noise(frames: int, channels: int = 2, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal((frames, channels))).astype(np.float32)


def stored(path: Path, signal: NDArray[np.float32], rate: int = 44100) -> PcmFile:
    with PcmWriter(path, signal.shape[1], rate) as writer:
        writer.write(signal)
        return writer.finish()


def test_sdr_is_the_ratio_of_energies(tmp_path: Path) -> None:
    signal = noise(200_000)
    assert sdr_db(signal, 0.9 * signal) == pytest.approx(20, abs=1e-3)
    assert sdr_db(signal, signal) == CEILING_DB
    assert sdr_db(signal, 0 * signal) == pytest.approx(0, abs=1e-9)
    assert sdr_db(0 * signal, signal) == FLOOR_DB
    file, other = stored(tmp_path / "a", signal), stored(tmp_path / "b", 0.9 * signal)
    assert sdr_db(file, other) == pytest.approx(sdr_db(signal, 0.9 * signal), abs=1e-4)


def test_residual_of_parts_that_sum_and_that_do_not() -> None:
    voice, band = noise(100_000, seed=1), noise(100_000, seed=2)
    mixture = voice + band
    assert residual_db(mixture.astype(np.float64), [voice.astype(np.float64), band.astype(np.float64)]) < -130
    assert residual_db(mixture, [mixture]) == FLOOR_DB
    assert residual_db(mixture, [voice]) == pytest.approx(-3.01, abs=0.1)
    assert residual_db(0 * mixture, [voice]) == CEILING_DB


def test_different_shapes_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="shape"):
        sdr_db(noise(10), noise(11))
    with pytest.raises(ValueError, match="shape"):
        residual_db(noise(10), [noise(10), noise(10, 1)])


@pytest.mark.parametrize("shift", [-2999, -1105, -1, 0, 1, 1024, 3000])
def test_a_lag_is_found_to_the_sample(tmp_path: Path, shift: int) -> None:
    signal = noise(150_000)
    later = np.roll(signal, shift, axis=0) + 0.3 * noise(150_000, seed=9)
    assert lag(signal, later, 3000) == shift
    assert lag(stored(tmp_path / "a", signal), stored(tmp_path / "b", later), 3000) == shift


def test_rounding_is_no_lag_though_the_signal_repeats_itself() -> None:
    tone = np.tile(np.sin(2 * np.pi * np.arange(50) / 50), 4000)[:, None].astype(np.float32)
    rounded = np.rint(tone * 32768) / 32768
    assert lag(tone, rounded, 200) == 0


def test_one_sample_of_a_low_tone_is_a_lag() -> None:
    time = np.arange(100_000) / 44_100
    tone = (np.sin(2 * np.pi * 40 * time) * np.hanning(len(time)))[:, None].astype(np.float32)
    assert lag(tone, np.concatenate([np.zeros((1, 1), np.float32), tone[:-1]]), 200) == 1


def test_the_lag_of_signals_of_different_length_and_of_silence() -> None:
    signal = noise(5000)
    assert lag(signal, np.concatenate([np.zeros((100, 2), np.float32), signal]), 200) == 100
    assert lag(signal, signal[50:], 200) == -50
    assert lag(0 * signal, 0 * signal, 200) == 0


@pytest.mark.parametrize(
    ("source", "target"), [(44100, 48000), (48000, 44100), (96000, 44100), (44100, 192_000), (8000, 48000)]
)
@pytest.mark.parametrize("frames", [1, 999, 70_001])
def test_a_converted_signal_has_the_exact_length_and_place(
    tmp_path: Path, *, source: int, target: int, frames: int
) -> None:
    hertz = 0.2 * min(source, target)
    signal = (0.5 * np.sin(2 * np.pi * hertz * np.arange(frames) / source)).astype(np.float32)[:, None]
    result = resample(stored(tmp_path / "in", signal, source), tmp_path / "out", target)
    assert result.frames == resampled_frames(frames, source, target)
    assert abs(result.frames - frames * target / source) <= 0.5
    assert result.sample_rate == target
    if frames > 5000:
        expected = 0.5 * np.sin(2 * np.pi * hertz * np.arange(result.frames) / target)
        middle = slice(1000, result.frames - 1000)
        assert sdr_db(expected[middle, None], result.read()[middle]) > 110


def test_what_lies_above_the_new_band_is_gone(tmp_path: Path) -> None:
    signal = (0.5 * np.sin(2 * np.pi * 30_000 * np.arange(96_000) / 96_000)).astype(np.float32)[:, None]
    result = resample(stored(tmp_path / "in", signal, 96_000), tmp_path / "out", 44100).read()
    assert np.abs(result[2000:-2000]).max() < 1e-5


def test_channels_stay_apart_and_in_order(tmp_path: Path) -> None:
    signal = np.zeros((20_000, 6), np.float32)
    signal[:, 3] = 0.5
    result = resample(stored(tmp_path / "in", signal, 44100), tmp_path / "out", 48000).read()
    assert np.abs(result[2000:-2000, 3] - 0.5).max() < 1e-4
    assert not np.delete(result, 3, axis=1).any()


def test_blocks_may_be_empty_and_channels_are_limited() -> None:
    assert list(resampled_blocks([], 2, 44100, 48000)) == []
    out = list(resampled_blocks([noise(0), noise(500), noise(0), noise(500)], 2, 44100, 48000))
    assert sum(map(len, out)) == resampled_frames(1000, 44100, 48000)
    with pytest.raises(TooManyChannels):
        list(resampled_blocks([noise(10, 9)], 9, 44100, 48000))


def test_progress_and_cancel(tmp_path: Path) -> None:
    source = stored(tmp_path / "in", noise(400_000))
    seen: list[float] = []
    resample(source, tmp_path / "out", 48000, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        resample(source, tmp_path / "out", 48000, check=check)


@pytest.mark.parametrize("shift", [-700, 0, 3])
def test_the_lag_of_channels_in_opposite_phase_is_told_by_one_of_them(shift: int) -> None:
    wide = noise(100_000, channels=1) * np.array([[1, -1]], np.float32)
    coded = np.roll(wide, shift, axis=0) + 0.01 * noise(100_000, seed=5)
    assert lag(wide + 1e-4 * noise(100_000, seed=6), coded, 3000) == shift


def test_what_a_high_pass_does_to_the_bass_is_no_lag() -> None:
    """A tone of 30 Hz comes 25 frames early out of a filter at 3 Hz (RFC 6716, 2.1.1: the encoder of Opus has one)."""
    bass = np.sin(2 * np.pi * 30 * np.arange(200_000) / 48_000)[:, None].astype(np.float32)
    early = np.roll(bass, -25, axis=0)
    rest = 0.2 * noise(200_000, channels=1)
    assert lag(bass + rest, early + rest, 3000) == -25
    assert lag(bass + rest, early + rest, 3000, above=0.01) == 0
    for shift in (-1, 1, 480):
        assert lag(bass + rest, early + np.roll(rest, shift, axis=0), 3000, above=0.01) == shift
    assert lag(bass, early + 1e-5 * rest, 3000, above=0.01) == 0  # nothing to tell it by


@pytest.mark.parametrize("frames", [1, 7, 700, 70_000])
def test_a_lag_above_a_frequency_needs_no_length(frames: int) -> None:
    signal = noise(frames)
    assert lag(signal, 1.1 * signal, max(1, frames // 4), above=0.01) == 0
