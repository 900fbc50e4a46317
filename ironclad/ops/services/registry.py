"""From a service's name to the service; imports what that one needs and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ironclad.errors import DatabaseUnavailable, NotFound, SchemaMismatch
from ironclad.ops import directory, fronts, plan, service
from ironclad.ops.heartbeat import libpq_url

if TYPE_CHECKING:
    from ironclad.config import Settings

_PLAIN: Final = ("watch", "dispatch", "notify", "api", "prefect", plan.POSTGRES)


def load(name: str, settings: Settings, forked: object = None) -> service.Service:
    """The service of a name (`watch`, `notify`, `worker-POOL` …). Raises `NotFound`.

    Args:
        name: the service's name.
        settings: ours.
        forked: for a worker, what `FrontService.prefork` returned.
    """
    if name == "watch":
        from ironclad.ops.services.watch_service import WatchService  # noqa: PLC0415 - each needs other libraries

        return WatchService()
    if name == "dispatch":
        from ironclad.ops.services.dispatch_service import DispatchService  # noqa: PLC0415

        return DispatchService()
    if name == "notify":
        from ironclad.ops.services.notify_service import NotifyService  # noqa: PLC0415

        return NotifyService()
    if name == plan.POSTGRES:
        from ironclad.ops.services.postgres_service import PostgresService  # noqa: PLC0415

        return PostgresService()
    return _front(name, settings, forked)


def _front(name: str, settings: Settings, forked: object) -> service.Service:
    """A service that lives in a front: this layer knows no more of it than its name."""
    if name == "api":
        made: service.Service = fronts.load("api")()
        return made
    from ironclad.ops.services.front_service import FrontService  # noqa: PLC0415

    if name == "prefect":
        return FrontService.prefect(settings)
    pool = name.removeprefix(directory.WORKER_PREFIX)
    if name.startswith(directory.WORKER_PREFIX) and pool in settings.pools:
        return FrontService.worker(settings, pool, forked)
    pools = [directory.worker(pool) for pool in settings.pools]
    raise NotFound(f"There is no service {name} here; there is {', '.join([*_PLAIN, *pools])}.")


def fitting(name: str, settings: Settings, forked: object = None) -> service.Service:
    """The service, if the database's tables are what it needs.

    Raises `SchemaMismatch` (starting again is useless) or, before there are tables, `DatabaseUnavailable` (it is not).
    A database that does not answer is the service's own affair: it waits.
    """
    if name not in {"prefect", plan.POSTGRES}:
        from ironclad.db import schema  # noqa: PLC0415 - those two need no tables and stay light
        from ironclad.db.session import Database  # noqa: PLC0415

        database = Database(libpq_url(settings))
        try:
            revision = schema.current(database)
        except DatabaseUnavailable:
            revision = schema.HEAD
        finally:
            database.close()
        if revision is None:
            raise DatabaseUnavailable("It has no tables yet; `ironclad db upgrade` makes them.")
        if revision != schema.HEAD:
            raise SchemaMismatch(f"The database is at {revision}, this version needs {schema.HEAD}.")
    return load(name, settings, forked)


def run(name: str, settings: Settings) -> int:
    """Run a service until it is told to stop. Returns the exit code; `service.leave` ends the process with it."""
    pool = name.removeprefix(directory.WORKER_PREFIX) if name.startswith(directory.WORKER_PREFIX) else None
    forked = None
    if pool is not None and pool in settings.pools:
        from ironclad.ops.services.front_service import FrontService  # noqa: PLC0415 - workers only

        forked = FrontService.prefork(settings, pool)
    return service.run_service(
        name, lambda: fitting(name, settings, forked), settings, kind="worker" if pool else name, pool=pool,
        heartbeat=name != plan.POSTGRES,  # it is up before the table is there, and gone before its row could be
    )  # fmt: skip
