"""Spleeter without TensorFlow: checkpoints, graphs, transforms, masks. Small networks made here; no weights."""

from __future__ import annotations

import sys
import tarfile
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bundles
import numpy as np
import pytest
import tiny_models
from ironclad_engine_spleeter import checkpoint, graphs, reference, spectra
from ironclad_engine_spleeter.plugin import ironclad_engines
from ironclad_engine_spleeter.recipes import FRAMES, HOP, RATE, RECIPES, WINDOW
from ironclad_engine_spleeter.separator import SpleeterSeparator

from ironclad.engines.host.api import EngineError, LoadRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARAMS = {"bandwidth": "11kHz", "wiener": False, "backend": "auto"}
BLOCK = FRAMES * HOP


class Reader:
    rate = RATE
    channels = 2

    def __init__(self, frames: int, seed: int = 0) -> None:
        self.wave = (np.random.default_rng(seed).standard_normal((2, frames)) * 0.2).astype(np.float32)
        self.frames = frames

    def read(self, start: int, count: int) -> Any:
        assert 0 <= start <= start + count <= self.frames
        return self.wave[:, start : start + count]


# --- transforms and masks ---


def shares(*gains: float) -> Callable[[Any], list[Any]]:
    return lambda magnitudes: [magnitudes * np.float32(gain) for gain in gains]


@pytest.mark.parametrize("frames", [1, 1000, BLOCK - WINDOW, BLOCK, 2 * BLOCK + 12_345])
def test_what_no_mask_changes_comes_back(frames: int) -> None:
    reader = Reader(frames)
    pieces = list(spectra.separate(reader, ["all"], shares(1.0), 2049))
    whole = np.concatenate([piece["all"] for piece in pieces], -1)
    np.testing.assert_allclose(whole, reader.wave, atol=2e-6)
    assert len(pieces) <= spectra.count_blocks(frames)
    assert max(piece["all"].shape[1] for piece in pieces) <= BLOCK + WINDOW


@pytest.mark.parametrize("since", [1, BLOCK - WINDOW - 1, BLOCK - WINDOW, BLOCK - WINDOW + 3071, BLOCK + 5, 3 * BLOCK])
def test_going_on_makes_the_same_samples(since: int) -> None:
    reader = Reader(3 * BLOCK + 777)
    whole, rest = (
        np.concatenate([piece["a"] for piece in spectra.separate(reader, ["a", "b"], shares(1, 2), 1024, since=at)], -1)
        for at in (0, since)
    )
    np.testing.assert_array_equal(rest, whole[:, since:])


def test_masks_are_shares_of_squares() -> None:
    reader = Reader(30_000)
    (pieces,) = spectra.separate(reader, ["a", "b"], shares(0.6, 0.8), 2049)
    np.testing.assert_allclose(pieces["a"], 0.36 * reader.wave, atol=2e-6)
    np.testing.assert_allclose(pieces["b"], 0.64 * reader.wave, atol=2e-6)


def test_nothing_is_above_the_band() -> None:
    (pieces,) = spectra.separate(Reader(40_000), ["a"], shares(1.0), 1024)
    inner = pieces["a"][:, WINDOW:-WINDOW]
    power = np.abs(np.fft.rfft(inner * np.hanning(inner.shape[1]), axis=-1)) ** 2
    edge = power.shape[1] * 1030 // 2048
    assert power[:, edge:].sum() < 1e-6 * power.sum()


def test_blocks_do_not_depend_on_what_is_around_them() -> None:
    """The second block of a long recording is the block of that part alone."""
    long = Reader(3 * BLOCK)
    _first, second, *_ = spectra.blocks(long)
    part = Reader(1)
    part.wave, part.frames = long.wave[:, BLOCK - WINDOW :], 2 * BLOCK + WINDOW
    windows = np.lib.stride_tricks.sliding_window_view(part.wave[:, :BLOCK], WINDOW, axis=-1)[:, ::HOP]
    np.testing.assert_allclose(
        second.spectrum[:, : windows.shape[1]], np.fft.rfft(windows * spectra.window()), atol=1e-5
    )


