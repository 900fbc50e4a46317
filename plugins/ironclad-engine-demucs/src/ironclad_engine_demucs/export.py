"""HTDemucs as ONNX, from weights that `weights` has read: `ironclad models convert`.

The Fourier transforms stay outside (`spectral`): in a graph they would be dense matrices, slower than the network. For
each network there are then three files: the graph; what it makes of what (JSON); and what PyTorch makes of the middle
second of `reference.mixture`, which every other runtime is compared with.

Two things are written differently than Demucs has them, with the same result: the position embedding without its random
shift (of range 1, always 0), and group normalisations in two steps, because ONNX Runtime's sum over millions of float32
values in one go costs up to 35 dB.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from demucs.htdemucs import HTDemucs
from demucs.transformer import create_sin_embedding

from ironclad.engines.host.api import EngineError
from ironclad_engine_demucs import pytorch, reference

if TYPE_CHECKING:
    from pathlib import Path

_OPSET: Final = 17


class _Core(torch.nn.Module):
    """The network without its Fourier transforms: `(mixture, spectrum)` to `(waves, spectra)`."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self._given: Any = None
        self._made: Any = None
        network._spec = lambda _mixture: self._given  # noqa: SLF001  # this is how the graph is cut out
        network._magnitude = lambda spectrum: spectrum  # noqa: SLF001
        network._mask = self._keep  # noqa: SLF001
        network._ispec = lambda _spectra, _length: 0.0  # noqa: SLF001

    def _keep(self, _given: Any, made: Any) -> Any:
        self._made = made
        return made

    def forward(self, mixture: Any, spectrum: Any) -> tuple[Any, Any]:
        """Everything between the transforms."""
        self._given = spectrum
        waves = self.network(mixture)
        return waves, self._made


def convert(model: str, source: Path, target: Path) -> None:
    """Write the graphs of a model's networks into the folder `target`.

    Raises `EngineError` (model) for weights that cannot be read, and for networks that are no HTDemucs.
    """
    networks, bag = pytorch.load(source, model)
    for path in source.glob("*.yaml"):  # with it the folder is a model of its own, for machines without PyTorch
        shutil.copyfile(path, target / path.name)
    for signature, network in zip(bag.signatures, networks, strict=True):
        if not isinstance(network.module, HTDemucs):
            kind = type(network.module).__name__
            raise EngineError("model", f"{signature} is a {kind}; only HTDemucs runs without PyTorch")
        print(f"{signature}: what PyTorch makes of the reference second", file=sys.stderr)  # noqa: T201  # shown to the operator
        truth = network(reference.mixture(network)[None])[0]
        np.save(target / f"{signature}.npy", reference.second(truth, network.samplerate))
        print(f"{signature}: writing the graph", file=sys.stderr)  # noqa: T201
        about = {
            "sources": network.sources, "samplerate": network.samplerate, "segment": float(network.segment),
            "pytorch": torch.__version__,
        }  # fmt: skip
        (target / f"{signature}.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        write_graph(network.module, target / f"{signature}.onnx")


def write_graph(network: Any, path: Path) -> None:
    """Write one network, which is of no other use afterwards."""
    frames = int(network.segment * network.samplerate)
    bins, steps = network.nfft // 2, math.ceil(frames / network.hop_length)
    network.segment = float(network.segment)
    _plain(network)
    channels = network.audio_channels
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's: the graph is for one length on purpose
        torch.onnx.export(
            _Core(network).eval(), (torch.zeros(1, channels, frames), torch.zeros(1, 2 * channels, bins, steps)),
            str(path), input_names=["mixture", "spectrum"], output_names=["waves", "spectra"], opset_version=_OPSET,
            dynamo=False, external_data=False,
        )  # fmt: skip


def _plain(network: Any) -> None:
    transformer = network.crosstransformer
    if transformer is not None and transformer.emb == "sin":

        def embedding(self: Any, steps: int, _batch: int, channels: int, device: Any) -> Any:
            return create_sin_embedding(steps, channels, shift=0, device=device, max_period=self.max_period)

        transformer._get_pos_embedding = types.MethodType(embedding, transformer)  # noqa: SLF001  # as above
    for module in network.modules():
        if type(module) is torch.nn.GroupNorm:
            module.forward = types.MethodType(_group_norm, module)


def _group_norm(self: Any, values: Any) -> Any:
    """Group normalisation with means of means."""
    batch, channels = values.shape[:2]
    grouped = values.reshape(batch, self.num_groups, channels // self.num_groups, -1)
    centred = grouped - grouped.mean(-1, keepdim=True).mean(2, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True).mean(2, keepdim=True)
    scaled = (centred * torch.rsqrt(variance + self.eps)).reshape(values.shape)
    shape = [1, channels] + [1] * (values.dim() - 2)
    return scaled * self.weight.view(shape) + self.bias.view(shape)
