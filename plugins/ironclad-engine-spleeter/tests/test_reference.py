"""What is written here from descriptions, against the originals. Needs spleeter's environment: TensorFlow, norbert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ironclad_engine_spleeter import checkpoint, spectra

if TYPE_CHECKING:
    from pathlib import Path


class Reader:
    channels = 2

    def __init__(self, frames: int) -> None:
        rng = np.random.default_rng(0)
        self.wave = (rng.standard_normal((2, frames)) * 0.2).astype(np.float32)
        self.wave[1] += 0.5 * self.wave[0]
        self.frames = frames

    def read(self, start: int, count: int) -> Any:
        return self.wave[:, start : start + count]


def test_a_checkpoint_is_read_as_tensorflow_reads_it(tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not here; run this with its environment")
    rng = np.random.default_rng(0)
    shapes = {f"layer_{number}/{part}": (number + 1, 3) for number in range(40) for part in ("kernel", "gamma")}
    with tensorflow.Graph().as_default(), tensorflow.compat.v1.Session() as session:
        made = [
            tensorflow.compat.v1.get_variable(name, initializer=rng.standard_normal(shape).astype(np.float32))
            for name, shape in shapes.items()
        ]
        tensorflow.compat.v1.train.get_or_create_global_step()
        session.run(tensorflow.compat.v1.global_variables_initializer())
        tensorflow.compat.v1.train.Saver().save(session, str(tmp_path / "model"), write_meta_graph=False)
        expected = {one.op.name: session.run(one) for one in made}
    found = checkpoint.read_folder(tmp_path)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_the_wiener_filter_is_that_of_norbert() -> None:
    norbert = pytest.importorskip("norbert", reason="norbert is not here; run this with spleeter's environment")
    reader, bins = Reader(600_000), 1024
    rng = np.random.default_rng(1)
    gains = [rng.random((2, 1, 512, bins), np.float32) for _ in range(3)]

    def networks(magnitudes: Any) -> list[Any]:
        return [magnitudes * gain for gain in gains]

    learned, all_blocks, estimates = spectra.Wiener(3, bins), list(spectra.blocks(reader)), []
    for block in all_blocks:
        made = networks(spectra.magnitudes(block, bins))
        learned.learn(block, made)
        estimates.append(np.stack([one[:, 0, : block.spectrum.shape[1]] for one in made], -1))
    whole = np.concatenate([block.spectrum for block in all_blocks], 1).transpose(1, 2, 0)
    powers = np.zeros((*whole.shape, 3), np.float32)
    powers[:, :bins] = np.concatenate(estimates, 1).transpose(1, 2, 0, 3)
    expected = norbert.wiener(powers, whole.copy())[:, :bins]
    position = 0
    for block in all_blocks:
        made = learned.masks(block, networks(spectra.magnitudes(block, bins)))
        count = block.spectrum.shape[1]
        for index, one in enumerate(made):
            truth = expected[position : position + count, :, :, index].transpose(2, 0, 1)
            noise = np.square(np.abs(one - truth), dtype=np.float64).sum()
            assert noise <= 1e-9 * np.square(np.abs(truth), dtype=np.float64).sum()
        position += count