def wiener(reader: Reader, estimates: Callable[[Any], list[Any]], stems: int) -> list[Any]:
    learned = spectra.Wiener(stems, 2049)
    for block in spectra.blocks(reader):
        learned.learn(block, estimates(spectra.magnitudes(block, 2049)))
    names = [str(number) for number in range(stems)]
    pieces = list(spectra.separate(reader, names, estimates, 2049, masks=learned.masks))
    return [np.concatenate([piece[name] for piece in pieces], -1) for name in names]


def test_the_wiener_filter_tells_two_places_apart() -> None:
    """With the same magnitudes for both, only where they come from tells: left and right."""
    reader = Reader(BLOCK + 20_000)
    left = reader.wave * np.array([[1.0], [0.0]], np.float32)
    right = reader.wave * np.array([[0.0], [1.0]], np.float32)

    def favouring(magnitudes: Any) -> list[Any]:
        gains = np.array([0.8, 0.2], np.float32).reshape(2, 1, 1, 1)
        return [magnitudes * gains, magnitudes * (1 - gains)]

    one, other = wiener(reader, favouring, 2)
    np.testing.assert_allclose(one + other, reader.wave, atol=2e-3)
    plain = [0.94 * left + 0.06 * right, 0.06 * left + 0.94 * right]
    for made, mask, truth in ((one, plain[0], left), (other, plain[1], right)):
        assert np.square(made - truth).sum() < np.square(mask - truth).sum()


def test_the_wiener_filter_of_silence_is_silence() -> None:
    reader = Reader(10_000)
    reader.wave[:] = 0
    for made in wiener(reader, shares(0.5, 0.5), 2):
        np.testing.assert_array_equal(made, 0)


# --- checkpoints ---


def variables(recipe_name: str, seed: int = 0) -> dict[str, Any]:
    return tiny_models.spleeter_variables(len(RECIPES[recipe_name].stems), seed)


@pytest.mark.parametrize("packed", [False, True])
def test_a_checkpoint_is_read_without_tensorflow(packed: bool, tmp_path: Path) -> None:  # noqa: FBT001  # a case
    written = variables("4stems")
    folder = tmp_path / "4stems"
    folder.mkdir()
    bundles.write(folder, written)
    if packed:
        with tarfile.open(tmp_path / "4stems.tar.gz", "w:gz") as tar:
            tar.add(folder / "model.index", "./model.index")
            tar.add(folder / "model.data-00000-of-00001", "./model.data-00000-of-00001")
        folder = tmp_path
    read = checkpoint.read_folder(folder)
    assert read.keys() == written.keys()
    assert all(np.array_equal(read[name], values) for name, values in written.items())
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("damage", ["footer", "middle", "short data", "empty", "no data", "two"])
def test_a_damaged_checkpoint_is_an_error(damage: str, tmp_path: Path) -> None:
    bundles.write(tmp_path, variables("2stems"))
    index, data = tmp_path / "model.index", tmp_path / "model.data-00000-of-00001"
    content = bytearray(index.read_bytes())
    if damage == "footer":
        content[-1] ^= 1
    elif damage == "middle":
        content[40:80] = b"\xff" * 40
    elif damage == "empty":
        content.clear()
    index.write_bytes(content)
    if damage == "short data":
        data.write_bytes(data.read_bytes()[:1000])
    elif damage == "no data":
        data.unlink()
    elif damage == "two":
        (tmp_path / "other.index").write_bytes(content)
    with pytest.raises(EngineError, match="not a checkpoint") as caught:
        checkpoint.read_folder(tmp_path)
    assert caught.value.kind == "model"


# --- the engine, on ONNX Runtime ---


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], Path]:
    pytest.importorskip("onnx", reason="the package onnx is not here")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not here")
    from ironclad_engine_spleeter import convert  # noqa: PLC0415  # needs onnx

    def make(name: str) -> Path:
        folder = tmp_path / name
        (folder / "converted").mkdir(parents=True)
        bundles.write(folder, variables(name))
        convert.convert(name, folder, folder / "converted")
        return folder

    return make


class Sinks:
    def __init__(self, *wanted: str) -> None:
        self.wanted = wanted
        self.blocks: list[Any] = []

    @property
    def frames(self) -> int:
        return sum(block[self.wanted[0]].shape[-1] for block in self.blocks)

    def write(self, stems: Any) -> None:
        self.blocks.append(stems)


