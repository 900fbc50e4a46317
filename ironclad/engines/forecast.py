"""How much memory a separation will take on this machine: as the plugin declares, corrected by what was measured here.

Each finished separation reports the peak of its host. `memory-HOST.json` beside the engines' environments keeps the
highest for each engine, version, variant of its environment, model, device, segment, batch and whatever else the plugin
says that memory depends on (an outlier fades by a tenth with each further measurement). Exactly the same again is
expected to take that and a tenth more; other segments and batches are expected as declared, scaled by how far
measurements of that model were off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ironclad import durable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ironclad.engines.contract import EngineSpec, MemoryModel
    from ironclad.engines.parameters import ParameterValue
    from ironclad.layout import Layout

_SCHEMA: Final = 1
_MARGIN: Final = 1.1
_FADE: Final = 0.9
_MOST: Final = 8.0
"""A declaration is believed to be off by this factor at most, up or down."""


@dataclass(frozen=True, slots=True)
class Case:
    """One separation, as far as memory is concerned."""

    spec: EngineSpec
    model: str
    device: str
    values: Mapping[str, ParameterValue]
    """All parameters."""
    frames: int
    rate: int
    variant: str = ""
    """Which of the engine's environments it runs in."""

    @property
    def memory(self) -> MemoryModel:
        """What the plugin declares."""
        return self.spec.memory_of(self.model, self.variant)

    @property
    def declared(self) -> int:
        """Bytes, as the plugin declares."""
        return self.memory.estimate(self.frames, self.rate, self.values, self.device)

    @property
    def model_key(self) -> str:
        """What measurements of the same model share."""
        version = f"{self.spec.version} {self.variant}" if self.variant else self.spec.version
        apart = "".join(f" {name}={self.values.get(name)}" for name in self.memory.apart)
        return f"{self.spec.name} {version} {self.spec.model(self.model).name} {self.device}{apart}"

    @property
    def key(self) -> str:
        """What measurements of the same case share."""
        segment, batch = self.memory.segment(self.values), self.memory.batch(self.values, self.device)
        return f"{self.model_key} {segment:g} {batch:g}"

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.frames / self.rate


class Forecast:
    """The measurements of this machine in one data folder. Holds no state of its own."""

    def __init__(self, layout: Layout, host: str | None = None) -> None:
        self._path = layout.engines / f"memory-{host or socket.gethostname()}.json"

    def predict(self, case: Case) -> int:
        """Bytes that the host will hold at its peak."""
        entries = self._entries()
        if known := entries.get(case.key):
            longer = max(0.0, case.seconds - known["seconds"])
            return int(known["peak"] * _MARGIN + case.memory.per_second * longer)
        ratios = [
            entry["peak"] / entry["declared"]
            for key, entry in entries.items()
            if key.startswith(f"{case.model_key} ") and entry["declared"] > 0
        ]
        ratio = min(_MOST, max(1 / _MOST, *ratios)) * _MARGIN if ratios else 1.0
        return int(case.declared * ratio)

    def observe(self, case: Case, peak: int) -> None:
        """Take in what a separation took at its peak; 0: not known. A store that cannot be written is no failure."""
        if peak <= 0:
            return
        with contextlib.suppress(OSError), self._locked():
            entries = self._entries()
            before = entries.get(case.key, {"peak": 0, "seconds": 0.0, "count": 0})
            entries[case.key] = {
                "peak": int(max(peak, before["peak"] * _FADE)), "seconds": max(case.seconds, before["seconds"]),
                "declared": case.declared, "count": int(before["count"]) + 1,
            }  # fmt: skip
            durable.write_atomic(self._path, json.dumps({"schema": _SCHEMA, "cases": entries}, indent=1).encode())

    def cases(self) -> dict[str, dict[str, Any]]:
        """Everything measured, by case."""
        return self._entries()

    def _entries(self) -> dict[str, dict[str, Any]]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            data = json.loads(self._path.read_text(encoding="utf-8"))
            if data["schema"] == _SCHEMA:
                return {
                    key: {name: float(entry[name]) for name in ("peak", "seconds", "declared", "count")}
                    for key, entry in data["cases"].items()
                }
        return {}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        durable.make_dirs(self._path.parent)
        handle = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
