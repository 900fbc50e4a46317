"""The engine as the host runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not here; run this with the engine's own environment")
from ironclad_engine_demucs.separator import DemucsSeparator  # noqa: E402  # after the skip
from tiny import ArrayReader, write_safetensors  # noqa: E402  # after the skip

from ironclad.engines.host.api import EngineError, LoadRequest  # noqa: E402  # after the skip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PARAMS: Mapping[str, Any] = {"shifts": 0, "overlap": 0.25, "segment": 0.0, "seed": 0, "batch": 0, "backend": "auto"}


class Sinks:
    def __init__(self, *wanted: str) -> None:
        self.wanted = wanted
        self.blocks: list[Mapping[str, Any]] = []

    @property
    def frames(self) -> int:
        return sum(block[self.wanted[0]].shape[-1] for block in self.blocks)

    def write(self, stems: Mapping[str, Any]) -> None:
        self.blocks.append(stems)


@pytest.fixture
def engine(transformers: list[Any], tmp_path: Path) -> DemucsSeparator:
    write_safetensors(tmp_path / "one.safetensors", transformers[0])
    separator = DemucsSeparator()
    separator.load(LoadRequest("mine", str(tmp_path), "cpu"))
    return separator


def test_it_separates_with_steady_progress(engine: DemucsSeparator, reader: Callable[[int], Any]) -> None:
    sinks, steps = Sinks("vocals", "bass"), []
    engine.separate(reader(20_000), sinks, PARAMS, lambda done, total: steps.append((done, total)), lambda: False)
    assert sinks.frames == 20_000
    assert set(sinks.blocks[0]) == {"vocals", "bass"}
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]


def test_progress_comes_within_a_segment_and_ends_it(engine: DemucsSeparator, reader: Callable[[int], Any]) -> None:
    steps: list[int] = []

    def progress(done: int, _total: int) -> None:
        steps.append(done)
        if len(steps) == 5:
            raise KeyboardInterrupt

    sinks = Sinks("bass")
    with pytest.raises(KeyboardInterrupt):
        engine.separate(reader(4000), sinks, PARAMS, progress, lambda: False)  # one segment
    assert sinks.blocks == []
    assert steps == sorted(set(steps))
    engine.separate(reader(4000), sinks, PARAMS, lambda *_: None, lambda: False)
    assert sinks.frames == 4000


def test_silence_gives_finite_samples(engine: DemucsSeparator) -> None:
    sinks = Sinks("vocals")
    engine.separate(ArrayReader(np.zeros((2, 9000), np.float32)), sinks, PARAMS, lambda *_: None, lambda: False)
    assert all(np.isfinite(block["vocals"]).all() for block in sinks.blocks)


def test_a_recording_of_another_kind_is_refused(engine: DemucsSeparator) -> None:
    for wave, rate in ((np.zeros((1, 900), np.float32), 8000), (np.zeros((2, 900), np.float32), 44100)):
        with pytest.raises(EngineError) as caught:
            engine.separate(ArrayReader(wave, rate), Sinks("vocals"), PARAMS, lambda *_: None, lambda: False)
        assert caught.value.kind == "input"


def test_what_the_model_cannot_do_is_said(engine: DemucsSeparator, reader: Callable[[int], Any]) -> None:
    with pytest.raises(EngineError, match="not guitar"):
        engine.separate(reader(900), Sinks("guitar"), PARAMS, lambda *_: None, lambda: False)
    with pytest.raises(EngineError, match="segments of 1 s at most"):
        engine.separate(reader(900), Sinks("bass"), {**PARAMS, "segment": 2.0}, lambda *_: None, lambda: False)


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "tpu"])
def test_a_device_that_is_not_there_is_an_error_and_never_the_cpu(device: str, tmp_path: Path) -> None:
    if device.startswith("cuda") and torch.cuda.is_available() and device == "cuda":
        pytest.skip("there is a CUDA device here")
    with pytest.raises(EngineError, match="there is no"):
        DemucsSeparator().load(LoadRequest("mine", str(tmp_path), device))


def test_a_model_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="needs the folder"):
        DemucsSeparator().load(LoadRequest("htdemucs", "", "cpu"))
    assert DemucsSeparator.devices()[-1] == "cpu"
