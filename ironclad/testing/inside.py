"""What the contract sees from inside the engine host: the engine, with its ears and mouth watched.

Runs in the engine's own environment: NumPy, the standard library and the host's API only. A host puts much right that
an engine does wrong (progress that goes back, output that would garble the protocol); here it is seen as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from ironclad.engines.host.api import LoadRequest, Reader, Samples, Separator, Sinks

NOTES = "notes.json"
PRINTED = "printed"
FREEZE = "freeze"
FROZEN = "frozen"


class Watched:
    """An engine (`entry`) in its host. Notes of each separation are in `folder`, and what it prints.

    While there is a file `freeze` in the folder, a separation stops before the second block is written, for ever.
    """

    def __init__(self, entry: str, folder: str) -> None:
        self._folder = Path(folder)
        with (self._folder / PRINTED).open("ab") as file:  # before anything of the engine is imported
            os.dup2(file.fileno(), 1)
        module, _, attribute = entry.partition(":")
        with _flushed():
            self._engine: Separator = getattr(importlib.import_module(module), attribute)()

    def __getattr__(self, name: str) -> Any:
        """`devices`, `device_memory` and `resumes` are the engine's."""
        if name == "_engine":  # not imported yet
            raise AttributeError(name)
        return getattr(self._engine, name)

    def load(self, request: LoadRequest) -> None:
        """As the engine's."""
        with _flushed():
            self._engine.load(request)

    def separate(
        self, reader: Reader, sinks: Sinks, params: Mapping[str, Any], progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        """As the engine's."""
        steps = _Steps(progress)
        watched = _WatchedSinks(sinks, reader.frames, reader.channels, self._folder)
        try:
            with _flushed():
                self._engine.separate(reader, watched, params, steps, cancelled)
            if watched.frames != reader.frames:
                watched.note("length", f"it wrote {watched.frames} of {reader.frames} frames")
            watched.freeze()
        finally:
            notes = {**watched.notes, "progress": steps.problem, "steps": steps.calls}
            (self._folder / NOTES).write_text(json.dumps(notes), encoding="utf-8")


class _WatchedSinks:
    """The host's sinks; what is wrong with a block is noted before they refuse it."""

    def __init__(self, sinks: Sinks, frames: int, channels: int, folder: Path) -> None:
        self._sinks = sinks
        self._total = frames
        self._channels = channels
        self._folder = folder
        self._blocks = 0
        self.notes: dict[str, str] = {}

    @property
    def wanted(self) -> Collection[str]:
        return self._sinks.wanted

    @property
    def frames(self) -> int:
        return self._sinks.frames

    def write(self, stems: Mapping[str, Samples]) -> None:
        if self._blocks:
            self.freeze()
        self._blocks += 1
        self._look(stems)
        self._sinks.write(stems)

    def note(self, kind: str, text: str) -> None:
        """Keep the first of each kind."""
        self.notes.setdefault(kind, text)

    def freeze(self) -> None:
        """Stop for ever, if that is asked for."""
        if (self._folder / FREEZE).exists():
            (self._folder / FROZEN).touch()
            threading.Event().wait()

    def _look(self, stems: Mapping[str, Samples]) -> None:
        where = f"in the block after frame {self.frames}"
        counts = set()
        for stem in sorted(self.wanted):
            if stem not in stems:
                self.note("shape", f"{where} there is no {stem}")
                continue
            samples = np.asarray(stems[stem])
            if samples.ndim != 2 or samples.shape[0] != self._channels:  # noqa: PLR2004  # channels and frames
                self.note("shape", f"{where} {stem} has the shape {samples.shape}, not ({self._channels}, frames)")
                continue
            counts.add(samples.shape[1])
            if not np.isfinite(samples).all():
                self.note("finite", f"{where} {stem} has samples that are not finite")
        if len(counts) > 1:
            self.note("shape", f"{where} stems have {sorted(counts)} frames")
        if counts and self.frames + max(counts) > self._total:
            self.note("length", f"it writes frame {self.frames + max(counts)} of a recording of {self._total}")


class _Steps:
    """The host's `progress`; what is wrong with a call is noted before the host puts it right."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress
        self._last = (0, 0)
        self.calls = 0
        self._problem = ""

    def __call__(self, done: int, total: int) -> None:
        if self.calls and not self._problem:
            before, of = self._last
            if done < before:
                self._problem = f"progress went back from {before}/{of} to {done}/{total}"
            elif total != of:
                self._problem = f"its total changed from {of} to {total}"
        if not self._problem and not 0 <= done <= total:
            self._problem = f"progress({done}, {total}) is beyond its end"
        self.calls += 1
        self._last = (done, total)
        self._progress(done, total)

    @property
    def problem(self) -> str:
        """What was wrong, after a separation that ended well."""
        if not self._problem and self.calls and self._last[0] != self._last[1]:
            return f"it ended at {self._last[0]} of {self._last[1]}"
        return self._problem


@contextlib.contextmanager
def _flushed() -> Iterator[None]:
    """What was printed is in the file afterwards, C's buffer included."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
            ctypes.CDLL(None).fflush(None)
