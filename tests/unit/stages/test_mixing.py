from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ironclad.audio.pcm import BLOCK_FRAMES, PcmFile, PcmWriter
from ironclad.errors import OutputInvalid
from ironclad.stages.mixing import combine, fit, sample_peak

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE = 44_100


def pcm(path: Path, samples: NDArray[np.float32], rate: int = RATE) -> PcmFile:
    with PcmWriter(path, samples.shape[1], rate) as writer:
        writer.write(samples)
        return writer.finish()


def noise(frames: int, seed: int, channels: int = 2) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal((frames, channels)) * 0.1).astype(np.float32)


def test_mixture_minus_vocals_over_several_blocks(tmp_path: Path) -> None:
    frames = BLOCK_FRAMES * 2 + 17
    a, b = noise(frames, 1), noise(frames, 2)
    out, peak = combine([(pcm(tmp_path / "a", a), 1.0), (pcm(tmp_path / "b", b), -1.0)], tmp_path / "out")
    np.testing.assert_allclose(out.read(), a - b, atol=1e-7)
    assert out.frames == frames
    assert peak == pytest.approx(np.abs(a - b).max(), rel=1e-6)


def test_gain_scales_everything(tmp_path: Path) -> None:
    a = noise(100, 3)
    out, peak = combine([(pcm(tmp_path / "a", a), 1.0)], tmp_path / "out", gain=0.5)
    np.testing.assert_allclose(out.read(), a * 0.5, atol=1e-8)
    assert peak == pytest.approx(np.abs(a).max() / 2, rel=1e-6)


@pytest.mark.parametrize(("frames", "channels", "rate"), [(99, 2, RATE), (100, 1, RATE), (100, 2, 48_000)])
def test_parts_of_another_shape_are_refused(tmp_path: Path, frames: int, channels: int, rate: int) -> None:
    a = pcm(tmp_path / "a", noise(100, 1))
    b = pcm(tmp_path / "b", noise(frames, 2, channels), rate)
    with pytest.raises(OutputInvalid):
        combine([(a, 1.0), (b, 1.0)], tmp_path / "out")


def test_not_a_number_never_gets_into_a_result(tmp_path: Path) -> None:
    bad = noise(10, 1)
    bad[3, 1] = np.nan
    with pytest.raises(OutputInvalid, match="not numbers"):
        combine([(pcm(tmp_path / "a", bad), 1.0)], tmp_path / "out")


def test_cancel_is_noticed_between_blocks(tmp_path: Path) -> None:
    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        combine([(pcm(tmp_path / "a", noise(10, 1)), 1.0)], tmp_path / "out", check=check)


@pytest.mark.parametrize("frames", [44_100, 44_101, 30_007])
def test_a_stem_comes_back_to_the_mixtures_rate_channels_and_exact_length(tmp_path: Path, frames: int) -> None:
    mixture = pcm(tmp_path / "mix", noise(frames, 1, 1), 48_000)
    there = fit(mixture, PcmFile(tmp_path / "x", round(frames * 44_100 / 48_000), 2, 44_100), tmp_path)
    back = fit(there, mixture, tmp_path)
    assert (back.frames, back.channels, back.sample_rate) == (frames, 1, 48_000)
    back.verify()


def test_what_fits_already_is_left_alone(tmp_path: Path) -> None:
    a = pcm(tmp_path / "a", noise(10, 1))
    assert fit(a, a, tmp_path) is a


def test_a_stem_of_quite_another_length_is_refused(tmp_path: Path) -> None:
    a, b = pcm(tmp_path / "a", noise(100, 1)), pcm(tmp_path / "b", noise(90, 1))
    with pytest.raises(OutputInvalid, match="expected"):
        fit(b, a, tmp_path)


def test_the_peak_of_a_sum_that_is_written_nowhere(tmp_path: Path) -> None:
    a, b = noise(BLOCK_FRAMES + 5, 1), noise(BLOCK_FRAMES + 5, 2)
    parts = [(pcm(tmp_path / "a", a), 1.0), (pcm(tmp_path / "b", b), -0.5)]
    assert sample_peak(parts) == combine(parts, tmp_path / "out")[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out"]
