"""What `ironclad up` starts on this machine, and what needs what."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ironclad.ops import directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.config import Settings
    from ironclad.db.embedded import EmbeddedServer

    CommandBuilder = Callable[[str], tuple[str, ...]]

POSTGRES: Final = "postgres"
SCHEMA: Final = "schema"
PREFECT: Final = "prefect"
WATCHDOG_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing to start and keep running."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Units that must be ready before this one starts, and that stop after it."""
    uses: tuple[str, ...] = ()
    """Units that it can start without and waits for by itself, but that stop after it."""
    task: bool = False
    """It is ready when it has ended with exit code 0, instead of by notification."""
    leaves: Callable[[], int | None] | None = None
    """For a task: finds the process that it left running. When that process dies, the task runs again."""
    start_seconds: float = 120.0
    """Not ready by then, it is killed and started again, with twice the time, up to eight times."""
    watchdog_seconds: float = WATCHDOG_SECONDS
    """Silence after which a ready service is taken for hung; 0: it is not watched."""
    environment: Mapping[str, str] = field(default_factory=dict)


def service_command(name: str) -> tuple[str, ...]:
    """How a service is started: as `ironclad run` would."""
    return (sys.executable, "-m", "ironclad.ops.services", name)


def task_command(name: str) -> tuple[str, ...]:
    """How a preparing task is started."""
    return (sys.executable, "-m", "ironclad.ops.prepare", name)


def units(
    settings: Settings, embedded: EmbeddedServer | None, command: CommandBuilder = service_command
) -> tuple[Unit, ...]:
    """Everything that the settings ask for, in an order in which needs come first.

    Args:
        settings: ours.
        embedded: the embedded PostgreSQL server, None with a server of the operator's.
        command: how a service is started, by its name.
    """
    plan: list[Unit] = []
    server: tuple[str, ...] = ()
    if embedded is not None:
        plan.append(Unit(POSTGRES, task_command(POSTGRES), task=True, leaves=embedded.pid))
        server = (POSTGRES,)
    # It needs the server's answer, not its readiness: so its imports run while the server starts.
    plan.append(Unit(SCHEMA, task_command(SCHEMA), task=True))
    prefect: tuple[str, ...] = ()
    if settings.prefect.api_url is None:
        plan.append(Unit(PREFECT, command(PREFECT), needs=server))
        prefect = (PREFECT,)
    ready = (*server, SCHEMA)
    plan += [Unit("watch", command("watch"), ready), Unit("dispatch", command("dispatch"), ready, uses=prefect)]
    if settings.notify.channels:  # without one there is nobody to tell, and its memory would be for nothing
        plan.append(Unit("notify", command("notify"), ready))
    if settings.api.enabled:
        plan.append(Unit("api", command("api"), ready))
    # Workers load their libraries while the Prefect server starts, which takes longest of all.
    plan += [Unit(name, command(name), ready, uses=prefect) for name in map(directory.worker, settings.pools)]
    return tuple(plan)
