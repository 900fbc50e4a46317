"""Tiny networks of Demucs' own classes, made here; no weights are fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("torch", reason="PyTorch is not here; run this with the engine's own environment")
pytest.importorskip("demucs", reason="Demucs is not here; run this with the engine's own environment")

from demucs.hdemucs import HDemucs  # after the skip
from demucs.htdemucs import HTDemucs  # after the skip
from tiny import SOURCES, TINY, ArrayReader, stirred  # after the skip


@pytest.fixture(scope="session")
def transformers() -> list[Any]:
    return [stirred(HTDemucs(**TINY), 1), stirred(HTDemucs(**TINY), 2)]


@pytest.fixture(scope="session")
def hybrid() -> Any:
    network = HDemucs(sources=SOURCES, samplerate=8000, channels=4, segment=1)
    return stirred(network, 3)


@pytest.fixture(scope="session")
def reader() -> Callable[[int], ArrayReader]:
    def make(frames: int, seed: int = 0) -> ArrayReader:
        noise = np.random.default_rng(seed).standard_normal((2, frames)) * 0.2 + 0.01
        return ArrayReader(noise.astype(np.float32))

    return make
