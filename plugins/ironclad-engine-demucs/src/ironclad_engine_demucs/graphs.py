"""Networks as ONNX graphs, run by OpenVINO or ONNX Runtime on the CPU; the Fourier transforms are `spectral`'s.

A graph takes the mixture `(1, channels, frames)` and its spectrum `(1, 2·channels, bins, time)`, and gives the stems'
waves and spectra, whose sum is the result. `export` makes such graphs; others with these inputs and outputs (found by
their shapes, not by their names) can be imported.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
import time
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from ironclad.engines.host.api import EngineError
from ironclad_engine_demucs import spectral
from ironclad_engine_demucs.folders import check_together, file_of, read_bag, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ironclad_engine_demucs.bags import Bag
    from ironclad_engine_demucs.networks import Samples

GRAPH: Final = (".onnx",)
CONVERTED: Final = "converted"
_STEMS: Final = {
    4: ("drums", "bass", "other", "vocals"),
    6: ("drums", "bass", "other", "vocals", "guitar", "piano"),
}
"""What graphs without a description of their own make: the published models' stems, in Demucs' order."""
_RATE: Final = 44100
_POLL_SECONDS: Final = 0.1
_FIRST_SECONDS: Final = 10.0
"""Processor time of a segment, until one has been measured."""


class Runtime(Protocol):
    """A graph that is loaded."""

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        ...

    @property
    def outputs(self) -> list[tuple[Any, ...]]:
        """Shapes; sizes that are not known are no numbers."""
        ...

    def run(self, feeds: dict[str, Samples], waiting: Callable[[], None]) -> list[Samples]:
        """Every output. `waiting` is called ten times a second meanwhile; what it raises stops the run."""
        ...


class OnnxRuntime:
    """ONNX Runtime. With `alone` false it gives its buffers back after each run, for the next network of the bag."""

    def __init__(self, path: Path, threads: int, *, alone: bool = True) -> None:
        import onnxruntime  # noqa: PLC0415  # one of two, and not in every environment

        self._library = onnxruntime
        self._alone = alone
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Its plan of which tensor takes over whose memory keeps most of them alive: 2.7 GB, with the arena 5.2. Each
        # given back to the arena as it is used up: 0.9 GB, and a third less processor time.
        options.enable_mem_reuse = options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the core alone
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = {one.name: tuple(one.shape) for one in self._session.get_inputs()}
        self.outputs: list[tuple[Any, ...]] = [tuple(one.shape) for one in self._session.get_outputs()]

    def run(self, feeds: dict[str, Samples], waiting: Callable[[], None]) -> list[Samples]:
        """See `Runtime`. The run is on a thread of its own, so that this one can stop it between two nodes."""
        options = self._library.RunOptions()
        if not self._alone:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        made: list[Samples] = []
        failed: list[Exception] = []

        def work() -> None:
            try:
                made.extend(self._session.run(None, feeds, options))
            except Exception as exc:  # noqa: BLE001  # handed on below
                failed.append(exc)

        thread = threading.Thread(target=work, name="onnxruntime")
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
                waiting()
        except BaseException:
            options.terminate = True
            thread.join()
            raise
        if failed:
            raise failed[0]
        return made


class OpenVino:
    """OpenVINO, in float32: its own choice on some processors would be bfloat16, which is 34 dB worse.

    `alone` as with `OnnxRuntime`.
    """

    def __init__(self, path: Path, threads: int, *, alone: bool = True) -> None:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes importing it fail: nothing of ours phones home
        import openvino  # noqa: PLC0415  # one of two, and not in every environment

        hints = {
            "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1",
            # Each process would bind its threads to the first cores, and two hosts share one while others are idle.
            "ENABLE_CPU_PINNING": "NO",
        }  # fmt: skip
        self._request = openvino.Core().compile_model(str(path), "CPU", hints).create_infer_request()
        self._alone = alone
        self._compiled = compiled = self._request.get_compiled_model()
        self.outputs: list[tuple[Any, ...]] = [
            tuple(size.get_length() if size.is_static else None for size in one.partial_shape)
            for one in compiled.outputs
        ]
        self.inputs = {
            one.any_name: tuple(int(size) for size in one.partial_shape.to_shape())
            for one in compiled.inputs
            if one.partial_shape.is_static
        }

    def run(self, feeds: dict[str, Samples], waiting: Callable[[], None]) -> list[Samples]:
        """See `Runtime`."""
        self._request.start_async(feeds)
        try:
            while not self._request.wait_for(int(_POLL_SECONDS * 1000)):
                waiting()
        except BaseException:
            self._request.cancel()
            with contextlib.suppress(RuntimeError):  # it says that it was cancelled
                self._request.wait()
            raise
        self._request.wait()  # raises what went wrong
        made = [self._request.get_output_tensor(index).data for index in range(len(self.outputs))]
        if self._alone:
            return made
        kept = [one.copy() for one in made]
        self._compiled.release_memory()
        return kept


RUNTIMES: Final[dict[str, type[OnnxRuntime | OpenVino]]] = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}


class GraphNetwork:
    """One network as a graph. Raises `EngineError` (model) for a graph that is none of HTDemucs."""

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self._path = path
        self._runtime = runtime
        shapes = runtime.inputs
        mixtures = [name for name, shape in shapes.items() if len(shape) == 3]  # noqa: PLR2004  # batch, channels, frames
        spectra = [name for name, shape in shapes.items() if len(shape) == 4]  # noqa: PLR2004  # … bins, time
        if len(shapes) != 2 or len(mixtures) != 1 or len(spectra) != 1:  # noqa: PLR2004  # as said above
            raise refuse(path, f"its inputs are {shapes}, not a mixture and its spectrum")
        self._mixture, self._spectrum = mixtures[0], spectra[0]
        _one, self.audio_channels, self._frames = shapes[self._mixture]
        self._size = 2 * shapes[self._spectrum][2]
        described = description(path)
        self.samplerate: int = described.get("samplerate", _RATE)
        self._sources: Sequence[str] = described.get("sources", ())
        self._report: Callable[[float], None] | None = None
        self._usual = _FIRST_SECONDS

    @property
    def sources(self) -> Sequence[str]:
        """The stems that it makes: as its description says, else as many as the published models make."""
        if not self._sources:
            made = [shape[1] for shape in self._runtime.outputs if len(shape) == 5]  # noqa: PLR2004  # those with spectra
            if len(made) != 1 or made[0] not in _STEMS:
                raise refuse(self._path, f"it makes {made} stems and does not say which")
            self._sources = _STEMS[made[0]]
        return list(self._sources)

    @property
    def segment(self) -> Fraction:
        """Seconds."""
        return Fraction(self._frames, self.samplerate)

    @property
    def longest(self) -> float:
        """A graph has one length."""
        return float(self.segment)

    def padded(self, count: int, segment: float | None) -> int:  # noqa: ARG002  # the protocol's
        """As `apply_model` pads for a transformer."""
        return self._frames if segment is None else int(segment * self.samplerate)

    def __call__(self, mixtures: Samples) -> Samples:
        """Stems of mixtures; shorter ones than the graph takes are filled up with zeros, as `HTDemucs.forward` does."""
        length = mixtures.shape[-1]
        made = []
        for mixture in mixtures:
            whole = np.pad(mixture, ((0, 0), (0, self._frames - length))) if length < self._frames else mixture
            made.append(self._run(whole)[..., :length])
        return np.stack(made)

    @contextlib.contextmanager
    def listening(self, report: Callable[[float], None]) -> Iterator[None]:
        """Reports by the processor time that the segment has used so far: a runtime that hangs uses none."""
        self._report = report
        try:
            yield
        finally:
            self._report = None

    def _run(self, mixture: Samples) -> Samples:
        """`(stems, channels, frames)`."""
        began = time.process_time()

        def waiting() -> None:
            if self._report is not None:
                self._report(1 - math.exp((began - time.process_time()) / self._usual))

        feeds = {
            self._mixture: np.ascontiguousarray(mixture[None], np.float32),
            self._spectrum: spectral.spectrum(mixture, self._size)[None],
        }
        outputs = self._runtime.run(feeds, waiting)
        spectra = [one for one in outputs if one.ndim == 5]  # noqa: PLR2004  # batch, stems, channels, bins, time
        wave = [one for one in outputs if one.ndim != 5]  # noqa: PLR2004  # batch, stems, channels, frames
        if len(spectra) != 1 or len(wave) != 1:
            raise refuse(self._path, f"its outputs are {[one.shape for one in outputs]}, not waves and spectra")
        made = spectral.waves(spectra[0][0], self._frames)
        made += wave[0].reshape(made.shape)
        self._usual = max(0.1, time.process_time() - began)
        return made


def description(path: Path) -> dict[str, Any]:
    """What `export` wrote beside a graph; empty for graphs from elsewhere."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return {}
    try:
        data = json.loads(beside.read_text(encoding="utf-8"))
        return {"sources": tuple(map(str, data["sources"])), "samplerate": int(data["samplerate"])}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise refuse(beside, "not the description of a graph") from exc


