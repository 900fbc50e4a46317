"""A good engine, and engines that each break the contract in one way; run inside real hosts by the tests."""

# ruff: noqa: ARG002, T201 -- engines that ignore what they are given, and print
from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ironclad.engines.host.api import EngineError

BLOCK = 1 << 16
LONG = 1_000_000
"""Frames of the shortest recording that is cancelled."""
WAITS = "waits"
"""A file beside the weights: who is cancelled works until it hears of it, however late that is."""
KEPT: list[Any] = []
"""Where the leaking ones put things."""


class Good:
    """`vocals` is a quarter of the mixture and `rest` what is left; goes on where it was broken off."""

    resumes = True

    def load(self, request: Any) -> None:
        self.folder = request.folder
        if request.device != "cpu":
            raise EngineError("model", "the CPU only")
        if request.folder and Path(request.folder, "weights").read_bytes() != b"weights":
            raise EngineError("model", "weights: not what they should be")

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        if reader.channels > 2:
            raise EngineError("input", "two channels at most", "E_TOO_MANY_CHANNELS")
        self.begin(reader, sinks)
        while sinks.frames < reader.frames:
            count = min(BLOCK, reader.frames - sinks.frames)
            self.block(reader.read(sinks.frames, count), sinks)
            self.tell(progress, sinks.frames, reader.frames)
            while reader.frames >= LONG and Path(self.folder, WAITS).exists() and not cancelled():
                time.sleep(0.01)

    def begin(self, reader: Any, sinks: Any) -> None:
        """Before the first block."""

    def block(self, mixture: Any, sinks: Any) -> None:
        vocals = mixture * np.float32(0.25)
        sinks.write({"vocals": vocals, "rest": mixture - vocals})

    def tell(self, progress: Any, done: int, total: int) -> None:
        progress(done, total)


class Raises(Good):
    def block(self, mixture: Any, sinks: Any) -> None:
        raise KeyError("layer.0.weight")


class WrongShape(Good):
    """Gives the transposed array."""

    def block(self, mixture: Any, sinks: Any) -> None:
        sinks.write({"vocals": mixture.T, "rest": mixture.T})


class MissingStem(Good):
    def block(self, mixture: Any, sinks: Any) -> None:
        sinks.write({"vocals": mixture})


class OneShort(Good):
    """Loses the last frame."""

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        mixture = reader.read(0, reader.frames)
        progress(1, 2)
        self.block(mixture[:, :-1], sinks)
        progress(2, 2)


class WholeWindows(Good):
    """Writes a whole window where there is less than one."""

    def begin(self, reader: Any, sinks: Any) -> None:
        if reader.frames < 1024:
            self.block(np.zeros((reader.channels, 1024), np.float32), sinks)


class NotANumber(Good):
    def block(self, mixture: Any, sinks: Any) -> None:
        vocals = mixture * np.float32(0.25)
        vocals[0, -1] = np.nan
        sinks.write({"vocals": vocals, "rest": mixture})


class Logarithm(Good):
    """Right with music, infinite at nothing and beyond full scale."""

    def block(self, mixture: Any, sinks: Any) -> None:
        with np.errstate(all="ignore"):
            guard = np.where(np.abs(mixture) > 2, np.float32(np.nan), np.float32(0))
        sinks.write({"vocals": mixture * np.float32(0.25) + guard, "rest": mixture * np.float32(0.75)})


class Hiss(Good):
    """Adds a floor of noise, the same for every recording."""

    def block(self, mixture: Any, sinks: Any) -> None:
        noise = np.resize(np.random.default_rng(0).standard_normal(1024), mixture.shape).astype(np.float32)
        vocals = mixture * np.float32(0.25) + np.float32(0.001) * noise
        sinks.write({"vocals": vocals, "rest": mixture - vocals})


class Dice(Good):
    """Shifts by a random gain for each process."""

    def load(self, request: Any) -> None:
        super().load(request)
        self.gain = np.float32(0.25 + 0.01 * np.random.default_rng().random())

    def block(self, mixture: Any, sinks: Any) -> None:
        sinks.write({"vocals": mixture * self.gain, "rest": mixture - mixture * self.gain})


