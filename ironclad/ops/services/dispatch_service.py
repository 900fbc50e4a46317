"""`ironclad run dispatch`: the dispatcher with the reaper, the disk floor, and the queue's metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ironclad.db.session import Database
from ironclad.errors import DatabaseUnavailable, IroncladError, PrefectUnavailable
from ironclad.jobs.dispatch import Dispatcher
from ironclad.ops import certificates, fronts
from ironclad.ops.backup_metrics import BackupReader
from ironclad.ops.disk import DiskFloor
from ironclad.ops.health import Status
from ironclad.ops.housekeeper import Housekeeper
from ironclad.ops.probes import PREFECT, STORAGE, DiskProbe, PrefectProbe
from ironclad.ops.queue_metrics import QueueReader
from ironclad.stages import filing

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.jobs.executor import Executor, FlowRequest, RunState
    from ironclad.ops.health import HealthBoard
    from ironclad.ops.service import ServiceRuntime

    T = TypeVar("T")

_REMEDY = "The queue waits. See `ironclad run prefect`, its log logs/prefect.jsonl, and prefect.api_url."
_HUNG_SECONDS = 60.0  # no call of an executor may take longer than 30 s


class WatchedExecutor:
    """An executor that reports how it does, and is made anew when it is prepared: the server may have moved.

    Args:
        make: makes the executor of the moment.
        health: where component `prefect` is reported.
    """

    def __init__(self, make: Callable[[], Executor], health: HealthBoard) -> None:
        self._make = make
        self._health = health
        self._executor: Executor | None = None

    def submit(self, request: FlowRequest) -> str:
        """Create the flow run."""
        return self._call(lambda executor: executor.submit(request))

    def state(self, run_id: str) -> RunState:
        """Where the run is now."""
        return self._call(lambda executor: executor.state(run_id))

    def cancel(self, run_id: str) -> None:
        """Ask for the run to end."""
        self._call(lambda executor: executor.cancel(run_id))

    def abandon(self, run_id: str, reason: str) -> None:
        """Mark a run whose process is gone as ended."""
        self._call(lambda executor: executor.abandon(run_id, reason))

    def retire(self, active: frozenset[str]) -> int:
        """End what only the executor believes to be running."""
        return self._call(lambda executor: executor.retire(active))

    def set_paused(self, pool: str, *, paused: bool) -> None:
        """Pause or resume the work pool."""
        self._call(lambda executor: executor.set_paused(pool, paused=paused))

    def prepare(self, pools: dict[str, int]) -> None:
        """Make pools and deployments exist, on the server that is there now."""
        self._executor = None
        self._call(lambda executor: executor.prepare(pools))

    def _call(self, call: Callable[[Executor], T]) -> T:
        try:
            if self._executor is None:
                self._executor = self._make()
            with self._health.within("prefect call", _HUNG_SECONDS):
                result = call(self._executor)
        except PrefectUnavailable as exc:
            self._health.degraded("prefect", exc.detail, _REMEDY)
            raise
        self._health.ok("prefect")
        return result


def _file(database: Database, runtime: ServiceRuntime) -> None:
    """File the originals of jobs that failed without a worker to do it; a disk that refuses is visible, and waits."""
    try:
        filing.sweep(database, runtime.settings)
    except DatabaseUnavailable:
        raise
    except IroncladError as exc:
        runtime.health.degraded("filing", str(exc), exc.hint)
    else:
        runtime.health.ok("filing")


class DispatchService:
    """Hands queued jobs to the executor and puts right what went wrong.

    Args:
        make: makes the executor; by default the one of entry point `prefect-executor`.
    """

    name = "dispatch"

    def __init__(self, make: Callable[[], Executor] | None = None) -> None:
        self._make = make

    def run(self, runtime: ServiceRuntime) -> None:
        """Dispatch until the runtime stops."""
        settings = runtime.settings
        executor = WatchedExecutor(self._make or fronts.executor_of(settings), runtime.health)
        runtime.probe({STORAGE: DiskProbe(settings), PREFECT: PrefectProbe(settings, Status.DEGRADED)})
        database = Database.open(settings)
        try:
            QueueReader(database, runtime.metrics, deadline_seconds=settings.jobs.deadline_seconds)
            certificates.watch(settings, runtime.metrics, runtime.health)
            BackupReader(settings, runtime.metrics)
            housekeeper = Housekeeper(database, settings)
            floor = DiskFloor(settings, database, runtime.health, runtime.metrics)

            def housekeeping() -> None:
                floor.step()
                _file(database, runtime)
                housekeeper.step(low=floor.low)

            Dispatcher(database, settings, executor, housekeeping).run(runtime.stopping, runtime.ready)
        finally:
            database.close()
