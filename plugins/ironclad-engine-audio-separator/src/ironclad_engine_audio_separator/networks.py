"""audio-separator's own networks, loaded by its own classes, called with float32 arrays.

Its `Separator` is not used: that normalises the mixture and every stem to a peak of 0.9, writes through 16 bits, and
looks models up in lists from the network.
"""

from __future__ import annotations

import logging
import sys
import types
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from ironclad.engines.host.api import EngineError
from ironclad_engine_audio_separator import overlap
from ironclad_engine_audio_separator.families import MDX, MDXC, ROFORMER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ironclad.engines.host.api import Samples
    from ironclad_engine_audio_separator.families import Model
    from ironclad_engine_audio_separator.overlap import Plan

HOP: Final = 1024
"""Of MDX-Net's transform, for every published model."""
_OVERLAP: Final = 0.25
_COUNT: Final = 8
_RATE: Final = 44_100


def common(model: Model, device: str) -> dict[str, Any]:
    """What each of audio-separator's classes wants to know."""
    log = logging.getLogger("audio_separator")
    log.setLevel(logging.WARNING)
    chosen = torch.device(device)
    on_gpu = chosen.type == "cuda"
    return {
        "logger": log, "log_level": logging.WARNING, "torch_device": chosen, "torch_device_cpu": torch.device("cpu"),
        "torch_device_mps": chosen if chosen.type == "mps" else None,
        "onnx_execution_provider": ["CUDAExecutionProvider"] if on_gpu else ["CPUExecutionProvider"],
        "model_name": model.weights.stem, "model_path": str(model.weights), "model_data": dict(model.data),
        "output_dir": None, "output_format": "WAV", "output_bitrate": None,
        # Never reached: peaks above it would be turned down, those below the other one turned up.
        "normalization_threshold": float("inf"), "amplification_threshold": 0.0,
        "enable_denoise": False, "output_single_stem": None, "invert_using_spec": False, "sample_rate": _RATE,
        "use_soundfile": True,
    }  # fmt: skip


class Network:
    """One of the three architectures that take segments."""

    def __init__(self, model: Model, device: str) -> None:
        """Load. Raises `EngineError` (model), whatever audio-separator does about what it cannot load."""
        self.model = model
        self._device = torch.device(device)
        settings = common(model, device)
        try:
            self._wrapped = _load(model, settings)
        except (Exception, SystemExit) as exc:
            if "out of memory" in str(exc).lower() or isinstance(exc, MemoryError):
                raise
            raise EngineError("model", f"{model.weights.name} cannot be loaded: {exc}") from exc

    def plan(self, frames: int, share: float) -> Plan:
        """Segments for a recording; `share` of each is covered again by the next one, 0: as the model says."""
        data = self.model.data
        if self.model.family == MDX:
            chunk = HOP * (self._wrapped.segment_size - 1)
            return overlap.mdx(frames, chunk=chunk, trim=self._wrapped.n_fft // 2, overlap=share or _OVERLAP)
        own = int(data["inference"].get("num_overlap") or _COUNT)
        count = max(1, round(1 / (1 - share))) if share else own
        if self.model.family == MDXC:
            chunk = int(data["audio"]["hop_length"]) * (int(data["inference"]["dim_t"]) - 1)
            return overlap.mdxc(frames, chunk=chunk, count=count)
        hop = int(data["model"].get("stft_hop_length") or data["audio"]["hop_length"])
        return overlap.roformer(frames, chunk=hop * (int(data["inference"]["dim_t"]) - 1), count=count)

    def __call__(self, block: Samples, *, denoise: bool) -> NDArray[Any]:
        """One segment `(2, n)` through the network: `(stems, 2, n)`."""
        with torch.inference_mode():
            mixture = torch.from_numpy(np.ascontiguousarray(block))[None].to(self._device)
            if self.model.family == MDX:
                self._wrapped.enable_denoise = denoise
                return np.asarray(self._wrapped.run_model(mixture)) * float(self.model.data["compensate"])
            made = self._wrapped.model_run(mixture)[0].float().cpu().numpy()
        return made.reshape(len(self.model.predicted), -1, made.shape[-1])


def _load(model: Model, settings: Mapping[str, Any]) -> Any:
    if model.family == MDX:
        # It is imported for segments of another length than the graph's, which are never asked for; and it needs a
        # torchvision that fits the PyTorch, which is not so with builds for CPUs only.
        sys.modules.setdefault("onnx2torch", types.ModuleType("onnx2torch"))
        from audio_separator.separator.architectures.mdx_separator import MDXSeparator  # noqa: PLC0415  # seconds

        segment = 2 ** int(model.data["mdx_dim_t_set"])  # any other makes it rewrite the graph for PyTorch
        loaded = MDXSeparator(
            settings, {"segment_size": segment, "overlap": _OVERLAP, "batch_size": 1, "hop_length": HOP,
                       "enable_denoise": False},
        )  # fmt: skip
        loaded.initialize_model_settings()
        return loaded
    from audio_separator.separator.architectures.mdxc_separator import MDXCSeparator  # noqa: PLC0415  # as above

    # PyTorch reads both kinds with weights_only, its default since 2.6.
    loaded = MDXCSeparator(settings, {"overlap": _COUNT, "batch_size": 1})
    if loaded.is_roformer != (model.family == ROFORMER):
        raise ValueError("audio-separator takes it for another architecture than its description says")
    return loaded
