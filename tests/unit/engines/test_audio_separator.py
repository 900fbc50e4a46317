"""The plugin around audio-separator, without it: folders, segments, what is refused."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ironclad_engine_audio_separator import families, overlap
from ironclad_engine_audio_separator.plugin import ironclad_engines
from ironclad_engine_audio_separator.separator import ArchitectureSeparator

from ironclad.engines.host.api import EngineError, LoadRequest

if TYPE_CHECKING:
    from pathlib import Path

RATE = 44_100
PARAMS = {"overlap": 0.0, "denoise": False, "aggression": 5}
MDX = {
    "compensate": 1.0, "mdx_dim_f_set": 1024, "mdx_dim_t_set": 8, "mdx_n_fft_scale_set": 2048, "primary_stem": "Vocals",
}  # fmt: skip
PLANS = [
    lambda frames: overlap.mdx(frames, chunk=4096, trim=512, overlap=0.25),
    lambda frames: overlap.mdx(frames, chunk=4096, trim=512, overlap=0.75),
    lambda frames: overlap.mdxc(frames, chunk=4096, count=4),
    lambda frames: overlap.mdxc(frames, chunk=4096, count=3),
    lambda frames: overlap.roformer(frames, chunk=4096, count=4),
    lambda frames: overlap.roformer(frames, chunk=4096, count=1),
]


class Reader:
    channels = 2

    def __init__(self, frames: int, level: float = 0.2, rate: int = RATE) -> None:
        self.wave = (np.random.default_rng(frames).standard_normal((2, frames)) * level).astype(np.float32)
        self.frames, self.rate = frames, rate

    def read(self, start: int, count: int) -> Any:
        assert 0 <= start <= start + count <= self.frames
        return self.wave[:, start : start + count]


class Sinks:
    def __init__(self, *wanted: str) -> None:
        self.wanted, self.frames = wanted, 0
        self.made: dict[str, list[Any]] = {stem: [] for stem in wanted}

    def write(self, stems: Any) -> None:
        for stem in self.wanted:
            self.made[stem].append(stems[stem])
        self.frames += stems[self.wanted[0]].shape[-1]

    def stem(self, name: str) -> Any:
        return np.concatenate(self.made[name], -1)


def snr(truth: Any, given: Any) -> float:
    noise = np.square(truth.astype(float) - given).sum()
    return float(10 * np.log10(np.square(truth, dtype=float).sum() / max(noise, 1e-300)))


# --- segments ---


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("frames", [1, 500, 4095, 4096, 4097, 30_011])
def test_what_the_network_leaves_alone_comes_back(plan: Any, frames: int) -> None:
    reader = Reader(frames)
    pieces = list(overlap.separate(reader, plan(frames), 1, lambda block: block[None]))
    whole = np.concatenate(pieces, -1)[0]
    assert whole.shape == reader.wave.shape
    assert snr(reader.wave, whole) > 140
    assert max(piece.shape[-1] for piece in pieces) <= 4096  # however long the recording is


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda block: np.full_like(block, np.nan)[None], "not finite"),
        (lambda block: block[None, :, :-1], "the network gave"),
        (lambda block: block[:1][None], "the network gave"),
        (lambda block: np.stack([block, block]), "the network gave"),
    ],
)
def test_what_a_network_gives_is_looked_at(network: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        list(overlap.separate(Reader(9000), PLANS[0](9000), 1, network))
    assert (caught.value.kind, caught.value.code) == ("engine", "E_OUTPUT_INVALID")


# --- a model at work, its network replaced by arithmetic ---


class Half:
    """A network that takes half for the vocals."""

    def __init__(self, model: families.Model) -> None:
        self.model = model

    def plan(self, frames: int, share: float) -> overlap.Plan:
        return overlap.mdx(frames, chunk=8192, trim=1024, overlap=share or 0.25)

    def __call__(self, block: Any, *, denoise: bool) -> Any:
        assert not denoise
        return block[None] * np.float32(0.5)


@pytest.fixture
def separator(tmp_path: Path) -> ArchitectureSeparator:
    (tmp_path / "model.onnx").write_bytes(b"weights")
    (tmp_path / "model.json").write_text(json.dumps(MDX))
    made = ArchitectureSeparator()
    made._model = families.read(tmp_path)
    made._network = Half(made._model)  # type: ignore[assignment]  # no PyTorch here
    return made


@pytest.mark.parametrize("level", [3.0, 0.2, 1e-4])
def test_nothing_is_normalised_or_rounded(separator: ArchitectureSeparator, level: float) -> None:
    reader, sinks = Reader(50_000, level), Sinks("vocals", "instrumental")
    steps: list[tuple[int, int]] = []
    separator.separate(reader, sinks, PARAMS, lambda *step: steps.append(step), lambda: False)
    assert sinks.frames == 50_000
    assert snr(reader.wave / 2, sinks.stem("vocals")) > 130
    np.testing.assert_array_equal(sinks.stem("instrumental"), reader.wave - sinks.stem("vocals"))
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]


def test_other_rates_and_stems_are_refused(separator: ArchitectureSeparator) -> None:
    with pytest.raises(EngineError, match="48000 Hz"):
        separator.separate(Reader(10, rate=48_000), Sinks("vocals"), PARAMS, lambda *_: None, lambda: False)
    with pytest.raises(EngineError, match="makes vocals, instrumental, not drums"):
        separator.separate(Reader(10), Sinks("drums"), PARAMS, lambda *_: None, lambda: False)


def test_without_weights_it_says_how_to_get_them() -> None:
    with pytest.raises(EngineError, match="models import audio-separator mdx-net PATH --pin") as caught:
        ArchitectureSeparator().load(LoadRequest("mdx-net", "", "cpu"))
    assert caught.value.code == "E_MODEL_MISSING"


# --- folders ---


def folder(path: Path, weights: str, description: str, kind: str = "yaml") -> Path:
    (path / weights).write_bytes(b"weights")
    (path / f"config.{kind}").write_text(description)
    (path / "manifest.json").write_text("{}")  # the store's
    return path


def described(instruments: str, target: str = "null", model: str = "{}") -> str:
    training = f"{{instruments: {instruments}, target_instrument: {target}}}"
    return f"audio: {{}}\nmodel: {model}\ninference: {{}}\ntraining: {training}"


@pytest.mark.parametrize(
    ("weights", "description", "family", "predicted", "rest"),
    [
        ("a.ckpt", described("[Vocals, Instrumental]"), "mdxc", ("vocals", "instrumental"), ""),
        ("a.ckpt", described("[vocals, other]", "vocals"), "mdxc", ("vocals",), "instrumental"),
        ("a.ckpt", described("[vocals, other]", "other"), "mdxc", ("instrumental",), "vocals"),
        ("a.ckpt", described("[drums, bass, other, vocals]"), "mdxc", ("drums", "bass", "other", "vocals"), ""),
        ("a.ckpt", described("[karaoke, other]", "karaoke", "{num_bands: 60}"), "roformer", ("karaoke",), "other"),
        (
            "a.ckpt", described("[vocals, other]", "vocals", "{freqs_per_bands: !!python/tuple [2, 4]}"), "roformer",
            ("vocals",), "instrumental",
        ),
        ("a.onnx", json.dumps(MDX), "mdx", ("vocals",), "instrumental"),
        ("a.pth", '{"vr_model_param": "4band_v3", "primary_stem": "Dry"}', "vr", ("dry", "no_dry"), ""),
    ],
)  # fmt: skip
def test_what_is_in_a_folder(  # noqa: PLR0917  # a table
    weights: str, description: str, family: str, predicted: tuple[str, ...], rest: str, tmp_path: Path
) -> None:
    model = families.read(folder(tmp_path, weights, description))
    assert (model.family, model.predicted, model.rest) == (family, predicted, rest)


@pytest.mark.parametrize(
    ("weights", "description", "message"),
    [
        ("a.bin", "{}", "there are 0 files of weights"),
        ("a.onnx", "{}", "lacks compensate, mdx_dim_f_set"),
        ("a.onnx", "- 1", "needs a description"),
        ("a.onnx", "{", "cannot be read"),
        ("a.ckpt", "!!python/object/apply:os.system ['false']", "cannot be read"),
        ("a.ckpt", described("[vocals]"), "neither a target"),
    ],
)
def test_what_is_wrong_with_a_folder(weights: str, description: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        families.read(folder(tmp_path, weights, description))
    assert caught.value.kind == "model"


def test_two_models_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.pth").write_bytes(pickle.dumps(1))
    with pytest.raises(EngineError, match="there are 2 files of weights"):
        families.read(folder(tmp_path, "a.onnx", "{}"))


def test_weights_without_a_description_need_one(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"unknown")
    with pytest.raises(EngineError, match="needs a description"):
        families.read(tmp_path)


def test_the_declaration() -> None:
    (spec,) = ironclad_engines()
    assert spec.stems_of("roformer-4stems") == ("drums", "bass", "other", "vocals")
    assert all("unknown" in model.licence and model.files for model in spec.models)
