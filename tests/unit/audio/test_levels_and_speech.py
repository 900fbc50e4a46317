from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ironclad.audio.decode_child import examine as examine_here
from ironclad.audio.info import AudioLimits
from ironclad.audio.levels import FLOOR_DB, LevelMeter, Levels, decibels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Signal = NDArray[np.float32]

RATE = 44100


def measure(signal: Signal, rate: int = RATE, windows: int = 64) -> Levels:
    meter = LevelMeter(signal.shape[1], rate)
    step = meter.window * windows
    for start in range(0, len(signal), step):
        meter.add(signal[start : start + step])
    return meter.result()


def sine(seconds: float = 2.0, level: float = 1.0, hertz: float = 997.0) -> Signal:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def stereo(left: Signal, right: Signal) -> Signal:
    return np.stack([left, right], axis=1)


def test_a_full_scale_sine() -> None:
    levels = measure(stereo(sine(), sine()))
    assert levels.peak == pytest.approx(1.0, abs=1e-4)
    assert levels.rms_dbfs == pytest.approx(-3.0103, abs=1e-3)
    assert levels.silence_fraction == 0
    assert levels.side_to_mid_db == FLOOR_DB


def test_the_width() -> None:
    one, other = sine(), sine(hertz=1500)
    assert measure(stereo(one, other)).side_to_mid_db == pytest.approx(0, abs=0.05)
    assert measure(stereo(one, 0.5 * one)).side_to_mid_db == pytest.approx(20 * np.log10(0.5 / 1.5), abs=1e-3)
    assert measure(stereo(one, -one)).side_to_mid_db == -FLOOR_DB
    assert measure(one[:, None]).side_to_mid_db == FLOOR_DB
    assert measure(stereo(0 * one, 0 * one)).side_to_mid_db == FLOOR_DB
    nearly = stereo(one, one + 1e-4 * other)
    assert measure(nearly).side_to_mid_db == pytest.approx(-86, abs=0.1)


def test_silence_is_counted_by_windows() -> None:
    signal = stereo(sine(1.0), sine(1.0))
    signal[RATE // 4 : RATE * 3 // 4] = 1e-4
    assert measure(signal).silence_fraction == pytest.approx(0.5, abs=0.03)
    quiet = measure(np.zeros((RATE, 2), np.float32))
    assert (quiet.peak, quiet.rms_dbfs, quiet.silence_fraction) == (0.0, FLOOR_DB, 1.0)


def test_nothing_at_all() -> None:
    meter = LevelMeter(2, RATE)
    meter.add(np.zeros((0, 2), np.float32))
    assert meter.result() == Levels(0.0, FLOOR_DB, 1.0, FLOOR_DB, 0.0)


@pytest.mark.parametrize("windows", [1, 7, 64, 10_000])
def test_the_size_of_the_blocks_does_not_matter(windows: int) -> None:
    signal = np.random.default_rng(0).standard_normal((RATE * 3 + 123, 2)).astype(np.float32) * 0.1
    levels, same = measure(signal, windows=windows), measure(signal, windows=64)
    assert levels.peak == same.peak
    assert levels.silence_fraction == same.silence_fraction
    assert levels.rms_dbfs == pytest.approx(same.rms_dbfs, abs=1e-4)
    assert levels.speech_score == pytest.approx(same.speech_score, abs=1e-3)


def test_absurd_samples_do_not_break_the_sums() -> None:
    signal = np.full((RATE * 3, 2), 1e30, np.float32)
    assert measure(signal).rms_dbfs == pytest.approx(600, abs=0.1)


def test_decibels() -> None:
    assert decibels(1.0) == 0
    assert decibels(0.0) == decibels(-1.0) == FLOOR_DB
    assert decibels(1e-300) == FLOOR_DB


def syllables(seconds: int = 12, seed: int = 4) -> Signal:
    """A stand-in for speech: voiced syllables about four times a second, hissed consonants, pauses between phrases."""
    random = np.random.default_rng(seed)
    signal = np.zeros(seconds * RATE, np.float32)
    at = 0
    while at < len(signal) - RATE:
        length = int(RATE * random.uniform(0.1, 0.17))
        pitch = random.uniform(90, 180)
        time = np.arange(length) / RATE
        vowel = sum(
            np.sin(2 * np.pi * pitch * k * time) / (1 + abs(k * pitch - random.uniform(400, 900)) / 200)
            for k in range(1, 25)
        )
        signal[at : at + length] += (0.2 * np.hanning(length) * vowel).astype(np.float32)
        at += length
        hiss = int(RATE * random.uniform(0.04, 0.09))
        noise = np.diff(random.standard_normal(hiss + 1))
        signal[at : at + hiss] += (0.02 * np.hanning(hiss) * noise).astype(np.float32)
        at += hiss + int(RATE * (random.uniform(0.3, 0.6) if random.random() < 0.2 else 0.03))
    return signal


def beat(seconds: int = 12) -> Signal:
    """A drum on every eighth at 120 per minute over a held chord: pulses at 4 Hz, too."""
    time = np.arange(seconds * RATE) / RATE
    signal = 0.05 * np.sin(2 * np.pi * np.array([[220], [277], [330]]) * time).sum(axis=0)
    for start in range(0, (seconds - 1) * RATE, RATE // 4):
        time = np.arange(RATE // 5) / RATE
        signal[start : start + len(time)] += 0.5 * np.exp(-time / 0.05) * np.sin(2 * np.pi * 80 * time)
    return np.asarray(signal, np.float32)


def test_speech_scores_high_and_music_low(tmp_path: Path) -> None:
    assert measure(syllables()[:, None]).speech_score > 0.7
    assert measure(beat()[:, None]).speech_score < 0.2
    assert measure(sine(8.0)[:, None]).speech_score < 0.05
    assert measure(np.zeros((RATE * 5, 1), np.float32)).speech_score == 0
    assert measure(sine(1.0)[:, None]).speech_score == 0


def test_a_real_song_is_no_speech() -> None:
    spec = importlib.util.find_spec("stempeg")
    assert spec is not None
    assert spec.origin is not None
    clip = next(Path(spec.origin).parent.glob("data/*.stem.mp4"))
    examined = examine_here({"path": str(clip), "limits": AudioLimits().to_dict()}, lambda _: None)
    assert examined["speech_score"] < 0.1
    assert examined["frames"] / 44100 == pytest.approx(6.08, abs=0.01)