@pytest.mark.parametrize(("name", "band"), [("2stems", "11kHz"), ("4stems", "16kHz"), ("5stems", "11kHz")])
@pytest.mark.parametrize("filtered", [False, True])
def test_every_model_separates(name: str, band: str, filtered: bool, model: Callable[[str], Path]) -> None:  # noqa: FBT001  # a case
    engine = SpleeterSeparator()
    engine.load(LoadRequest(name, str(model(name)), "cpu"))
    stems, steps = RECIPES[name].stems, []
    sinks, reader = Sinks(*stems), Reader(BLOCK + 1234)
    params = {**PARAMS, "bandwidth": band, "wiener": filtered}
    engine.separate(reader, sinks, params, lambda *step: steps.append(step), lambda: False)
    assert sinks.frames == reader.frames
    assert steps == sorted(steps, key=lambda step: step[0] / step[1])
    assert steps[-1][0] == steps[-1][1]
    assert len(steps) == 1 + 2 * len(stems) * (1 + filtered)
    whole = {stem: np.concatenate([block[stem] for block in sinks.blocks], -1) for stem in stems}
    assert all(np.isfinite(wave).all() and np.abs(wave).max() > 0 for wave in whole.values())
    if not filtered:  # the masks sum to one, up to the band
        bins = {"11kHz": 1024, "16kHz": 1536}[band]
        (*pieces,) = spectra.separate(reader, ["all"], shares(1.0), bins)
        np.testing.assert_allclose(sum(whole.values()), np.concatenate([one["all"] for one in pieces], -1), atol=1e-4)


def test_five_stems_share_a_softmax(model: Callable[[str], Path]) -> None:
    paths = graphs.files(model("5stems"), RECIPES["5stems"].stems)
    assert paths is not None
    magnitudes = np.random.default_rng(1).random((2, 1, FRAMES, 1024), np.float32)
    made = graphs.Networks(paths)(magnitudes)
    np.testing.assert_allclose(np.sum(made, axis=0), magnitudes, rtol=1e-5)


def test_a_network_is_the_operators_that_keras_has(model: Callable[[str], Path]) -> None:
    """The first convolution of the first network, computed by hand at one place in the middle."""
    onnx = pytest.importorskip("onnx")
    folder = model("2stems")
    graph = onnx.load(folder / "converted/vocals.onnx")
    kinds = [node.op_type for node in graph.graph.node]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {
        "Transpose": 2, "Conv": 7 + 4 * 5, "DepthToSpace": 5, "ConvTranspose": 1, "BatchNormalization": 11,
        "LeakyRelu": 5, "Relu": 6, "Concat": 5 + 5, "Sigmoid": 1, "Mul": 1,
    }  # fmt: skip
    first = next(node for node in graph.graph.node if node.op_type == "Conv")
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(first.output[0]))
    import onnxruntime  # noqa: PLC0415  # asked for by the fixture

    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).random((2, 1, FRAMES, 1024), np.float32)
    made = session.run([first.output[0]], {"x": x})[0]
    assert made.shape == (1, 1, 256, 512)
    kernel = variables("2stems")["conv2d/kernel"]
    patch = x[:, 0, 2 * 100 - 1 : 2 * 100 + 4, 2 * 200 - 1 : 2 * 200 + 4]
    expected = np.einsum("chw,hwco->o", patch, kernel) + variables("2stems")["conv2d/bias"]
    np.testing.assert_allclose(made[0, :, 100, 200], expected, rtol=1e-5)


@pytest.mark.parametrize("level", range(6))
def test_four_convolutions_are_a_transposed_one(level: int, model: Callable[[str], Path]) -> None:
    """Each level on the way up, against the operator with the checkpoint's own kernel."""
    onnx = pytest.importorskip("onnx")
    import onnxruntime  # noqa: PLC0415  # asked for by the fixture

    graph = onnx.load(model("2stems") / "converted/vocals.onnx")
    name = f"conv2d_transpose_{level}" if level else "conv2d_transpose"
    kernel, bias = (variables("2stems")[f"{name}/{part}"] for part in ("kernel", "bias"))
    nodes = list(graph.graph.node)
    first = next(index for index, node in enumerate(nodes) if f"{name}/bias" in node.input)
    last = next(node for node in nodes[first:] if node.op_type in {"DepthToSpace", "ConvTranspose"})
    helper = onnx.helper
    operator = helper.make_node(
        "ConvTranspose", [nodes[first].input[0], "kernel", f"{name}/bias"], ["expected"],
        strides=[2, 2], pads=[1, 1, 2, 2],
    )  # fmt: skip
    graph.graph.node.append(operator)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(kernel.transpose(3, 2, 0, 1).copy(), "kernel"))
    graph.graph.output.extend(helper.make_empty_tensor_value_info(one) for one in (last.output[0], "expected"))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(level).random((2, 1, FRAMES, 1024), np.float32)
    made, expected = session.run([last.output[0], "expected"], {"x": x})
    assert made.shape == expected.shape
    assert np.ptp(expected - bias[None, :, None, None]) > 0
    np.testing.assert_allclose(made, expected, atol=1e-5 * float(np.abs(expected).max()))


