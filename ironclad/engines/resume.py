"""Unfinished stems that survive whoever made them: the next attempt goes on after the last frame that is on disk.

A folder holds `STEM.f32.part` files and `checkpoint.json`, which says how many frames of each are durable and what they
are part of. Stems are written from the first frame to the last and never changed, so a checkpoint is a length.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ironclad import durable
from ironclad.engines.separation import SAMPLE_BYTES
from ironclad.errors import Cancelled, DiskFull, Drained, LeaseLost, OutputInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ironclad.engines.separation import Progress, Separation, SeparationRequest
    from ironclad.errors import IroncladError

NAME: Final = "checkpoint.json"
_SCHEMA: Final = 1
EVERY_SECONDS: Final = 5.0
"""How much work a crash may cost, at most, besides a segment."""


class Partial:
    """Unfinished stems of one recording in `folder`.

    `what` is everything that the samples depend on: with anything else, one begins anew.
    """

    def __init__(self, folder: Path, what: Mapping[str, Any], *, every_seconds: float | None = None) -> None:
        self.folder = folder
        self._what = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
        self._every = EVERY_SECONDS if every_seconds is None else every_seconds
        self._stems: tuple[str, ...] = ()
        self._kept = 0
        self._next = 0.0

    def begin(self, request: SeparationRequest) -> SeparationRequest:
        """The request with the folder to write to and the frames to go on from; makes the folder ready."""
        durable.make_dirs(self.folder)
        self._stems = request.stems
        frames = self._durable_frames()
        width = request.channels * SAMPLE_BYTES
        sizes = [part.stat().st_size if part.is_file() else 0 for part in map(self._part, request.stems)]
        if not 0 < frames < request.frames or min(sizes, default=0) < frames * width:
            self.discard()
            durable.make_dirs(self.folder)
            frames = 0
        self._kept = frames
        self._next = time.monotonic() + self._every
        return replace(request, output=self.folder, resume=frames, keep=True)

    def progress(self, step: Progress) -> None:
        """Make what is written durable, now and then. Raises `DiskFull`, `StorageError`."""
        anew = step.written < self._kept  # the engine does not go on from where it was
        if not anew and (step.written == self._kept or time.monotonic() < self._next):
            return
        try:
            for stem in self._stems:
                durable.fsync_file(self._part(stem))
        except FileNotFoundError:
            return  # the engine has finished, and its files have their final names
        except OSError:
            with durable.stored(self.folder):
                raise
        data = {"schema": _SCHEMA, "what": self._what, "frames": step.written}
        durable.write_atomic(self.folder / NAME, json.dumps(data).encode())
        self._kept = step.written
        self._next = time.monotonic() + self._every

    def finish(self, result: Separation, folder: Path) -> Separation:
        """Move the finished stems to where they belong."""
        stems = {}
        for name, stem in result.stems.items():
            target = folder / stem.path.name
            durable.move(stem.path, target)
            stems[name] = replace(stem, path=target)
        self.discard()
        return replace(result, stems=stems)

    def failed(self, error: IroncladError) -> None:
        """Keep what is there only if somebody may go on with it: not what fills the disk or is wrong."""
        if isinstance(error, LeaseLost | Drained):
            return  # somebody goes on with it, or has already begun to
        if isinstance(error, DiskFull | OutputInvalid | Cancelled) or not error.retryable:
            self.discard()

    def discard(self) -> None:
        """Begin anew."""
        durable.remove_tree(self.folder, reason="unfinished stems of no more use")

    def _part(self, stem: str) -> Path:
        return self.folder / f"{stem}.f32.part"

    def _durable_frames(self) -> int:
        try:
            data = json.loads((self.folder / NAME).read_text(encoding="utf-8"))
            return int(data["frames"]) if (data["schema"], data["what"]) == (_SCHEMA, self._what) else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0
