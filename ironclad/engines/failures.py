"""What a host's failure means in Ironclad's catalogue of errors."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from ironclad.engines.host.protocol import EXIT_OUT_OF_MEMORY
from ironclad.errors import (
    CATALOGUE,
    DiskFull,
    EngineDied,
    EngineFailed,
    EngineProtocol,
    EngineRefused,
    InputError,
    IroncladError,
    ModelBroken,
    OutOfMemory,
    OutputInvalid,
    PluginBroken,
    StorageError,
)

if TYPE_CHECKING:
    from ironclad.engines.host.protocol import Failure

_DEFAULTS: dict[str, type[IroncladError]] = {
    "oom": OutOfMemory,
    "model": ModelBroken,
    "input": EngineRefused,
    "storage": StorageError,
    "engine": EngineFailed,
}
_NAMED: dict[str, tuple[type[IroncladError], ...]] = {
    "input": (InputError,),
    "storage": (DiskFull, StorageError),
    "engine": (EngineFailed, EngineProtocol, OutputInvalid, PluginBroken),
}
"""What a host may name for each kind: it runs foreign code, so it may not claim to have been cancelled, say."""


def named(failure: Failure) -> IroncladError:
    """The catalogue's error for what the host reported."""
    cls = CATALOGUE.get(failure.code)
    if cls is None or not issubclass(cls, _NAMED.get(failure.kind, ())):
        cls = _DEFAULTS[failure.kind]
    return cls(failure.message)


def death(status: int | None, *, kernel_killed: bool) -> IroncladError:
    """The error for a host that ended by itself with this exit status (-N: signal N; None: it still runs)."""
    if status is None:
        return EngineDied("it closed its output and does not exit")
    if status == EXIT_OUT_OF_MEMORY:
        return OutOfMemory("the engine host gave up", exit_status=status)
    if status == -signal.SIGKILL and kernel_killed:
        return OutOfMemory("the kernel killed the engine host to free memory", exit_status=status)
    if status < 0:
        with contextlib.suppress(ValueError):
            return EngineDied(f"by signal {-status} ({signal.Signals(-status).name})", exit_status=status)
        return EngineDied(f"by signal {-status}", exit_status=status)
    return EngineDied(f"with exit status {status}", exit_status=status)
