from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ironclad.audio.downmix import matrix, to_channels
from ironclad.audio.pcm import PcmWriter
from ironclad.errors import TooManyChannels

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("channels", range(1, 9))
def test_a_mix_down_never_exceeds_full_scale_by_itself(channels: int) -> None:
    gains = matrix(channels, 2)
    assert gains.shape == (channels, 2)
    assert np.abs(gains).sum(axis=0).max() <= 1.0 + 1e-6


def test_five_point_one_as_itu_r_bs_775_says() -> None:
    gains = matrix(6, 2)
    left = gains[:, 0] / gains[0, 0]
    np.testing.assert_allclose(left, [1, 0, 0.5**0.5, 0, 0.5**0.5, 0], atol=1e-6)
    np.testing.assert_allclose(gains[:, 1], gains[[1, 0, 2, 3, 5, 4], 0], atol=1e-6)


def test_mono_goes_to_both_sides_and_back() -> None:
    np.testing.assert_array_equal(matrix(1, 2), [[1, 1]])
    np.testing.assert_array_equal(matrix(2, 1), [[0.5], [0.5]])
    np.testing.assert_array_equal(matrix(3, 3), np.eye(3))


def test_a_layout_without_a_rule_is_refused() -> None:
    with pytest.raises(TooManyChannels):
        matrix(9, 2)


def test_writing_keeps_length_and_rate(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).standard_normal((1000, 6)).astype(np.float32)
    with PcmWriter(tmp_path / "in", 6, 48_000) as writer:
        writer.write(samples)
        source = writer.finish()
    out = to_channels(source, tmp_path / "out", 2)
    assert (out.frames, out.channels, out.sample_rate) == (1000, 2, 48_000)
    np.testing.assert_allclose(out.read(), samples @ matrix(6, 2), atol=1e-6)
