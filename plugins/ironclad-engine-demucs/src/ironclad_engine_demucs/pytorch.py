"""Networks run by PyTorch."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from typing import TYPE_CHECKING, Any, Final

import torch
from demucs.htdemucs import HTDemucs

from ironclad.engines.host.api import EngineError
from ironclad_engine_demucs import weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from fractions import Fraction
    from pathlib import Path

    from ironclad_engine_demucs.bags import Bag
    from ironclad_engine_demucs.networks import Samples

_LAYERS: Final = ("encoder", "decoder", "tencoder", "tdecoder")
_MAX_BATCH: Final = 16
_SEGMENT_BYTES: Final = 1_200 << 20
"""GPU memory that one segment of a hybrid transformer needs, generously."""


class TorchNetwork:
    """One of Demucs' networks on a device."""

    def __init__(self, module: Any, device: str = "cpu") -> None:
        self.module = module.to(device)
        self._device = device

    @property
    def sources(self) -> Sequence[str]:
        """The stems that it makes."""
        return list(self.module.sources)

    @property
    def samplerate(self) -> int:
        """Hz."""
        return int(self.module.samplerate)

    @property
    def audio_channels(self) -> int:
        """Channels."""
        return int(self.module.audio_channels)

    @property
    def segment(self) -> float | Fraction:
        """Seconds."""
        segment: float | Fraction = self.module.segment
        return segment

    @property
    def longest(self) -> float:
        """Transformers take no longer segment than their own."""
        return float(self.segment) if isinstance(self.module, HTDemucs) else math.inf

    def padded(self, count: int, segment: float | None) -> int:
        """As `apply_model` pads."""
        if segment is not None and isinstance(self.module, HTDemucs):
            return int(segment * self.samplerate)
        if hasattr(self.module, "valid_length"):
            return int(self.module.valid_length(count))
        return count

    def __call__(self, mixtures: Samples) -> Samples:
        """Stems of mixtures."""
        with torch.no_grad():
            made: Samples = self.module(torch.from_numpy(mixtures).to(self._device)).cpu().numpy()
        return made

    @contextlib.contextmanager
    def listening(self, report: Callable[[float], None]) -> Iterator[None]:
        """A hook on each layer reports; what it raises goes through the network's `forward`, which keeps no state."""
        layers = [layer for name in _LAYERS for layer in getattr(self.module, name, ())]
        passed = 0

        def layer_done(*_: Any) -> None:
            nonlocal passed
            passed = passed % len(layers) + 1
            report(min(passed / len(layers), 0.99))

        hooks = [layer.register_forward_hook(layer_done) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def devices() -> list[str]:
    """Kinds of device that PyTorch can use on this machine, best first."""
    kinds = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        kinds.append("mps")
    return [*kinds, "cpu"]


def check_device(device: str) -> None:
    """Raises `EngineError` (model) for a device that is not there."""
    kind, _, index = device.partition(":")
    if kind not in devices():
        raise EngineError("model", f"there is no {kind} device here; PyTorch {torch.__version__} sees none")
    if index and int(index) >= torch.cuda.device_count():
        raise EngineError("model", f"there is no {device}; there are {torch.cuda.device_count()}")


def load(folder: Path, model: str, device: str = "cpu") -> tuple[list[TorchNetwork], Bag]:
    """A model's networks on a device. Raises `EngineError` (model)."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.filterwarnings("ignore", message=".*TORCH_WARN_ONCE.*")
    modules, bag = weights.load_bag(folder, model)
    return [TorchNetwork(module, device) for module in modules], bag


def batch_for(device: str) -> int:
    """Segments at a time: one on the CPU, where more gain nothing; on a GPU what fits half of what is free."""
    if not device.startswith("cuda"):
        return 1
    free, _total = torch.cuda.mem_get_info(device)
    return max(1, min(_MAX_BATCH, int(free) // 2 // _SEGMENT_BYTES))
