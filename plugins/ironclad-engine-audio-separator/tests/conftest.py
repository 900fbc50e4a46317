"""Tiny models of audio-separator's own classes, made here; no weights are fetched, and nothing is looked up."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

torch = pytest.importorskip("torch", reason="PyTorch is not here; run this with the engine's own environment")
pytest.importorskip("audio_separator", reason="audio-separator is not here; run this with the engine's own environment")

MDX = {
    "compensate": 1.0, "mdx_dim_f_set": 1024, "mdx_dim_t_set": 6, "mdx_n_fft_scale_set": 2048, "primary_stem": "Vocals",
}  # fmt: skip
MDX23C = """
audio: {n_fft: 1024, hop_length: 256, dim_f: 512, num_channels: 2, sample_rate: 44100, chunk_size: 16128}
model: {norm: InstanceNorm, act: gelu, num_subbands: 4, num_scales: 2, scale: !!python/tuple [2, 2],
        num_blocks_per_scale: 1, num_channels: 8, growth: 4, bottleneck_factor: 4}
training: {instruments: [Vocals, Instrumental], target_instrument: null}
inference: {dim_t: 64, num_overlap: 4, batch_size: 1}
"""
ROFORMER = """
audio: {n_fft: 512, hop_length: 128, dim_f: 256, num_channels: 2, sample_rate: 44100, chunk_size: 8064}
model: {dim: 16, depth: 1, stereo: true, num_stems: 1, time_transformer_depth: 1, freq_transformer_depth: 1,
        linear_transformer_depth: 0, freqs_per_bands: !!python/tuple [1, 64, 64, 128], dim_head: 8, heads: 2,
        attn_dropout: 0.0, ff_dropout: 0.0, flash_attn: false, mask_estimator_depth: 1, stft_n_fft: 512,
        stft_hop_length: 128, stft_win_length: 512, stft_normalized: false}
training: {instruments: [vocals, other], target_instrument: vocals}
inference: {dim_t: 64, num_overlap: 2, batch_size: 1}
"""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **_more: Any) -> None:
        raise AssertionError(f"it wanted to reach {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture
def mdx(tmp_path: Path) -> Callable[..., Path]:
    """`mdx(gain)`: a graph that multiplies every spectrum."""
    import onnx  # noqa: PLC0415  # comes with audio-separator
    from onnx import TensorProto, helper  # noqa: PLC0415  # likewise

    def make(gain: float = 1.0) -> Path:
        shape = [1, 4, 1024, 64]
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("input", "output")]
        factor = helper.make_tensor("gain", TensorProto.FLOAT, [1], [gain])
        node = helper.make_node("Mul", ["input", "gain"], ["output"])
        graph = helper.make_graph([node], "tiny", values[:1], values[1:], [factor])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "tiny.onnx")
        (tmp_path / "tiny.json").write_text(json.dumps(MDX))
        return tmp_path

    return make


@pytest.fixture
def vr(tmp_path: Path) -> Path:
    from audio_separator import separator  # noqa: PLC0415  # seconds
    from audio_separator.separator.uvr_lib_v5.vr_network import model_param_init, nets_new  # noqa: PLC0415  # likewise

    torch.manual_seed(3)
    folder = Path(separator.__file__).parent / "uvr_lib_v5/vr_network/modelparams"
    bins = model_param_init.ModelParameters(str(folder / "1band_sr44100_hl512.json")).param["bins"]
    network = nets_new.CascadedNet(bins * 2, 56817, nout=8, nout_lstm=16)
    torch.save(network.state_dict(), tmp_path / "tiny.pth")
    data = {"vr_model_param": "1band_sr44100_hl512", "primary_stem": "Vocals", "nout": 8, "nout_lstm": 16}
    (tmp_path / "tiny.json").write_text(json.dumps(data))
    return tmp_path


@pytest.fixture
def mdx23c(tmp_path: Path) -> Path:
    import yaml  # noqa: PLC0415  # likewise
    from audio_separator.separator.uvr_lib_v5.tfc_tdf_v3 import TFC_TDF_net  # noqa: PLC0415  # seconds
    from ml_collections import ConfigDict  # noqa: PLC0415  # comes with audio-separator

    torch.manual_seed(1)
    data = yaml.unsafe_load(MDX23C)
    torch.save(TFC_TDF_net(ConfigDict(data), device="cpu").state_dict(), tmp_path / "tiny.ckpt")
    (tmp_path / "tiny.yaml").write_text(MDX23C)
    return tmp_path


@pytest.fixture
def roformer(tmp_path: Path) -> Path:
    import yaml  # noqa: PLC0415  # comes with audio-separator
    from audio_separator.separator.uvr_lib_v5.roformer.bs_roformer import BSRoformer  # noqa: PLC0415  # seconds

    torch.manual_seed(2)
    data = yaml.unsafe_load(ROFORMER)["model"]
    data.pop("linear_transformer_depth")
    torch.save(BSRoformer(**data).state_dict(), tmp_path / "tiny.ckpt")
    (tmp_path / "tiny.yaml").write_text(ROFORMER)
    return tmp_path
