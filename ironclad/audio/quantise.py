"""Rounds float samples to integers, with dither where it hides a rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DITHERED_BITS = 16
_SEED = 1770


class Quantiser:
    """Turns float32 blocks into left-justified int32 samples of 16 or 24 significant bits.

    16 bits get triangular (TPDF) dither of two steps' width (S. Lipshitz, R. Wannamaker, J. Vanderkooy, "Quantization
    and Dither: A Theoretical Survey", JAES 40(5), 1992). A block whose samples all lie on the grid already (digital
    silence, a 16-bit original) passes unchanged. The noise is seeded: the same samples give the same integers.
    """

    def __init__(self, bits: int) -> None:
        self._full = float(2 ** (bits - 1))
        self._shift = 32 - bits
        self._noise = np.random.Generator(np.random.SFC64(_SEED)) if bits == _DITHERED_BITS else None

    def __call__(self, block: NDArray[np.float32]) -> NDArray[np.int32]:
        """Samples beyond full scale are held at it; the caller counts them."""
        steps = block.astype(np.float64) * self._full
        if self._noise is not None and not np.array_equal(steps, np.rint(steps)):
            # Steps of 2^-24 are fine enough for noise of one step, at a quarter of the time.
            steps += self._noise.random(steps.shape, np.float32) - self._noise.random(steps.shape, np.float32)
        whole = np.clip(np.rint(steps), -self._full, self._full - 1)
        return whole.astype(np.int32) << self._shift
