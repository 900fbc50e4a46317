"""How much a sandboxed child may use."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Ceilings of one child process. All of them are hard: the kernel or the parent ends the child at each."""

    cpu_seconds: int = 60
    """Processor time (RLIMIT_CPU)."""
    wall_seconds: float = 120.0
    """Time on the clock, kept by the parent."""
    memory_bytes: int = 2 * _GIB
    """Address space (RLIMIT_AS): includes about 0.5 GiB of Python and mapped libraries."""
    file_bytes: int = 256 * _MIB
    """Largest file that it may write (RLIMIT_FSIZE)."""
    open_files: int = 64
    """Open file descriptors (RLIMIT_NOFILE)."""
    processes: int | None = 0
    """New processes and threads of an ordinary user (RLIMIT_NPROC; the kernel does not count root's). None leaves the
    user's own limit, for a target that starts one program and then forbids itself any more."""
    reply_bytes: int = 16 * _MIB
    """Longest JSON line that the parent accepts from it."""
