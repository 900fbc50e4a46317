"""Demucs without PyTorch, on graphs made here: the transforms, the driver, the choice of a backend."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_models

pytest.importorskip("yaml", reason="PyYAML is not here")
from ironclad_engine_demucs import backends, graphs, reference, spectral, streaming  # after the skip
from ironclad_engine_demucs.bags import BAGS, Bag  # after the skip
from ironclad_engine_demucs.folders import read_bag  # after the skip
from ironclad_engine_demucs.plugin import ironclad_engines  # after the skip
from ironclad_engine_demucs.separator import DemucsSeparator  # after the skip

from ironclad.engines import ladder  # after the skip
from ironclad.engines.host.api import EngineError, LoadRequest  # after the skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE, RATE, FRAMES, STEMS = 256, 4000, 4000, 4
BINS, STEPS = SIZE // 2, math.ceil(FRAMES / (SIZE // 4))
GAINS = np.array(tiny_models.GAINS, np.float32)


def noise(frames: int, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).standard_normal((2, frames)) * 0.2).astype(np.float32)


class Reader:
    def __init__(self, wave: Any, rate: int = RATE) -> None:
        self.wave, self.rate = wave, rate
        self.channels, self.frames = wave.shape

    def read(self, start: int, count: int) -> Any:
        return self.wave[:, start : start + count]


class Gains:
    """A runtime whose stems are shares of the mixture, by the wave alone (`half`: half of it by the spectrum)."""

    def __init__(self, *, half: bool = False) -> None:
        self.inputs = {"mixture": (1, 2, FRAMES), "spectrum": (1, 4, BINS, STEPS)}
        self.outputs: list[tuple[Any, ...]] = [(1, STEMS, 4, BINS, STEPS), ("?", "?", "?", "?")]
        self._wave, self._spectrum = (0.5, 0.5) if half else (1.0, 0.0)
        self.looks = 0

    def run(self, feeds: Any, waiting: Callable[[], None]) -> list[Any]:
        self.looks += 1
        waiting()
        shaped = GAINS.reshape(1, STEMS, 1, 1)
        return [
            feeds["mixture"][:, None] * shaped * np.float32(self._wave),
            feeds["spectrum"][:, None] * shaped[..., None] * np.float32(self._spectrum),
        ]


def network(path: Path, runtime: Any) -> graphs.GraphNetwork:
    path.with_suffix(".json").write_text(json.dumps({"sources": ["a", "b", "c", "d"], "samplerate": RATE}))
    return graphs.GraphNetwork(path, runtime)


@pytest.mark.parametrize("length", [FRAMES, 3777, 1024])
def test_the_inverse_transform_gives_the_wave_back(length: int) -> None:
    # But for the ends, where two frames are left out, and the bin at half the rate, as Demucs has it.
    tone = np.sin(2 * np.pi * 440 * np.arange(length) / RATE).astype(np.float32)
    both = np.stack([tone, -tone])
    assert spectral.spectrum(both, SIZE).shape == (4, BINS, math.ceil(length / (SIZE // 4)))
    np.testing.assert_allclose(
        spectral.waves(spectral.spectrum(both, SIZE), length)[:, SIZE:-SIZE], both[:, SIZE:-SIZE], atol=1e-5
    )


def test_a_frame_is_the_transform_of_the_window() -> None:
    mixture = noise(FRAMES)
    parts = spectral.spectrum(mixture, SIZE)
    step, hop = 20, SIZE // 4
    start = step * hop - (SIZE // 2 - hop // 2)  # frames are centred on the middles of their hops
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    frame = mixture[1, start : start + SIZE].astype(np.float64) * window
    turns = np.exp(-2j * np.pi * np.outer(np.arange(BINS), np.arange(SIZE)) / SIZE)
    expected = turns @ frame / math.sqrt(SIZE)
    np.testing.assert_allclose(parts[2, :, step] + 1j * parts[3, :, step], expected, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 500, FRAMES, FRAMES + 1, 13_001])
def test_streamed_through_a_graph(frames: int, tmp_path: Path) -> None:
    reader = Reader(noise(frames) + np.float32(0.05))
    runtime = Gains()
    blocks = streaming.separate(
        [network(tmp_path / "one.onnx", runtime)], None, reader, streaming.Plan(), statistics=streaming.measure(reader)
    )
    made = [stems for _, stems in blocks]
    assert sum(block["a"].shape[-1] for block in made) == frames
    if frames > 1:
        mean = reader.wave.mean()
        for stem, gain in zip("abcd", GAINS, strict=True):
            whole = np.concatenate([block[stem] for block in made], -1)
            np.testing.assert_allclose(whole - mean, (reader.wave - mean) * gain, atol=1e-6)
    assert runtime.looks == len(range(0, frames, int(0.75 * FRAMES)))


def test_going_on_runs_only_what_is_needed(tmp_path: Path) -> None:
    reader, runtime = Reader(noise(5 * FRAMES)), Gains()
    one = [network(tmp_path / "one.onnx", runtime)]
    known = streaming.measure(reader)
    whole = np.concatenate(
        [stems["a"] for _, stems in streaming.separate(one, None, reader, streaming.Plan(), statistics=known)], -1
    )
    for since, segments in ((0, 7), (3000, 7), (4000, 6), (12_345, 4), (5 * FRAMES - 1, 1)):
        runtime.looks = 0
        blocks = list(streaming.separate(one, None, reader, streaming.Plan(), statistics=known, since=since))
        rest = np.concatenate([stems["a"] for _, stems in blocks], -1)
        np.testing.assert_array_equal(rest, whole[:, since:])
        assert (blocks[0][0], runtime.looks) == (since, segments)


def test_progress_goes_by_processor_time_and_what_it_raises_ends_the_segment(tmp_path: Path) -> None:
    one = network(tmp_path / "one.onnx", Gains())
    shares: list[float] = []
    with one.listening(shares.append):
        one(noise(FRAMES)[None])
    one(noise(FRAMES)[None])
    assert len(shares) == 1
    assert 0 <= shares[0] < 1

    def stop(_share: float) -> None:
        raise KeyboardInterrupt

    with one.listening(stop), pytest.raises(KeyboardInterrupt):
        one(noise(FRAMES)[None])


def test_a_graph_of_another_kind_is_refused(tmp_path: Path) -> None:
    odd = Gains()
    odd.inputs = {"x": (1, 2, FRAMES)}
    with pytest.raises(EngineError, match="not a mixture and its spectrum"):
        graphs.GraphNetwork(tmp_path / "odd.onnx", odd)
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(EngineError, match="not the description"):
        graphs.GraphNetwork(tmp_path / "odd.onnx", Gains())
    (tmp_path / "odd.json").unlink()
    assert graphs.GraphNetwork(tmp_path / "odd.onnx", Gains()).sources == ["drums", "bass", "other", "vocals"]
    odd = Gains()
    odd.outputs = [(1, 3, 4, BINS, STEPS)]
    with pytest.raises(EngineError, match="does not say which"):
        _ = graphs.GraphNetwork(tmp_path / "odd.onnx", odd).sources


def test_graphs_are_found_by_the_bags_signatures(tmp_path: Path) -> None:
    (tmp_path / "anything.onnx").touch()
    assert [path.name for path in graphs.files(tmp_path, "htdemucs")[0]] == ["anything.onnx"]
    with pytest.raises(EngineError, match="no file for network f7e0c4bc"):
        graphs.files(tmp_path, "htdemucs_ft")
    for signature in BAGS["htdemucs_ft"].signatures:
        (tmp_path / f"{signature}.onnx").touch()
    paths, bag = graphs.files(tmp_path, "htdemucs_ft")
    assert [path.stem for path in paths] == list(bag.signatures)
    (tmp_path / "converted").mkdir()
    (tmp_path / "955717e8-8726e21a.th").touch()
    (tmp_path / "converted/955717e8.onnx").touch()
    assert [path.parent.name for path in graphs.files(tmp_path, "htdemucs")[0]] == ["converted"]
    assert read_bag(tmp_path, "htdemucs", graphs.GRAPH) == Bag(("955717e8",))


@pytest.mark.parametrize(
    ("model", "given", "tried"),
    [
        ("htdemucs", {}, []),  # one segment at a time, and shorter ones are padded
        ("htdemucs", {"batch": 4}, [(0, 2), (0, 1)]),
        ("htdemucs_ft", {"batch": 2}, [(0, 1)]),
        ("hdemucs_mmi", {}, [(44, 0), (22, 0), (11, 0)]),
        ("mdx_extra", {"segment": 30.0, "batch": 2}, [(22, 2), (11, 2), (11, 1)]),
    ],
)
def test_what_is_stepped_down_is_what_helps(model: str, given: dict[str, Any], tried: list[tuple[float, int]]) -> None:
    (spec,) = ironclad_engines()
    first = ladder.Rung(model, "cpu", spec.resolve(given))
    _asked, *steps = ladder.rungs(spec, first, ("segment", "batch"))
    assert [(step.values["segment"], step.values["batch"]) for step in steps] == tried
    memory = spec.memory_of(model)
    sizes = [memory.estimate(1, 44100, rung.values) for rung in (first, *steps)]
    assert sizes == sorted(sizes, reverse=True)
    assert 1000 << 20 < sizes[-1] < 4000 << 20


@pytest.mark.parametrize(("count", "alone"), [(1, True), (2, False)])
def test_a_network_among_others_gives_its_buffers_back(
    count: int, *, alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []

    def runtime(_path: Path, _threads: int, *, alone: bool) -> Gains:
        made.append(alone)
        return Gains()

    monkeypatch.setitem(graphs.RUNTIMES, "gains", runtime)  # type: ignore[arg-type]  # not a class
    names = [f"net{index}" for index in range(count)]
    for name in names:
        (tmp_path / f"{name}.onnx").touch()
    (tmp_path / "mine.yaml").write_text(f"models: [{', '.join(names)}]\n", encoding="utf-8")
    networks, _bag = graphs.load(tmp_path, "mine", "gains")
    assert (len(networks), made) == (count, [alone] * count)


def trial(seconds: float, scale: float = 1.0, error: float = 0.0) -> backends.Trial:
    answer = np.random.default_rng(3).standard_normal((4, 2, 100)).astype(np.float32)
    wrong = np.random.default_rng(4).standard_normal(answer.shape).astype(np.float32)
    return backends.Trial([answer * np.float32(scale) + np.float32(error) * wrong], seconds)


def test_the_fastest_that_is_right_is_taken() -> None:
    truth = trial(0).answers
    trials = {"quick": trial(1, error=0.05), "good": trial(2, error=1e-4), "slow": trial(3)}
    chosen, agreements = backends.fastest(trials, truth)
    assert chosen == "good"
    assert agreements["quick"] == pytest.approx(26, abs=2)
    assert agreements["good"] == pytest.approx(80, abs=2)
    assert agreements["slow"] == math.inf
    assert backends.fastest({"quick": trial(1, error=0.05)}, truth)[0] is None


def test_without_a_truth_they_must_agree_with_one_another() -> None:
    assert backends.fastest({"one": trial(2), "other": trial(1, error=1e-4)}, None)[0] == "other"
    assert backends.fastest({"one": trial(2), "wrong": trial(1, scale=-1)}, None)[0] is None
    assert backends.fastest({"alone": trial(1)}, None)[0] == "alone"
    assert backends.fastest({"broken": trial(1, scale=math.nan)}, None)[0] is None
    assert backends.fastest({}, None)[0] is None


def test_the_reference_second_is_the_same_everywhere(tmp_path: Path) -> None:
    one = network(tmp_path / "one.onnx", Gains())
    mixture = reference.mixture(one)
    assert mixture.shape == (2, FRAMES)
    assert float(mixture.std()) == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(mixture, reference.mixture(one))
    assert reference.second(np.zeros((4, 2, 3 * RATE), np.float32), RATE).shape == (4, 2, RATE)
    assert reference.second(np.zeros((4, 2, 10), np.float32), RATE).shape == (4, 2, 10)


def test_nothing_of_it_imports_pytorch() -> None:
    assert {"ironclad_engine_demucs.streaming", "ironclad_engine_demucs.backends"} <= set(sys.modules)
    assert "torch" not in sys.modules
    assert "ironclad_engine_demucs.pytorch" not in sys.modules


def test_a_graph_does_not_wait_for_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyTorch is installed beside the runtimes, importing it takes longer than everything else of a start."""
    monkeypatch.setattr(backends, "installed", lambda: ["gains", "pytorch"])
    monkeypatch.setitem(backends._PACKAGES, "gains", ("numpy",))  # type: ignore[index]  # a constant elsewhere
    monkeypatch.setattr(backends, "_findings", lambda: None)
    monkeypatch.setitem(sys.modules, "ironclad_engine_demucs.pytorch", None)  # importing it fails
    monkeypatch.setitem(graphs.RUNTIMES, "gains", lambda *_, **__: Gains())  # type: ignore[arg-type]  # not a class
    (tmp_path / "one.onnx").touch()
    (tmp_path / "mine.yaml").write_text("models: [one]\n", encoding="utf-8")
    separator = DemucsSeparator()
    separator.load(LoadRequest("mine", str(tmp_path), "cpu"))
    assert separator.backend == "gains"


# --- a real graph in a real runtime -----------------------------------------------------------------------------------


def graph(path: Path) -> Path:
    """The same shares of the mixture, as ONNX."""
    pytest.importorskip("onnx", reason="the package onnx is not here")
    return tiny_models.shares(path, FRAMES, BINS, STEPS)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_from_elsewhere_runs(runtime: str, tmp_path: Path) -> None:
    pytest.importorskip(runtime, reason=f"{runtime} is not here")
    graph(tmp_path / "any.onnx")
    (one,), _bag = graphs.load(tmp_path, "htdemucs", runtime)
    mixture = noise(FRAMES, 5)
    np.testing.assert_allclose(
        one(mixture[None]), network(tmp_path / "other.onnx", Gains(half=True))(mixture[None]), atol=1e-6
    )


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_damaged_graph_is_an_error_with_its_name(runtime: str, tmp_path: Path) -> None:
    pytest.importorskip(runtime, reason=f"{runtime} is not here")
    (tmp_path / "any.onnx").write_bytes(b"nonsense")
    with pytest.raises(EngineError, match=r"any\.onnx"):
        graphs.load(tmp_path, "htdemucs", runtime)
