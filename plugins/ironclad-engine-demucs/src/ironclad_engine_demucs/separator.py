"""The engine at work, in the engine host."""

from __future__ import annotations

import contextlib
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad.engines.host.api import EngineError
from ironclad_engine_demucs import backends, streaming

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.engines.host.api import LoadRequest, Reader, Sinks

_SURVEY_SHARE: Final = 0.01
"""Share of the progress that the first pass makes."""
_UNITS: Final = 1_000_000


class DemucsSeparator:
    """Demucs: a model of one or several networks on one device."""

    resumes: Final = True
    """It goes on where `sinks.frames` says, with the samples that it would have made in one go."""

    def __init__(self) -> None:
        self._request: LoadRequest | None = None
        self._loaded: backends.Loaded | None = None
        self._chosen = ""

    @property
    def backend(self) -> str:
        """What runs the networks now."""
        return "" if self._loaded is None else self._loaded.backend

    @staticmethod
    def devices() -> list[str]:
        """Kinds of device that can be used on this machine, best first."""
        if backends.PYTORCH not in backends.installed():
            return ["cpu"]
        from ironclad_engine_demucs import pytorch  # noqa: PLC0415  # imports torch, which may not be there

        return pytorch.devices()

    def load(self, request: LoadRequest) -> None:
        """Get a model ready with the backend that `auto` takes.

        Raises `EngineError`; never uses another device instead.
        """
        kind = request.device.partition(":")[0]
        if kind != "cpu" and kind not in self.devices():  # which imports torch: 1.5 s that a graph need not wait for
            raise EngineError("model", f"there is no {request.device} device here")
        if not request.folder:
            raise EngineError("model", "Demucs needs the folder of its model")
        self._request = request
        self._prepare(backends.AUTO)

    def _prepare(self, backend: str) -> backends.Loaded:
        """The model with this backend; the one before goes before the new one comes."""
        if self._request is None:
            raise EngineError("model", "no model is loaded")
        if backend == self._chosen and self._loaded is not None:
            return self._loaded
        folder, model, device = Path(self._request.folder), self._request.model, self._request.device
        kept = self._loaded
        self._loaded, self._chosen = None, ""
        if kept is None or kept.backend != backend:
            kept = None
            if backend == backends.AUTO:
                kept = backends.choose(folder, model, device, _say)
            elif backend in backends.usable(folder, model, device):
                kept = backends.load(backend, folder, model, device)
            else:
                there = ", ".join(backends.usable(folder, model, device)) or "none"
                raise EngineError("model", f"{model} cannot be run by {backend} here ({there} could)")
        self._loaded, self._chosen = kept, backend
        return kept

    def separate(
        self,
        reader: Reader,
        sinks: Sinks,
        params: Mapping[str, Any],
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],  # noqa: ARG002  # progress comes within segments
    ) -> None:
        """Separate a recording. Raises `EngineError` (input) for one of another rate or number of channels."""
        loaded = self._prepare(str(params.get("backend", backends.AUTO)))
        first = loaded.networks[0]
        if reader.rate != first.samplerate or reader.channels != first.audio_channels:
            raise EngineError("input", f"{reader.channels} channels at {reader.rate} Hz; not what the model takes")
        if unknown := set(sinks.wanted) - set(first.sources):
            raise EngineError("model", f"the model makes {', '.join(first.sources)}, not {', '.join(sorted(unknown))}")
        plan = self._plan(loaded, params)
        survey = int(_UNITS * _SURVEY_SHARE)
        statistics = streaming.measure(reader, lambda done: progress(survey * done // reader.frames, _UNITS))
        pulse = _Pulse(lambda share: progress(survey + int((_UNITS - survey) * share), _UNITS))
        blocks = streaming.separate(
            loaded.networks, loaded.bag.weights, reader, plan, statistics=statistics,
            rng=random.Random(int(params["seed"])),  # noqa: S311  # delays, not secrets
            wanted=sinks.wanted, since=sinks.frames,
            progress=pulse.step,
        )  # fmt: skip
        with contextlib.ExitStack() as stack:
            for network in loaded.networks:
                stack.enter_context(network.listening(pulse.within))
            for _start, stems in blocks:
                sinks.write(stems)

    def _plan(self, loaded: backends.Loaded, params: Mapping[str, Any]) -> streaming.Plan:
        segment = float(params["segment"]) or None
        longest = min(network.longest for network in loaded.networks)
        if segment is not None and segment > longest:
            raise EngineError("input", f"this model takes segments of {longest:g} s at most, not {segment:g} s")
        return streaming.Plan(
            shifts=int(params["shifts"]), overlap=float(params["overlap"]), segment=segment,
            batch=int(params["batch"]) or self._batch(loaded),
        )  # fmt: skip

    def _batch(self, loaded: backends.Loaded) -> int:
        if loaded.backend != backends.PYTORCH or self._request is None:
            return 1
        from ironclad_engine_demucs import pytorch  # noqa: PLC0415  # it is loaded

        return pytorch.batch_for(self._request.device)


class _Pulse:
    """Progress within segments too: on a busy CPU one takes a minute, and cancelling must not wait for it."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._done, self._total = 0, 0

    def step(self, done: int, total: int) -> None:
        """A segment has ended."""
        self._done, self._total = done, total
        self._report(done / total)

    def within(self, share: float) -> None:
        """So much of a segment is done; how many there are is known after the first, which counts as nothing."""
        self._report((self._done + min(share, 0.99)) / self._total if self._total else share * 1e-3)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # the host keeps it
