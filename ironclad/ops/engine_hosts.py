"""Engine hosts below a worker: how many, their memory, their GPU memory; looked up at each scrape.

Hosts are children of flow runs, which are forked from the worker's fork server: nobody could tell a registry of them.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ironclad.ops.metrics import Metrics

_ENTRY: Final = "--entry"
_GPU_SECONDS: Final = 10.0
_GPU_TIMEOUT: Final = 2.0
_UNKNOWN: Final = "other"
_QUERY: Final = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")


def entry_of(command: Sequence[str]) -> str | None:
    """The engine's entry (`module:class`) of a host's command line; None if it is no host's."""
    is_host = any(word == "ironclad.engines.host" or word.endswith("engines/host/launch.py") for word in command)
    if not is_host or _ENTRY not in command[:-1]:
        return None
    return command[list(command).index(_ENTRY) + 1]


def gpu_memory(program: str | None = None) -> dict[int, int]:
    """Bytes of GPU memory by process id, as nvidia-smi tells; empty where there is none or it does not answer."""
    program = program or shutil.which("nvidia-smi")
    if program is None:
        return {}
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=_GPU_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    found: Counter[int] = Counter()
    for line in done.stdout.splitlines():
        pid, _, mebibytes = line.partition(",")
        with contextlib.suppress(ValueError):  # "[N/A]" in some containers
            found[int(pid)] += int(mebibytes) << 20
    return dict(found)


class EngineHostReader:
    """Keeps the worker's `ironclad_engine_…` metrics current.

    Args:
        metrics: of the worker.
        engines: the names of the engines by their entries; asked for once, at the first host.
        gpu: GPU memory by process id.
        pid: whose descendants; this process's by default.
    """

    def __init__(
        self, metrics: Metrics, engines: Callable[[], Mapping[str, str]], *,
        gpu: Callable[[], Mapping[int, int]] = gpu_memory, pid: int | None = None,
    ) -> None:  # fmt: skip
        self._metrics = metrics
        self._find_engines = engines
        self._engines: Mapping[str, str] | None = None
        self._gpu = gpu
        self._gpu_at = float("-inf")
        self._gpu_found: Mapping[int, int] = {}
        self._root = psutil.Process(pid)
        self._seen: set[str] = set()
        metrics.on_scrape(self.refresh)

    def gpu_bytes(self) -> int | None:
        """GPU memory of all hosts together; None where no GPU can be seen."""
        if shutil.which("nvidia-smi") is None:
            return None
        memory, pids = self._gpu(), [process.pid for process in self._descendants()]
        return sum(memory.get(pid, 0) for pid in pids)

    def refresh(self) -> None:
        """Look at the processes."""
        count: Counter[str] = Counter()
        resident: Counter[str] = Counter()
        video: Counter[str] = Counter()
        for process in self._descendants():
            with contextlib.suppress(psutil.Error):
                entry = entry_of(process.cmdline())
                if entry is not None:
                    name = self._name(entry)
                    count[name] += 1
                    resident[name] += process.memory_info().rss
                    video[name] += self._gpu_memory().get(process.pid, 0)
        self._seen |= set(count)
        for name in self._seen or {self._default()}:
            self._metrics.gauge("ironclad_engine_hosts").labels(name).set(count[name])
            self._metrics.gauge("ironclad_engine_host_resident_bytes").labels(name).set(resident[name])
            self._metrics.gauge("ironclad_engine_host_gpu_bytes").labels(name).set(video[name])

    def _descendants(self) -> list[psutil.Process]:
        try:
            return self._root.children(recursive=True)
        except psutil.Error:
            return []

    def _default(self) -> str:
        """A series from the start, so that a graph shows zero and not a gap."""
        return next(iter(self._names().values()), _UNKNOWN)

    def _names(self) -> Mapping[str, str]:
        if self._engines is None:
            self._engines = self._find_engines()
        return self._engines

    def _name(self, entry: str) -> str:
        return self._names().get(entry, _UNKNOWN)

    def _gpu_memory(self) -> Mapping[int, int]:
        if time.monotonic() - self._gpu_at > _GPU_SECONDS:
            self._gpu_found, self._gpu_at = self._gpu(), time.monotonic()
        return self._gpu_found


def installed() -> dict[str, str]:
    """The names of the installed engines by their entries."""
    from ironclad.engines.registry import installed_engines  # noqa: PLC0415 - loads the plugins

    return {spec.entry: spec.name for spec in installed_engines()}
