"""The engine at work, in the engine host."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad.engines.host.api import EngineError
from ironclad_engine_spleeter import graphs, spectra
from ironclad_engine_spleeter.recipes import BACKENDS, BINS, CHANNELS, RATE, RECIPES, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ironclad.engines.host.api import LoadRequest, Reader, Sinks
    from ironclad_engine_spleeter.reference import Reference
    from ironclad_engine_spleeter.spectra import Samples

_UNITS: Final = 1_000_000


def installed() -> list[str]:
    """The backends whose packages are in this environment, the better one first."""
    packages = {"onnxruntime": ("onnxruntime",), "tensorflow": ("tensorflow", "spleeter")}
    return [name for name in BACKENDS if all(importlib.util.find_spec(package) for package in packages[name])]


class SpleeterSeparator:
    """Spleeter: a model of two, four or five networks, on the CPU."""

    resumes: Final = True
    """It goes on where `sinks.frames` says, with the samples that it would have made in one go."""

    def __init__(self) -> None:
        self._recipe: Recipe | None = None
        self._folder = Path()
        self._networks: graphs.Networks | None = None
        self._reference: Reference | None = None
        self.backend = ""
        """What ran the networks in the last separation."""

    @staticmethod
    def devices() -> list[str]:
        """Kinds of device that can be used."""
        return ["cpu"]

    def load(self, request: LoadRequest) -> None:
        """Get a model ready, once for all recordings. Raises `EngineError` (model)."""
        if request.device != "cpu":
            raise EngineError("model", f"Spleeter runs on the CPU, not on {request.device}")
        recipe = RECIPES.get(request.model)
        if recipe is None:
            raise EngineError("model", f"{request.model} is none of {', '.join(RECIPES)}")
        self._networks, self._reference = None, None
        self._recipe, self._folder = recipe, Path(request.folder)
        self._prepare(self._choose("auto"))

    def _choose(self, wanted: str) -> str:
        """The backend that is used. Raises `EngineError` (model) if it cannot be."""
        assert self._recipe is not None  # noqa: S101  # a model is loaded
        there = installed()
        if wanted not in {"auto", *there}:
            raise EngineError(
                "model", f"{wanted} is not in this environment, which has {', '.join(there) or 'nothing'}"
            )
        converted = graphs.files(self._folder, self._recipe.stems) is not None
        if wanted in {"auto", "onnxruntime"} and "onnxruntime" in there and not converted:
            command = f"ironclad models convert spleeter {self._recipe.name}"
            raise EngineError("model", f"{self._recipe.name} is not converted yet. Run `{command}`, once")
        return wanted if wanted != "auto" else there[0] if there else "onnxruntime"

    def _prepare(self, backend: str) -> None:
        assert self._recipe is not None  # noqa: S101  # a model is loaded
        if backend == "tensorflow" and self._reference is None:
            from ironclad_engine_spleeter.reference import Reference  # noqa: PLC0415  # in one of two environments

            self._reference = Reference(self._folder, self._recipe.name)
        elif backend == "onnxruntime" and self._networks is None:
            self._networks = graphs.Networks(graphs.files(self._folder, self._recipe.stems) or [])

    def separate(
        self,
        reader: Reader,
        sinks: Sinks,
        params: Mapping[str, Any],
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],  # noqa: ARG002  # progress comes several times a block
    ) -> None:
        """Separate a recording. Raises `EngineError` (input) for one of another rate or number of channels."""
        if self._recipe is None:
            raise EngineError("model", "no model is loaded")
        if reader.rate != RATE or reader.channels != CHANNELS:
            raise EngineError("input", f"{reader.channels} channels at {reader.rate} Hz; not what the model takes")
        if unknown := set(sinks.wanted) - set(self._recipe.stems):
            made = ", ".join(self._recipe.stems)
            raise EngineError("model", f"the model makes {made}, not {', '.join(sorted(unknown))}")
        backend = self.backend = self._choose(str(params["backend"]))
        self._prepare(backend)
        band, wiener = str(params["bandwidth"]), bool(params["wiener"])
        if backend == "tensorflow" and self._reference is not None:
            mixture = reader.read(0, reader.frames)
            share = lambda part: progress(int(_UNITS * part), _UNITS)  # noqa: E731  # one expression
            stems = self._reference.separate(mixture, band, wiener=wiener, waiting=share)
            sinks.write({stem: wave[:, sinks.frames :] for stem, wave in stems.items()})
        elif self._networks is not None:
            _Pass(self._networks, self._recipe.stems, reader, BINS[band], progress).run(sinks, wiener=wiener)
        progress(_UNITS, _UNITS)


class _Pass:
    """One recording through the networks: once, or twice with the Wiener filter, whose covariances are the whole's."""

    def __init__(
        self, networks: graphs.Networks, stems: Sequence[str], reader: Reader, bins: int,
        progress: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        if not networks.takes(bins):
            raise EngineError("input", "these graphs are for 11 kHz only; convert the published checkpoint for 16")
        self._networks, self._stems, self._reader, self._bins = networks, stems, reader, bins
        self._progress = progress
        self._steps, self._done = 0, 0

    def run(self, sinks: Sinks, *, wiener: bool) -> None:
        """Separate what is not in the sinks yet."""
        masks: spectra.Masker = spectra.ratio_masks
        every, since = spectra.count_blocks(self._reader.frames), sinks.frames
        self._steps = len(self._stems) * (every - spectra.first_block(since))
        if wiener:
            self._steps += len(self._stems) * every
            learned = spectra.Wiener(len(self._stems), self._bins)
            for block in spectra.blocks(self._reader):
                learned.learn(block, self._estimates(spectra.magnitudes(block, self._bins)))
            masks = learned.masks
        made = spectra.separate(self._reader, self._stems, self._estimates, self._bins, masks=masks, since=since)
        for pieces in made:
            sinks.write(pieces)

    def _estimates(self, magnitudes: Samples) -> Sequence[Samples]:
        return self._networks(magnitudes, self._step)

    def _step(self) -> None:
        self._done += 1
        # One unit from the first step to the end: a total that changes makes a bar jump.
        self._progress(_UNITS * min(self._done, self._steps - 1) // self._steps, _UNITS)
