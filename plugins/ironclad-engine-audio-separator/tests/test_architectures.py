"""audio-separator's networks through the plugin: the same samples as its own code, at full resolution."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ironclad_engine_audio_separator.separator import ArchitectureSeparator

from ironclad.engines.host.api import EngineError, LoadRequest
from ironclad.engines.host.pcm import PcmReader, PcmSinks

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 44_100
PARAMS = {"overlap": 0.0, "denoise": False, "aggression": 5}


def separated(model: Path, mixture: Any, stems: tuple[str, ...], **params: Any) -> dict[str, Any]:
    """Through the host's own files, as in production."""
    folder = model / "io"
    folder.mkdir()
    (folder / "in.f32").write_bytes(np.ascontiguousarray(mixture.T, "<f4").tobytes())
    frames = mixture.shape[1]
    reader = PcmReader(str(folder / "in.f32"), frames=frames, channels=2, rate=RATE)
    sinks = PcmSinks(str(folder), stems, frames=frames, channels=2)
    separator = ArchitectureSeparator()
    try:
        separator.load(LoadRequest("tiny", str(model), "cpu"))
        separator.separate(reader, sinks, {**PARAMS, **params}, lambda _done, _total: None, lambda: False)
        sinks.finish()
    finally:
        reader.close()
        sinks.discard()
    return {stem: np.fromfile(folder / f"{stem}.f32", "<f4").reshape(-1, 2).T for stem in stems}


def tone(frames: int, level: float) -> Any:
    """Far above the three lowest bins, which MDX-Net leaves out."""
    time = np.arange(frames) / RATE
    return (level * np.stack([np.sin(2 * np.pi * 3001 * time), np.sin(2 * np.pi * 8999 * time)])).astype(np.float32)


def noise(frames: int) -> Any:
    return (np.random.default_rng(3).standard_normal((2, frames)) * 0.2).astype(np.float32)


def snr(truth: Any, given: Any) -> float:
    error = np.square(truth.astype(float) - given.astype(float)).sum()
    return float(10 * np.log10(np.square(truth.astype(float)).sum() / error))


@pytest.mark.parametrize("level", [3.0, 0.5, 1e-4], ids=["loud", "usual", "quiet"])
def test_a_network_that_leaves_all_alone_costs_no_resolution(mdx: Callable[..., Path], level: float) -> None:
    mixture = tone(3 * RATE + 17, level)
    made = separated(mdx(), mixture, ("vocals", "instrumental"))
    assert made["vocals"].shape == mixture.shape
    inner = slice(2048, -2048)  # where the tone begins and ends it has every frequency, the three lowest bins' too
    assert snr(mixture[:, inner], made["vocals"][:, inner]) > 120
    np.testing.assert_array_equal(made["instrumental"], mixture - made["vocals"])


def test_mdx_net_equals_audio_separators_own(mdx: Callable[..., Path]) -> None:
    folder = mdx(0.5)
    mixture = noise(5 * RATE + 333)
    made = separated(folder, mixture, ("vocals",))
    from ironclad_engine_audio_separator import families, networks  # noqa: PLC0415  # seconds

    own = networks.Network(families.read(folder), "cpu")._wrapped.demix(mixture)
    assert snr(own, made["vocals"]) > 120


@pytest.mark.parametrize("name", ["mdx23c", "roformer"])
def test_torch_models_equal_audio_separators_own(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    mixture = noise(30_011)
    made = separated(folder, mixture, ("vocals", "instrumental"))
    from ironclad_engine_audio_separator import families, networks  # noqa: PLC0415  # seconds

    wrapped = networks.Network(families.read(folder), "cpu")._wrapped
    wrapped.overlap = 4 if name == "mdx23c" else 2
    own = {stem.lower(): wave for stem, wave in wrapped.demix(mixture).items()}
    assert snr(own["vocals"], made["vocals"]) > 110
    assert snr(own["instrumental" if name == "mdx23c" else "other"], made["instrumental"]) > 110


def test_a_song_shorter_than_a_segment_loses_nothing(roformer: Path) -> None:
    mixture = noise(5000)  # audio-separator's own result ends 8 samples early
    made = separated(roformer, mixture, ("vocals", "instrumental"))
    assert np.abs(made["vocals"][:, -8:]).min() > 0
    np.testing.assert_allclose(made["vocals"] + made["instrumental"], mixture, atol=1e-6)


def test_vr_models_keep_level_and_length(vr: Path) -> None:
    mixture = noise(2 * RATE + 77)
    stems = ("vocals", "instrumental")
    found = []
    for level in (1.0, 15.0, 0.005):  # far beyond full scale, and below what 16 bits could show with 100 dB
        found.append(separated(vr, mixture * np.float32(level), stems))
        shutil.rmtree(vr / "io")
        assert all(wave.shape == mixture.shape for wave in found[-1].values())
        for stem in stems:
            assert snr(found[0][stem] * level, found[-1][stem]) > 100 or level == 1.0
    assert snr(mixture, found[0]["vocals"] + found[0]["instrumental"]) > 20  # what lies above its bands is lost


def test_denoising_averages_both_signs(mdx: Callable[..., Path]) -> None:
    mixture = tone(RATE, 0.3)
    made = separated(mdx(0.5), mixture, ("vocals",), denoise=True)
    assert snr(mixture[:, 2048:-2048] / 2, made["vocals"][:, 2048:-2048]) > 110


def test_values_that_are_not_finite_are_an_error(mdx: Callable[..., Path]) -> None:
    with pytest.raises(EngineError) as caught:
        separated(mdx(float("nan")), tone(RATE, 0.3), ("vocals",))
    assert caught.value.code == "E_OUTPUT_INVALID"


class Evil:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("name", ["mdx23c", "roformer"])
def test_a_checkpoint_that_would_run_code_runs_none(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    (folder / "tiny.ckpt").write_bytes(pickle.dumps(Evil(folder / "ran")))
    with pytest.raises(EngineError, match="cannot be loaded") as caught:
        ArchitectureSeparator().load(LoadRequest("tiny", str(folder), "cpu"))
    assert caught.value.kind == "model"
    assert not (folder / "ran").exists()


def test_weights_of_another_model_are_an_error_and_no_exit(mdx23c: Path, mdx: Callable[..., Path]) -> None:
    import torch  # noqa: PLC0415  # conftest.py skips where it is not

    torch.save({"nothing": torch.zeros(1)}, mdx23c / "tiny.ckpt")
    with pytest.raises(EngineError, match="cannot be loaded"):
        ArchitectureSeparator().load(LoadRequest("tiny", str(mdx23c), "cpu"))
    (mdx23c / "tiny.ckpt").unlink()
    (mdx23c / "tiny.yaml").unlink()
    (mdx() / "tiny.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match="cannot be loaded"):
        ArchitectureSeparator().load(LoadRequest("tiny", str(mdx23c), "cpu"))
