"""The engine at work, in the engine host."""

from __future__ import annotations

import contextlib
import os
import random
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from demucs.htdemucs import HTDemucs

from ironclad.engines.host.api import EngineError
from ironclad_engine_demucs import streaming, weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ironclad.engines.host.api import LoadRequest, Reader, Sinks

_SURVEY_SHARE: Final = 0.01
"""Share of the progress that the first pass makes."""
_UNITS: Final = 1_000_000
_LAYERS: Final = ("encoder", "decoder", "tencoder", "tdecoder")
_MAX_BATCH: Final = 16
_SEGMENT_BYTES: Final = 1_200 << 20
"""GPU memory that one segment of a hybrid transformer needs, generously."""


class DemucsSeparator:
    """Demucs: a model of one or several networks on one device."""

    def __init__(self) -> None:
        self._networks: list[Any] = []
        self._weights: Sequence[Sequence[float]] | None = None
        self._device = "cpu"

    @staticmethod
    def devices() -> list[str]:
        """Kinds of device that can be used on this machine, best first."""
        kinds = ["cuda"] if torch.cuda.is_available() else []
        if torch.backends.mps.is_available():
            kinds.append("mps")
        return [*kinds, "cpu"]

    def load(self, request: LoadRequest) -> None:
        """Read the networks and put them on the device. Raises `EngineError`; never uses another device instead."""
        kind, _, index = request.device.partition(":")
        if kind not in self.devices():
            raise EngineError("model", f"there is no {kind} device here; PyTorch {torch.__version__} sees none")
        if index and int(index) >= torch.cuda.device_count():
            raise EngineError("model", f"there is no {request.device}; there are {torch.cuda.device_count()}")
        if not request.folder:
            raise EngineError("model", "Demucs needs the folder of its model")
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        warnings.filterwarnings("ignore", message=".*TORCH_WARN_ONCE.*")
        self._networks = []  # the old model goes before the new one comes
        networks, bag = weights.load_bag(Path(request.folder), request.model)
        self._networks = [network.to(request.device) for network in networks]
        self._weights = bag.weights
        self._device = request.device

    def separate(
        self,
        reader: Reader,
        sinks: Sinks,
        params: Mapping[str, Any],
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],  # noqa: ARG002  # progress comes after each segment
    ) -> None:
        """Separate a recording. Raises `EngineError` (input) for one of another rate or number of channels."""
        first = self._networks[0]
        if reader.rate != first.samplerate or reader.channels != first.audio_channels:
            raise EngineError("input", f"{reader.channels} channels at {reader.rate} Hz; not what the model takes")
        if unknown := set(sinks.wanted) - set(first.sources):
            raise EngineError("model", f"the model makes {', '.join(first.sources)}, not {', '.join(sorted(unknown))}")
        plan = self._plan(params)
        survey = int(_UNITS * _SURVEY_SHARE)
        statistics = streaming.measure(reader, lambda done: progress(survey * done // reader.frames, _UNITS))
        pulse = _Pulse(lambda share: progress(survey + int((_UNITS - survey) * share), _UNITS))
        blocks = streaming.separate(
            self._networks, self._weights, reader, plan, statistics=statistics,
            rng=random.Random(int(params["seed"])),  # noqa: S311  # delays, not secrets
            wanted=sinks.wanted,
            progress=pulse.step,
        )  # fmt: skip
        with pulse.attached(self._networks):
            for _start, stems in blocks:
                sinks.write(stems)

    def _plan(self, params: Mapping[str, Any]) -> streaming.Plan:
        segment = float(params["segment"]) or None
        longest = [float(network.segment) for network in self._networks if isinstance(network, HTDemucs)]
        if segment is not None and longest and segment > min(longest):
            raise EngineError("input", f"this model takes segments of {min(longest):g} s at most, not {segment:g} s")
        return streaming.Plan(
            shifts=int(params["shifts"]), overlap=float(params["overlap"]), segment=segment,
            batch=int(params["batch"]) or self._batch(), device=self._device,
        )  # fmt: skip

    def _batch(self) -> int:
        """Segments at a time: one on the CPU, where more gain nothing; on a GPU what fits half of what is free."""
        if not self._device.startswith("cuda"):
            return 1
        free, _total = torch.cuda.mem_get_info(self._device)
        return max(1, min(_MAX_BATCH, int(free) // 2 // _SEGMENT_BYTES))


class _Pulse:
    """Progress within segments too: on a busy CPU one takes a minute, and cancelling must not wait for it.

    A hook on each layer reports; what the report raises goes through the network's `forward`, which keeps no state.
    """

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._done, self._total = 0, 0
        self._layers, self._passed = 1, 0

    def step(self, done: int, total: int) -> None:
        """A segment has ended."""
        self._done, self._total, self._passed = done, total, 0
        self._report(done / total)

    @contextlib.contextmanager
    def attached(self, networks: Sequence[Any]) -> Iterator[None]:
        """Listen to the layers of these networks."""
        layers = [layer for network in networks for name in _LAYERS for layer in getattr(network, name, ())]
        self._layers = max(1, len(layers) // len(networks))
        hooks = [layer.register_forward_hook(self._layer) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _layer(self, *_: Any) -> None:
        """How many segments there are is known after the first one; until then it counts as nothing."""
        self._passed += 1
        within = min(self._passed / self._layers, 0.99)
        self._report((self._done + within) / self._total if self._total else within * 1e-3)
