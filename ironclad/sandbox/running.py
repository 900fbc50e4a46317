"""What the parent needs of a child, whichever way it came to be."""

from __future__ import annotations

import os
from typing import Protocol

# What the interpreter itself needs to start (libraries outside the loader's path; coverage measured in children).
_KEPT = ("LD_LIBRARY_PATH", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
_FIXED = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    # A thread pool per library would break RLIMIT_NPROC and multiply the address space.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class NotStarted(Exception):
    """No child can be started this way: another may do."""


class Running(Protocol):
    """A child that leads a process group of its own."""

    @property
    def stdout(self) -> int:
        """The descriptor to read its replies from."""
        ...

    @property
    def stderr(self) -> int:
        """The descriptor to read its complaints from."""
        ...

    def begun(self, seconds: float) -> bool:
        """Whether it has got its order, or never will, after at most so many seconds."""
        ...

    def ended(self) -> bool:
        """Whether it has ended. What it wrote before is then there to be read."""
        ...

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after at most so many seconds."""
        ...

    def end(self) -> int | None:
        """Kill its whole group, if that is still there, and close all that belongs to it.

        Returns its exit code (negative: the signal that ended it), None if it never got its order.
        """
        ...


def environment() -> dict[str, str]:
    """All that a child learns of this process's environment."""
    return _FIXED | {name: os.environ[name] for name in _KEPT if name in os.environ}
