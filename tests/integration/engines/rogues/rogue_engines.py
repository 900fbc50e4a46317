"""Engines that behave in every way an engine can; run inside real hosts by the tests."""

# ruff: noqa: ARG002, T201 -- engines that ignore what they are given, and print
from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from ironclad.engines.host.api import EngineError


class Echo:
    """Well-behaved: `vocals` is half the mixture, `rest` the other half; `steps` progress events, `pause` s apart."""

    backend: Any = "numpy"

    def __init__(self) -> None:
        self.loads = 0

    def load(self, request: Any) -> None:
        self.loads += 1
        self.request = request

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        steps = params["steps"]
        edges = np.linspace(0, reader.frames, steps + 1).astype(int)
        for index in range(steps):
            half = reader.read(int(edges[index]), int(edges[index + 1] - edges[index])) / 2
            sinks.write({"vocals": half, "rest": half})
            progress(index + 1, steps)
            time.sleep(params["pause"])
            self.misbehave(sinks, params, index)

    def misbehave(self, sinks: Any, params: Any, index: int) -> None:
        """What the others do after a step."""


class Chatty(Echo):
    """Prints, as libraries do, from Python and from C."""

    def misbehave(self, sinks: Any, params: Any, index: int) -> None:
        print('{"event":"done","id":2}')
        os.write(1, b"downloading 3%\n")
        subprocess.run(["/bin/echo", "from a child"], check=True)
        print("and to stderr", file=sys.stderr)


class Puzzling(Echo):
    """Says what ran it in a form that nobody expects."""

    backend = 7


class Raising(Echo):
    """Raises what the parameter `what` says."""

    def misbehave(self, sinks: Any, params: Any, index: int) -> None:
        raise {
            "value": ValueError("bad tensor"),
            "memory": MemoryError("numpy says no"),
            "torch": RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "disk": OSError(errno.ENOSPC, "No space left on device"),
            "exit": SystemExit(3),
            "mono": EngineError("input", "one position", "E_MONO_INPUT"),
            "impostor": EngineError("mood", "not in the mood", "E_CANCELLED"),
        }[params["what"]]


class Dying(Echo):
    """Ends the process as `what` says."""

    def misbehave(self, sinks: Any, params: Any, index: int) -> None:
        print("last words", file=sys.stderr, flush=True)
        if params["what"] == "exit":
            os._exit(7)
        os.kill(os.getpid(), getattr(signal, params["what"]))
        threading.Event().wait()


class Hanging(Echo):
    """Stops in Python, or in C with the interpreter's lock held."""

    def misbehave(self, sinks: Any, params: Any, index: int) -> None:
        if params["what"] == "lock":
            ctypes.PyDLL(None).sleep(600)
        threading.Event().wait(600)


class Stuck(Echo):
    """Reports the same progress again and again."""

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        while True:
            progress(1, 4)
            time.sleep(0.02)


class Polite(Echo):
    """Makes no progress but looks whether it is cancelled."""

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        progress(1, 4)
        while not cancelled():
            time.sleep(0.01)


class Swallowing(Echo):
    """Catches every exception, as careless code does."""

    def misbehave(self, sinks: Any, params: Any, index: int) -> None:
        for _ in range(1000):
            with contextlib.suppress(Exception):
                time.sleep(0.01)


class Forking(Echo):
    """Leaves processes behind: `fork` (same group) or `session` (a group and session of its own)."""

    def misbehave(self, sinks: Any, params: Any, index: int) -> None:
        if params["what"] == "fork":
            pid = os.fork()
            if pid == 0:
                time.sleep(120)
                os._exit(0)
        else:
            pid = subprocess.Popen(["/bin/sleep", "120"], start_new_session=True).pid
        Path(os.environ["HOME"], "child.pid").write_text(str(pid), encoding="ascii")
        if params["steps"] == 2:  # agreed with the test: die with the child alive
            os._exit(7)


class Wrong(Echo):
    """Delivers something else than asked for."""

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        mix = reader.read(0, reader.frames)
        if params["what"] == "nan":
            mix = mix.copy()
            mix[0, -1] = np.nan
        elif params["what"] == "short":
            mix = mix[:, :-1]
        elif params["what"] == "long":
            mix = np.pad(mix, ((0, 0), (0, 1)))
        elif params["what"] == "mono":
            mix = mix[:1]
        sinks.write({"vocals": mix, "rest": mix} if params["what"] != "missing" else {"vocals": mix})


class Greedy(Echo):
    """Allocates two gigabytes."""

    def misbehave(self, sinks: Any, params: Any, index: int) -> None:
        np.ones(1 << 28)


class Devouring(Echo):
    """Takes memory, and uses it, until somebody stops it."""

    def misbehave(self, sinks: Any, params: Any, index: int) -> None:
        self.taken = [np.ones(1 << 20) for _ in range(1 << 10)]  # 8 GB


class Sloppy(Echo):
    """Reports progress backwards and beyond the end; the host puts it right."""

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        for done in (3, 1, 9, 2):
            progress(done, 4)
            time.sleep(0.11)
        half = reader.read(0, reader.frames) / 2
        sinks.write({"vocals": half, "rest": half})


class NeverLoads:
    """Hangs while it loads."""

    def load(self, request: Any) -> None:
        threading.Event().wait(600)


class BadModel:
    """Refuses its model."""

    def load(self, request: Any) -> None:
        raise KeyError("layer.0.weight")


class DiesLoading:
    """Exits while it loads."""

    def load(self, request: Any) -> None:
        os._exit(1)


def broken_factory() -> Any:
    raise RuntimeError("no such device")


class Counting(Echo):
    """Counts, in a file, how often a model was loaded by any host."""

    def load(self, request: Any) -> None:
        file = Path(os.environ["HOME"], "loads")
        file.write_text(str(int(file.read_text(encoding="ascii")) + 1 if file.exists() else 1), encoding="ascii")


class Budget(Echo):
    """Works second by second, can go on where it was, and has only the memory that files in HOME give it.

    `budget`: seconds of segment times batch that fit; more is refused as `error` says. `die`: frames after which the
    process is killed, once. `remove`: a folder that is deleted after a second.
    `starts` gets the frame that each separation began at.
    """

    resumes = True
    backend = "halving"

    def load(self, request: Any) -> None:
        self.request = request

    def separate(self, reader: Any, sinks: Any, params: Any, progress: Any, cancelled: Any) -> None:
        with self.file("starts").open("a", encoding="ascii") as starts:
            starts.write(f"{self.request.device} {self.request.model} {sinks.frames}\n")
        if params["segment"] * params["batch"] > self.number(f"budget-{self.request.model}"):
            self.refuse(params["error"])
        while sinks.frames < reader.frames:
            count = min(reader.rate, reader.frames - sinks.frames)
            half = reader.read(sinks.frames, count) / 2
            sinks.write({"vocals": half, "accompaniment": half})
            progress(sinks.frames, reader.frames)
            time.sleep(0.05)
            if self.file("remove").exists():
                shutil.rmtree(self.file("remove").read_text(encoding="utf-8"))
                self.file("remove").unlink()
            if sinks.frames >= self.number("die"):
                self.file("die").unlink()
                os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def refuse(how: str) -> None:
        if how == "cuda":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB.")
        if how == "memory":
            raise MemoryError
        if how == "limit":  # beyond the limit that the host was given
            np.ones(1 << 33, np.uint8)
        os._exit(75)

    @staticmethod
    def file(name: str) -> Path:
        return Path(os.environ["HOME"], name)

    def number(self, name: str) -> float:
        return float(self.file(name).read_text(encoding="ascii")) if self.file(name).exists() else float("inf")
