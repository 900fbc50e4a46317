"""From a service's name to the service; imports what that one needs and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad.errors import NotFound
from ironclad.ops import directory, service

if TYPE_CHECKING:
    from ironclad.config import Settings


def load(name: str, settings: Settings) -> service.Service:
    """The service of a name (`watch`, `dispatch`, `prefect`, `worker-POOL`). Raises `NotFound`."""
    if name == "watch":
        from ironclad.ops.services.watch_service import WatchService  # noqa: PLC0415 - each needs other libraries

        return WatchService()
    if name == "dispatch":
        from ironclad.ops.services.dispatch_service import DispatchService  # noqa: PLC0415

        return DispatchService()
    from ironclad.ops.services.front_service import FrontService  # noqa: PLC0415

    if name == "prefect":
        return FrontService.prefect(settings)
    pool = name.removeprefix(directory.WORKER_PREFIX)
    if name.startswith(directory.WORKER_PREFIX) and pool in settings.pools:
        return FrontService.worker(settings, pool)
    pools = [directory.worker(pool) for pool in settings.pools]
    raise NotFound(f"There is no service {name} here; there is {', '.join(['watch', 'dispatch', 'prefect', *pools])}.")


def run(name: str, settings: Settings) -> int:
    """Run a service until it is told to stop. Returns the exit code; `service.leave` ends the process with it."""
    pool = name.removeprefix(directory.WORKER_PREFIX) if name.startswith(directory.WORKER_PREFIX) else None
    return service.run_service(name, lambda: load(name, settings), settings, kind="worker" if pool else name, pool=pool)
