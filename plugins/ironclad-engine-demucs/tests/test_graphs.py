"""Graphs make of a recording what PyTorch makes of it. Needs PyTorch, and for each runtime its package."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not here; run this with the engine's own environment")
pytest.importorskip("onnx", reason="the exporter's package is not here")
from ironclad_engine_demucs import backends, export, graphs, reference, spectral, streaming  # noqa: E402  # after the skip
from ironclad_engine_demucs.pytorch import TorchNetwork  # noqa: E402  # after the skip
from ironclad_engine_demucs.separator import DemucsSeparator  # noqa: E402  # after the skip
from ironclad_engine_demucs.streaming import Plan  # noqa: E402  # after the skip
from tiny import write_safetensors  # noqa: E402  # after the skip

from ironclad.engines.host.api import EngineError, LoadRequest  # noqa: E402  # after the skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(scope="session")
def model(transformers: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of two, with its graphs."""
    folder = tmp_path_factory.mktemp("model")
    for name, network in zip(("one", "two"), transformers, strict=True):
        write_safetensors(folder / f"{name}.safetensors", network)
    (folder / "mine.yaml").write_text("models: [one, two]\nweights: [[1,0,1,1],[0,1,1,1]]\n")
    (folder / "converted").mkdir()
    export.convert("mine", folder, folder / "converted")
    return folder


@pytest.mark.parametrize("length", [8000, 7777, 4100])
def test_the_transforms_are_those_of_demucs(length: int, transformers: list[Any]) -> None:
    network = transformers[0]
    size = network.nfft
    mixture = np.random.default_rng(1).standard_normal((2, length)).astype(np.float32)
    with torch.no_grad():
        bins = network._spec(torch.from_numpy(mixture)[None])
        parts = network._magnitude(bins)[0].numpy()
        stems = np.random.default_rng(2).standard_normal((4, *parts.shape)).astype(np.float32)
        waves = network._ispec(network._mask(bins, torch.from_numpy(stems)[None]), length)[0].numpy()
    np.testing.assert_allclose(spectral.spectrum(mixture, size), parts, atol=2e-6)
    np.testing.assert_allclose(spectral.waves(stems, length), waves, atol=2e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("frames", "plan"), [(20_001, Plan()), (500, Plan()), (9000, Plan(segment=0.6, shifts=1))])
def test_streamed_by_a_graph_equals_streamed_by_pytorch(  # noqa: PLR0917  # cases and fixtures
    runtime: str, frames: int, plan: Plan, model: Path, transformers: list[Any], reader: Callable[[int], Any]
) -> None:
    pytest.importorskip(runtime)
    networks, bag = graphs.load(model, "mine", runtime)
    source = reader(frames)

    def run(some: Any) -> Any:
        blocks = streaming.separate(some, bag.weights, source, plan, statistics=streaming.measure(source))
        return np.stack([np.concatenate([stems[stem] for stems in whole], -1) for whole in [[b for _, b in blocks]]
                         for stem in networks[0].sources])  # fmt: skip

    truth = run([TorchNetwork(network) for network in transformers])
    made = run(networks)
    assert made.shape == (4, 2, frames)
    assert reference.agreement_db(truth, made) >= 80


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_progress_comes_within_a_segment_and_ends_it(
    runtime: str, model: Path, reader: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(runtime)
    monkeypatch.setattr(graphs, "_POLL_SECONDS", 0.001)
    networks, _bag = graphs.load(model, "mine", runtime)
    mixture = reader(8000).wave[None]
    expected = networks[0](mixture)

    class Stop(BaseException):
        pass

    def stop(share: float) -> None:
        assert 0 <= share < 1
        raise Stop

    many = np.concatenate([mixture] * 1000)  # until one segment takes longer than a look
    with networks[0].listening(stop), pytest.raises(Stop):
        networks[0](many)
    np.testing.assert_array_equal(networks[0](mixture), expected)


def test_auto_takes_one_that_agrees_and_keeps_the_finding(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_findings", lambda: model / "findings.json")
    said: list[str] = []
    loaded = backends.choose(model, "mine", say=said.append)
    assert loaded.backend in backends.usable(model, "mine")
    assert any("agrees to inf dB" in line for line in said if "pytorch" in line)
    monkeypatch.setattr(backends, "attempt", None)  # trying again would fail
    monkeypatch.setattr(backends, "_key", lambda *_: next(iter(json.loads((model / "findings.json").read_text()))))
    assert backends.choose(model, "mine").backend == loaded.backend
    (model / "findings.json").unlink()


def test_on_a_busy_machine_the_first_that_is_right_will_do(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_findings", lambda: None)
    monkeypatch.setattr(backends, "_PATIENCE_SECONDS", -1.0)
    said: list[str] = []
    first, *others = backends.usable(model, "mine")
    assert backends.choose(model, "mine", say=said.append).backend == first
    assert [line.split()[1] for line in said if "not tried" in line] == others


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "pytorch", "auto"])
def test_the_operator_can_force_one(backend: str, model: Path, reader: Callable[[int], Any]) -> None:
    if backend in RUNTIMES:
        pytest.importorskip(backend)
    separator = DemucsSeparator()
    separator.load(LoadRequest("mine", str(model), "cpu"))
    blocks: list[Any] = []

    class Sinks:
        wanted = ("bass",)
        frames = 0

        def write(self, stems: Any) -> None:
            blocks.append(stems["bass"])

    params = {"shifts": 0, "overlap": 0.25, "segment": 0.0, "seed": 0, "batch": 0, "backend": backend}
    separator.separate(reader(9000), Sinks(), params, lambda *_: None, lambda: False)
    assert sum(block.shape[-1] for block in blocks) == 9000
    assert separator._loaded is not None
    assert backend in {"auto", separator._loaded.backend}
    with pytest.raises(EngineError, match="cannot be run by"):
        separator.separate(reader(9000), Sinks(), {**params, "backend": "abacus"}, lambda *_: None, lambda: False)


def test_graphs_alone_are_a_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (model / "converted").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    there = [name for name in RUNTIMES if name in backends.installed()]
    assert backends.usable(tmp_path, "mine") == [name for name in backends.NAMES if name in there]
    monkeypatch.setattr(backends, "_findings", lambda: None)
    if there:
        assert backends.choose(tmp_path, "mine").backend in there
    monkeypatch.setattr(backends, "installed", lambda: ["onnxruntime"])
    with pytest.raises(EngineError, match="ironclad models convert demucs other"):
        backends.choose(tmp_path / "nowhere", "other")


def test_a_graph_that_is_wrong_is_not_taken(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded second is what it is compared with where PyTorch has no weights."""
    pytest.importorskip("onnxruntime")
    for path in (model / "converted").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "one.onnx").write_bytes((tmp_path / "two.onnx").read_bytes())
    monkeypatch.setattr(backends, "_findings", lambda: None)
    with pytest.raises(EngineError, match="no backend agrees"):
        backends.choose(tmp_path, "mine")


def test_other_networks_are_not_converted(hybrid: Any, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "old.safetensors", hybrid)
    with pytest.raises(EngineError, match="old is a HDemucs; only HTDemucs"):
        export.convert("mine", tmp_path, tmp_path)
