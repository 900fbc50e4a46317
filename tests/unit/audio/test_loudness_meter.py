"""Against what ITU-R BS.1770 and EBU Tech 3341/3342 say of synthetic signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ironclad.audio.loudness import SILENCE_LUFS, Loudness, integrated_lufs, measure
from ironclad.audio.pcm import PcmFile, PcmWriter
from ironclad.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    MakePcm = Callable[..., PcmFile]


@pytest.fixture
def pcm(tmp_path: Path) -> MakePcm:
    def make(signal: NDArray[np.float64], rate: int = 48000) -> PcmFile:
        with PcmWriter(tmp_path / "x.f32", signal.shape[1], rate) as writer:
            writer.write(signal)
            return writer.finish()

    return make


def sine(level_db: float, seconds: float = 5.0, hertz: float = 997.0, rate: int = 48000) -> NDArray[np.float64]:
    return 10 ** (level_db / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_a_sine_in_one_channel_is_three_below_its_level(pcm: MakePcm, rate: int) -> None:
    """The standard's own check (annex 1): 0 dBFS at 997 Hz in one front channel reads -3.01 LKFS."""
    tone = sine(-20, rate=rate)
    assert measure(pcm(tone[:, None], rate)).integrated_lufs == pytest.approx(-23.01, abs=0.05)
    both = measure(pcm(np.stack([tone, tone], axis=1), rate))
    assert both.integrated_lufs == pytest.approx(-20.0, abs=0.05)
    assert both.range_lu == pytest.approx(0, abs=0.1)


def test_surround_channels_count_more_and_the_bass_channel_not_at_all(pcm: MakePcm) -> None:
    tone = sine(-20)
    silent = np.zeros((len(tone), 6))
    for channel, expected in ((0, -23.01), (3, SILENCE_LUFS), (4, -21.51)):
        signal = silent.copy()
        signal[:, channel] = tone
        assert measure(pcm(signal)).integrated_lufs == pytest.approx(expected, abs=0.06)


def test_the_gates(pcm: MakePcm) -> None:
    """EBU Tech 3341, case 3 in short: what is 10 LU below the rest does not pull the loudness down."""
    parts = [sine(-36, 3.0), sine(-23, 12.0), sine(-36, 3.0)]
    signal = np.concatenate(parts)
    assert measure(pcm(np.stack([signal, signal], axis=1))).integrated_lufs == pytest.approx(-23.0, abs=0.15)


def test_the_loudness_range(pcm: MakePcm) -> None:
    """EBU Tech 3342, case 1 in short: two levels 10 dB apart."""
    signal = np.concatenate([sine(-20, 12.0), sine(-30, 12.0)])
    assert measure(pcm(np.stack([signal, signal], axis=1))).range_lu == pytest.approx(10, abs=1)


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_peak_between_samples_is_found(pcm: MakePcm, rate: int) -> None:
    time = np.arange(rate)
    tone = 0.5 * np.sin(2 * np.pi * time / 4 + np.pi / 4)  # a quarter of the rate: samples miss the crests
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 2000)
    loudness = measure(pcm((tone * fade)[:, None], rate))
    assert loudness.sample_peak == pytest.approx(0.5 / np.sqrt(2), abs=1e-3)
    # Oversampling may still miss the crest by half a step: 0.11 dB at five times the rate (BS.1770-5, annex 2).
    assert 0.493 < loudness.true_peak < 0.501
    assert loudness.true_peak_dbtp == pytest.approx(-6.02, abs=0.12)


def test_silence_and_signals_shorter_than_a_gating_block(pcm: MakePcm) -> None:
    quiet = measure(pcm(np.zeros((48000, 2))))
    assert (quiet.integrated_lufs, quiet.true_peak, quiet.true_peak_dbtp) == (SILENCE_LUFS, 0.0, -200)
    short = measure(pcm(sine(-6, 0.1)[:, None]))
    assert short.integrated_lufs == SILENCE_LUFS
    assert short.sample_peak == pytest.approx(0.501, abs=0.002)
    nothing = measure(pcm(np.zeros((0, 2))))
    assert nothing == Loudness(SILENCE_LUFS, 0.0, 0.0, 0.0)
    assert Loudness.from_dict(short.to_dict()) == short


def test_loudness_progress_and_cancel(pcm: MakePcm) -> None:
    source = pcm(np.stack([sine(-20, 10.0)] * 2, axis=1))
    seen: list[float] = []
    measure(source, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    def check() -> None:
        raise Cancelled

    for of in (measure, integrated_lufs):
        with pytest.raises(Cancelled):
            of(source, check=check)


@pytest.mark.parametrize(
    "signal", [np.zeros((48000, 2)), np.zeros((0, 2)), sine(-6, 0.1)[:, None], sine(-30, 3.0)[:, None]]
)
def test_the_integrated_loudness_alone_is_the_same(pcm: MakePcm, signal: NDArray[np.float64]) -> None:
    source = pcm(signal)
    assert integrated_lufs(source) == measure(source).integrated_lufs
