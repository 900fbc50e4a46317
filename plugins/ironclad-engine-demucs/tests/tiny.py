"""Tiny networks of Demucs' own classes, made here; no weights are fetched."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

import torch

SOURCES = ["drums", "bass", "other", "vocals"]
TINY = {
    "sources": SOURCES, "audio_channels": 2, "samplerate": 8000, "segment": Fraction(1, 1), "channels": 4,
    "growth": 2, "depth": 4, "nfft": 1024, "dconv_comp": 2, "bottom_channels": 0, "t_layers": 1, "t_heads": 2,
    "t_hidden_scale": 1.0,
}  # fmt: skip


@dataclass
class ArrayReader:
    """The mixture as an array `(channels, frames)`."""

    wave: np.ndarray[Any, np.dtype[np.float32]]
    rate: int = 8000

    @property
    def channels(self) -> int:
        return int(self.wave.shape[0])

    @property
    def frames(self) -> int:
        return int(self.wave.shape[1])

    def read(self, start: int, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        assert 0 <= start <= start + count <= self.frames
        return self.wave[:, start : start + count]


def stirred(network: Any, seed: int) -> Any:
    """The initial scales hide the transformer; noise on every weight makes every branch matter."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def write_safetensors(path: Path, network: Any, **changes: Any) -> Path:
    """Demucs' form: the class and its arguments in the metadata."""

    def encode(value: Any) -> Any:
        if isinstance(value, Fraction):
            return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
        return value

    from safetensors.torch import save_file  # noqa: PLC0415  # not in every environment

    kind = type(network)
    kwargs = {key: encode(value) for key, value in network._init_args_kwargs[1].items()}
    metadata = {"klass": f"{kind.__module__}.{kind.__qualname__}", "args": "[]", "kwargs": json.dumps(kwargs)}
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, str(path),
        metadata={**metadata, **changes},
    )  # fmt: skip
    return path


def write_pickle(path: Path, network: Any, **changes: Any) -> Path:
    """Demucs' older form."""
    args, kwargs = network._init_args_kwargs
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in
             network.state_dict().items()}  # fmt: skip
    package = {"klass": type(network), "args": args, "kwargs": kwargs, "state": state, "training_args": {}}
    torch.save({**package, **changes}, path)
    return path
