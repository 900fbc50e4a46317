"""The engine at work, in the engine host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad.engines.host.api import EngineError
from ironclad_engine_audio_separator import families, overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ironclad.engines.host.api import LoadRequest, Reader, Sinks
    from ironclad_engine_audio_separator.families import Model
    from ironclad_engine_audio_separator.networks import Network
    from ironclad_engine_audio_separator.wholesong import WholeSong

    Progress = Callable[[int, int], None]

_RATE: Final = 44_100
_CHANNELS: Final = 2


class ArchitectureSeparator:
    """One model of any of the four architectures."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._network: Network | None = None
        self._song: WholeSong | None = None

    @staticmethod
    def devices() -> list[str]:
        """Kinds of device that can be used, best first."""
        import torch  # noqa: PLC0415  # seconds

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        return [name for name, usable in there.items() if usable]

    def load(self, request: LoadRequest) -> None:
        """Get a model ready, once for all recordings. Raises `EngineError` (model)."""
        if not request.folder:
            command = f"ironclad models import audio-separator {request.model} PATH --pin --accept-licence"
            raise EngineError("model", f"no weights are imported. Run `{command}`", "E_MODEL_MISSING")
        self._model, self._network, self._song = None, None, None
        model = families.read(Path(request.folder))
        if model.family == families.VR:
            from ironclad_engine_audio_separator.wholesong import WholeSong  # noqa: PLC0415  # seconds

            self._song = WholeSong(model, request.device)
        else:
            from ironclad_engine_audio_separator.networks import Network  # noqa: PLC0415  # seconds

            self._network = Network(model, request.device)
        self._model = model

    def separate(
        self,
        reader: Reader,
        sinks: Sinks,
        params: Mapping[str, Any],
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],  # noqa: ARG002  # progress comes once a segment
    ) -> None:
        """Separate a recording. Raises `EngineError` (input) for one of another rate or number of channels."""
        model = self._model
        if model is None:
            raise EngineError("model", "no model is loaded")
        if reader.rate != _RATE or reader.channels != _CHANNELS:
            raise EngineError("input", f"{reader.channels} channels at {reader.rate} Hz; not what the model takes")
        families.check(model, tuple(sinks.wanted))
        if self._song is not None:
            self._whole(self._song, reader, sinks, int(params["aggression"]), progress)
        elif self._network is not None:
            self._segments(self._network, reader, sinks, params, progress)

    def _segments(
        self, network: Network, reader: Reader, sinks: Sinks, params: Mapping[str, Any], progress: Progress
    ) -> None:
        model = network.model
        plan = network.plan(reader.frames, float(params["overlap"]))
        done, total = 0, len(plan.starts)

        def through(block: NDArray[np.float32]) -> NDArray[Any]:
            nonlocal done
            progress(done, total)
            made = network(block, denoise=bool(params["denoise"]))
            done += 1
            return made

        progress(0, total)
        for piece in overlap.separate(reader, plan, len(model.predicted), through):
            stems = dict(zip(model.predicted, piece, strict=True))
            if model.rest:
                mixture = reader.read(sinks.frames, piece.shape[-1])
                stems[model.rest] = mixture - stems[model.predicted[0]]
            sinks.write(stems)
        progress(total, total)

    @staticmethod
    def _whole(song: WholeSong, reader: Reader, sinks: Sinks, aggression: int, progress: Progress) -> None:
        done = 0
        guess = 2 + reader.frames // (5 * _RATE)  # windows are at least so long; what is said is monotonic at least

        def step() -> None:
            nonlocal done
            done += 1
            progress(min(done, guess - 1), guess)

        progress(0, guess)
        sinks.write(song.separate(reader.read(0, reader.frames), aggression, step))
        progress(guess, guess)
