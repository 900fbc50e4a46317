"""Spleeter's networks on ONNX Runtime, one graph a stem."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ironclad.engines.host.api import EngineError
from ironclad_engine_spleeter.recipes import FRAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

CONVERTED: Final = "converted"
_RANK: Final = 4


def files(folder: Path, stems: Sequence[str]) -> list[Path] | None:
    """A model's graphs, made here or imported, in the order of its stems; None if one is missing."""
    for where in (folder / CONVERTED, folder):
        paths = [where / f"{stem}.onnx" for stem in stems]
        if all(path.is_file() for path in paths):
            return paths
    return None


@functools.cache
def _share_buffers() -> None:
    """One allocator for all sessions of this process (ONNX Runtime takes it for good)."""
    import onnxruntime  # noqa: PLC0415  # in one of two environments

    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    about = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(about, None)


class Networks:
    """All networks of a model. Raises `EngineError` (model) for graphs that are none of Spleeter's."""

    def __init__(self, paths: Sequence[Path], threads: int | None = None) -> None:
        import onnxruntime  # noqa: PLC0415  # in one of two environments

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or int(os.environ.get("OMP_NUM_THREADS", "1"))
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the core alone
        options.log_severity_level = 3
        # The networks run one after the other: what one has worked in serves the next.
        _share_buffers()
        options.add_session_config_entry("session.use_env_allocators", "1")
        self._paths = paths
        self._sessions: list[Any] = []
        for path in paths:
            try:
                self._sessions.append(
                    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
                )
            except Exception as exc:
                if "alloc" in str(exc).lower():
                    raise MemoryError(f"{path.name}: {str(exc)[:300]}") from exc
                raise EngineError("model", f"{path.name}: ONNX Runtime cannot read it ({str(exc)[:300]})") from exc
        self._names = [self._checked(path, session) for path, session in zip(paths, self._sessions, strict=True)]
        kinds = {session.get_modelmeta().custom_metadata_map.get("output", "magnitudes") for session in self._sessions}
        if len(kinds) != 1 or not kinds <= {"magnitudes", "logits"}:
            raise EngineError("model", "the graphs do not belong together")
        self._logits = kinds == {"logits"}

    @staticmethod
    def _checked(path: Path, session: Any) -> str:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != _RANK or inputs[0].shape[2] != FRAMES:
            raise EngineError("model", f"{path.name}: its inputs and outputs are not those of a network of Spleeter")
        return str(inputs[0].name)

    def takes(self, bins: int) -> bool:
        """Whether the graphs can see so many bins; those from elsewhere may be for 1024 only."""
        shapes = [session.get_inputs()[0].shape[3] for session in self._sessions]
        return all(not isinstance(size, int) or size == bins for size in shapes)

    def __call__(self, magnitudes: Samples, step: Callable[[], None] = lambda: None) -> list[Samples]:
        """Every stem's magnitudes `(2, 1, 512, bins)`; `step` is called after each network."""
        made: list[Samples] = []
        for name, session in zip(self._names, self._sessions, strict=True):
            made.append(session.run(None, {name: magnitudes})[0])
            step()
        if not self._logits:
            return made
        # In place: five stems are 20 MB each.
        largest = np.max(made, axis=0)
        for one in made:
            np.exp(one - largest, out=one)
        total = np.sum(made, axis=0)
        for one in made:
            np.multiply(one, magnitudes / total, out=one)
        return made
