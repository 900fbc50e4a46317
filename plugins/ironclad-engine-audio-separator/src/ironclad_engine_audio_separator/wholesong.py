"""VR models, which look at whole songs: through a float32 file, with the samples taken before anything is written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import soundfile
from audio_separator.separator.architectures.vr_separator import VRSeparator

from ironclad.engines.host.api import EngineError
from ironclad_engine_audio_separator.families import plain
from ironclad_engine_audio_separator.networks import common

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ironclad.engines.host.api import Samples
    from ironclad_engine_audio_separator.families import Model

_RATE: Final = 44_100
_SHORT: Final = 4410
"""By so much the inverse transform may be short of the song: bands of several rates end with whole frames."""


class _Kept(VRSeparator):  # type: ignore[misc]  # it has no types
    """Keeps the samples, says how far it is, and looks at the spectra before they are mended in silence."""

    kept: dict[str, NDArray[Any]]
    step: Callable[[], None]

    def final_process(self, _path: str, source: NDArray[Any], name: str) -> dict[str, NDArray[Any]]:
        """Called with what would be normalised and written."""
        self.kept[plain(name)] = source
        return {name: source}

    def inference_vr(self, *arguments: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both spectra."""
        spectra: tuple[NDArray[Any], NDArray[Any]] = super().inference_vr(*arguments)
        if not all(np.isfinite(one).all() for one in spectra):
            raise EngineError("engine", "the network gave values that are not finite", "E_OUTPUT_INVALID")
        return spectra

    def _ensure_model_loaded(self, size: int) -> None:
        super()._ensure_model_loaded(size)
        predict = type(self.model_run).predict_mask

        def predicted(*arguments: Any) -> Any:
            self.step()
            return predict(self.model_run, *arguments)

        self.model_run.predict_mask = predicted


class WholeSong:
    """A VR model."""

    def __init__(self, model: Model, device: str) -> None:
        """Read the description; the weights are loaded with the first song. Raises `EngineError` (model)."""
        self.model = model
        try:
            self._wrapped = _Kept(common(model, device), {"batch_size": 1, "window_size": 512})
        except (Exception, SystemExit) as exc:
            raise EngineError("model", f"{model.weights.name} cannot be loaded: {exc}") from exc

    def separate(self, mixture: Samples, aggression: int, step: Callable[[], None]) -> dict[str, Samples]:
        """Every stem `(2, n)`, as long as the mixture. `step` is called for each window."""
        wrapped = self._wrapped
        wrapped.kept, wrapped.step = {}, step
        wrapped.aggressiveness = {**wrapped.aggressiveness, "value": aggression / 100}
        with tempfile.TemporaryDirectory(prefix="ironclad-vr-") as folder:
            song = Path(folder, "mixture.wav")
            soundfile.write(song, mixture.T, _RATE, subtype="FLOAT")
            wrapped.separate(str(song))
        if missing := set(self.model.stems) - wrapped.kept.keys():
            raise EngineError("engine", f"audio-separator made no {', '.join(sorted(missing))}", "E_OUTPUT_INVALID")
        return {stem: _fitted(wrapped.kept[stem], mixture.shape[1]) for stem in self.model.stems}


def _fitted(wave: NDArray[Any], frames: int) -> Samples:
    """`(n, 2)` as `(2, frames)`. Raises `EngineError` for what is too short or not finite."""
    made = np.asarray(wave, np.float32).T[:, :frames]
    if made.shape[1] < frames - _SHORT:
        raise EngineError("engine", f"audio-separator made {made.shape[1]} of {frames} frames", "E_OUTPUT_INVALID")
    if not np.isfinite(made).all():
        raise EngineError("engine", "audio-separator made values that are not finite", "E_OUTPUT_INVALID")
    return np.ascontiguousarray(np.pad(made, ((0, 0), (0, frames - made.shape[1]))))