def files(folder: Path, model: str) -> tuple[list[Path], Bag]:
    """A model's graphs in the bag's order. Raises `EngineError` (model) if one is missing."""
    made_here = folder / CONVERTED
    where = made_here if made_here.is_dir() else folder
    bag = read_bag(folder, model, GRAPH if where is folder else (".th", ".safetensors"))
    graphs = sorted(where.glob("*.onnx"))
    if len(bag.signatures) == 1 and len(graphs) == 1:  # whatever a graph from elsewhere is called
        return graphs, bag
    return [file_of(where, signature, GRAPH) for signature in bag.signatures], bag


def load(folder: Path, model: str, runtime: str) -> tuple[list[GraphNetwork], Bag]:
    """A model's networks. Raises `EngineError` (model)."""
    paths, bag = files(folder, model)
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    networks = []
    for path in paths:
        try:
            networks.append(GraphNetwork(path, RUNTIMES[runtime](path, threads, alone=len(paths) == 1)))
        except (EngineError, MemoryError):
            raise
        except Exception as exc:
            if "alloc" in str(exc).lower():  # both say so in words only, and a smaller model would help
                raise MemoryError(f"{runtime}: {str(exc)[:300]}") from exc
            raise refuse(path, f"{runtime} cannot read it ({str(exc)[:300]})") from exc
    check_together(networks, bag, model)
    return networks, bag