def test_what_is_wrong_is_said(model: Callable[[str], Path], tmp_path: Path) -> None:
    engine = SpleeterSeparator()
    folder = model("2stems")
    for request, reason in (
        (LoadRequest("2stems", str(folder), "cuda"), "on the CPU"),
        (LoadRequest("9stems", str(folder), "cpu"), "none of 2stems"),
        (LoadRequest("2stems", str(tmp_path), "cpu"), "`ironclad models convert spleeter 2stems`"),
    ):
        with pytest.raises(EngineError, match=reason):
            engine.load(request)
    engine.load(LoadRequest("2stems", str(folder), "cpu"))
    with pytest.raises(EngineError, match="not drums"):
        engine.separate(Reader(100), Sinks("drums"), PARAMS, lambda *_: None, lambda: False)
    with pytest.raises(EngineError, match="tensorflow is not in this environment"):
        engine.separate(
            Reader(100), Sinks("vocals"), {**PARAMS, "backend": "tensorflow"}, lambda *_: None, lambda: False
        )
    mono = Reader(100)
    mono.wave, mono.channels = mono.wave[:1], 1  # type: ignore[misc]  # one channel
    with pytest.raises(EngineError) as caught:
        engine.separate(mono, Sinks("vocals"), PARAMS, lambda *_: None, lambda: False)
    assert caught.value.kind == "input"
    (folder / "converted/vocals.onnx").write_bytes(b"nonsense")
    with pytest.raises(EngineError, match=r"vocals\.onnx"):
        engine.load(LoadRequest("2stems", str(folder), "cpu"))


def test_what_progress_raises_ends_it(model: Callable[[str], Path]) -> None:
    engine = SpleeterSeparator()
    engine.load(LoadRequest("2stems", str(model("2stems")), "cpu"))

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    sinks = Sinks("vocals")
    with pytest.raises(KeyboardInterrupt):
        engine.separate(Reader(1000), sinks, PARAMS, stop, lambda: False)
    assert sinks.blocks == []


def test_tensorflow_is_not_left_at_work_on_a_song_that_was_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.index").touch()
    asked, release, ended = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        """As TensorFlow: nothing stops it but its end, or that of the process."""

        def separate(self, wave: Any) -> dict[str, Any]:
            assert release.wait(60)
            ended.set()
            return {"vocals": wave}

    class Stop(Exception):
        """Raised out of progress."""

    def cancel(_share: float) -> None:
        asked.set()
        raise Stop

    engine = reference.Reference(tmp_path, "2stems")
    monkeypatch.setattr(engine, "_separator", lambda *_args, **_names: Slow())
    told = threading.Event()

    def song() -> None:
        with pytest.raises(Stop):
            engine.separate(np.zeros((2, 4096), np.float32), "11kHz", wiener=False, waiting=cancel)
        assert ended.is_set(), "the next song would have been separated beside it"
        told.set()

    thread = threading.Thread(target=song)
    thread.start()
    assert asked.wait(60)
    thread.join(0.5)  # time to end too early
    release.set()
    thread.join(60)
    assert told.is_set()


def test_the_declaration_pins_what_is_published() -> None:
    (spec,) = ironclad_engines()
    assert [model.name for model in spec.models] == ["2stems", "4stems", "5stems"]
    assert spec.stems_of("5stems") == ("vocals", "piano", "drums", "bass", "other")
    assert all(len(file.sha256) == 64 and file.sources for model in spec.models for file in model.files)
    assert replace(spec).to_dict()["variants"][0]["name"] == "onnx"