class Echoing(Good):
    """Another song is heard in the next one."""

    frames = 0
    gain = np.float32(0.25)

    def begin(self, reader: Any, sinks: Any) -> None:
        self.gain = np.float32(0.25 if self.frames in {0, reader.frames} else 0.3)
        self.frames = reader.frames

    def block(self, mixture: Any, sinks: Any) -> None:
        vocals = mixture * self.gain
        sinks.write({"vocals": vocals, "rest": mixture - vocals})


class AnotherAlone(Good):
    """Makes a stem otherwise if it is the only one."""

    def block(self, mixture: Any, sinks: Any) -> None:
        share = np.float32(0.25 if len(sinks.wanted) > 1 else 0.5)
        sinks.write({"vocals": mixture * share, "rest": mixture * (1 - share)})


class NoSum(Good):
    """Declared to sum to the mixture."""

    def block(self, mixture: Any, sinks: Any) -> None:
        sinks.write({"vocals": mixture * np.float32(0.25), "rest": mixture * np.float32(0.7)})


class Backwards(Good):
    def tell(self, progress: Any, done: int, total: int) -> None:
        progress(done, total)
        if done < total:
            progress(done // 2, total)


class Beyond(Good):
    def tell(self, progress: Any, done: int, total: int) -> None:
        progress(done + 5, total)


class Unfinished(Good):
    def tell(self, progress: Any, done: int, total: int) -> None:
        progress(done // 2, total)


class Swallows(Good):
    """Takes being cancelled for an error of a block."""

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        def told(done: int, total: int) -> None:
            try:
                progress(done, total)
            except BaseException:  # noqa: BLE001  # that is the point
                while True:
                    time.sleep(0.1)

        super().separate(reader, sinks, params, told, cancelled)


class Hoards(Good):
    """Holds the whole recording."""

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        self.blocks: list[Any] = []
        super().separate(reader, sinks, params, progress, cancelled)
        self.blocks = []

    def block(self, mixture: Any, sinks: Any) -> None:
        self.blocks.append(mixture + np.float32(1))
        super().block(mixture, sinks)


class Leaks(Good):
    """Keeps something of every recording."""

    def begin(self, reader: Any, sinks: Any) -> None:
        KEPT.append(np.ones(1 << 20, np.float32))


class DiesOfMono(Good):
    def begin(self, reader: Any, sinks: Any) -> None:
        if reader.channels == 1:
            os._exit(7)


class FailsAtSix(Good):
    """Where it should refuse."""

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        if reader.channels > 2:
            raise IndexError("channel 2")
        super().separate(reader, sinks, params, progress, cancelled)


class RefusesEightKilohertz(Good):
    """Declared for any rate."""

    def begin(self, reader: Any, sinks: Any) -> None:
        if reader.rate < 16_000:
            raise EngineError("input", "too low", "E_SAMPLE_RATE")


class DividesAt192Kilohertz(Good):
    def begin(self, reader: Any, sinks: Any) -> None:
        _ = 1 / (reader.rate // 192_000 - 1)


class WrongError(Good):
    """Turns what the reader says into an error of its own."""

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        try:
            super().separate(reader, sinks, params, progress, cancelled)
        except EngineError as exc:
            if exc.code != "E_CORRUPT_AUDIO":
                raise
            raise RuntimeError("separation failed") from exc


class FallsBack(Good):
    """Takes the CPU for whatever device."""

    def load(self, request: Any) -> None:
        with contextlib.suppress(EngineError):
            super().load(request)
        if Path(request.folder, "weights").read_bytes() != b"weights":
            raise EngineError("model", "weights: not what they should be")


class TakesAnyWeights(Good):
    def load(self, request: Any) -> None:
        with contextlib.suppress(EngineError):
            super().load(request)
        if request.device != "cpu":
            raise EngineError("model", "the CPU only")


class ResumesWrongly(Good):
    """Goes on one frame late."""

    def begin(self, reader: Any, sinks: Any) -> None:
        if sinks.frames:
            mixture = reader.read(sinks.frames - 1, 1000)
            self.block(mixture, sinks)


class Prints(Good):
    def begin(self, reader: Any, sinks: Any) -> None:
        print("separating …")
