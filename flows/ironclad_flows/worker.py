"""The warm worker: a Prefect worker type whose runs are forked from a process that has everything imported already.

Registered under Prefect's entry point group `prefect.collections`, so `prefect worker start --type ironclad` works too;
`ironclad run worker` runs it in-process (`worker_service.py`). It builds on parts of Prefect's runner that have no
public name, which is one reason why Prefect is pinned exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound, ObjectNotFound
from prefect.flows import load_flow_from_flow_run
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry, Cancelled
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from ironclad import log
from ironclad_flows.preload import STAGE_MODULES
from ironclad_flows.starter import ForkServer, ForkStarter, GroupScope

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from prefect.client.schemas.objects import Flow as APIFlow
    from prefect.client.schemas.objects import FlowRun, State, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse, WorkerFlowRunResponse
    from prefect.runner._flow_run_executor import FlowRunExecutionResult
    from prefect.runner._process_manager import ProcessHandle

    from ironclad_flows.prefork import Forked
    from ironclad_flows.wake import WakeSocket

EX_TEMPFAIL = 75
"""Exit code when the worker had to leave without Prefect's clean-up; supervisors restart on it."""
_TEARDOWN_SECONDS = 10.0
_RESCHEDULE_SECONDS = 10.0
_LET_GO_SECONDS = 30.0
_POLL_SECONDS = 0.2


class IroncladJobConfiguration(BaseJobConfiguration):
    """How one run is started: only its environment can be set."""

    @classmethod
    def _base_environment(cls) -> dict[str, str]:
        # Prefect hands its settings down as variables, which takes 40 ms a run; a forked child has them anyway.
        return {}

    def prepare_for_flow_run(  # noqa: PLR0917 - Prefect's signature
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: APIFlow | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Add the flow's entry point, so that the child neither asks for the deployment nor downloads code."""
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id=worker_id)
        if deployment is not None and deployment.entrypoint and ":" not in deployment.entrypoint:
            self.env["PREFECT__FLOW_ENTRYPOINT"] = deployment.entrypoint


class IroncladVariables(BaseVariables):
    """What a deployment may set."""


class IroncladResult(BaseWorkerResult):
    """How a run's process ended."""


def _leave_within(seconds: float) -> None:
    """End this process the hard way if it still exists in `seconds`.

    While its server is away, Prefect's clean-up tries again for minutes, in threads that hold up the interpreter's
    exit. By then nothing here is worth waiting for: the runs are gone, and our database knows what became of the jobs.
    """
    timer = threading.Timer(seconds, os._exit, (EX_TEMPFAIL,))
    timer.daemon = True
    timer.start()


class IroncladWorker(BaseWorker[IroncladJobConfiguration, IroncladVariables, IroncladResult]):
    """Runs each flow run in a process forked from a preloaded fork server.

    On SIGTERM or SIGINT, or `request_drain()`, it stops asking for runs, waits for those it has, and after
    `drain_seconds` ends the rest: a run whose flow had not begun goes back to the pool, one that had is let go (the job
    goes back to the queue by itself, as a new flow run). A second signal ends it at once; and the
    process that it ran in has to end soon after, or is ended.
    """

    type = "ironclad"
    job_configuration = IroncladJobConfiguration
    job_configuration_variables = IroncladVariables
    _description = "Runs each flow run in a process forked from a preloaded fork server."

    drain_seconds: float = 60.0
    preload: tuple[str, ...] = STAGE_MODULES
    forked: Forked | None = None
    """A fork server that is there already."""
    handle_signals: bool = True
    wake_socket: WakeSocket | None = None
    run_environment: Mapping[str, str] = MappingProxyType({})
    """What every run sees besides the worker's own environment."""
    log_as: str = "worker"
    """The service that lines of runs are of."""

    _forks: ForkServer
    _context: FlowRunExecutorContext
    _drain_requested: asyncio.Event
    _wanted: asyncio.Event
    _loop: asyncio.AbstractEventLoop | None = None
    _stopped_early = False
    _query_seconds = 10.0

    # --- starting runs --------------------------------------------------------------------------------------------

    async def setup(self) -> None:
        """Start the fork server, then what Prefect's worker needs."""
        self._forks = ForkServer(self.preload, self.log_as, self.forked)
        self._exit_stack.push_async_callback(self._forks.close)
        await self._forks.start()
        await super().setup()
        self._context = await self._exit_stack.enter_async_context(FlowRunExecutorContext())

    async def run(
        self,
        flow_run: FlowRun,
        configuration: IroncladJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> IroncladResult:
        """Run one flow run to its end; reports `host:pid` as soon as its process exists."""
        own = {name: value for name, value in configuration.env.items() if value is not None}
        environment = {**self.run_environment, **own}
        starter = ForkStarter(self._forks, environment, self._context.control_channel)
        executor = self._context.create_executor(
            flow_run, starter, resolve_flow=load_flow_from_flow_run, propose_submitting=False
        )
        result: FlowRunExecutionResult | None = None

        async def submit(*, task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED) -> None:
            nonlocal result
            result = await executor.submit(task_status=task_status)

        async with anyio.create_task_group() as group:
            handle: ProcessHandle = await group.start(submit)
            if task_status is not None:
                task_status.started(f"{socket.gethostname()}:{handle.pid}")
        if result is None or result.status_code is None:
            raise RuntimeError("The flow run's process was not started.")
        return IroncladResult(status_code=result.status_code, identifier=f"{socket.gethostname()}:{result.handle.pid}")

    async def kill_infrastructure(
        self, infrastructure_pid: str, configuration: IroncladJobConfiguration, grace_seconds: int = 30
    ) -> None:
        """End a run's process: SIGTERM, then SIGKILL to its group after `grace_seconds`."""
        del configuration
        host, _, number = infrastructure_pid.rpartition(":")
        if host != socket.gethostname():
            raise InfrastructureNotAvailable(f"It runs on {host}.")
        scope, pid = GroupScope(), int(number)
        try:
            scope.graceful_kill(pid)
        except ProcessLookupError:
            raise InfrastructureNotFound(infrastructure_pid) from None
        with anyio.move_on_after(grace_seconds):
            while scope.is_alive(pid):  # noqa: ASYNC110 - somebody else's child is no event
                await anyio.sleep(_POLL_SECONDS)
            return
        scope.hard_kill(pid)

    # --- asking for runs ------------------------------------------------------------------------------------------

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Ask for runs and start them; none while draining."""
        if self._draining:
            return []
        return await super().get_and_submit_flow_runs()

    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        """All that wait. Ours are made when they are due, and this machine's clock may be minutes behind the server's.

        Only what Prefect's scheduler made beforehand (maintenance) waits for this clock.
        """
        try:
            found = await self.client.get_scheduled_flow_runs_for_work_pool(
                work_pool_name=self._work_pool_name, work_queue_names=list(self._work_queues)
            )
        except ObjectNotFound:
            return []  # the pool does not exist yet
        now = datetime.now(UTC)
        return [
            one for one in found
            if not one.flow_run.auto_scheduled or (one.flow_run.next_scheduled_start_time or now) <= now
        ]  # fmt: skip

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """Skip the state between Pending and Running that lasts a tenth of a second here and costs two requests."""

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Skip labels that say again what the run's `host:pid` and log say."""

    def _release_limit_slot(self, flow_run_id: UUID) -> None:
        super()._release_limit_slot(flow_run_id)
        # A free slot is worth asking at once; the interval is for an idle worker.
        self._wanted.set()

    async def _ask_when_woken(self) -> None:
        loop = asyncio.get_running_loop()
        if self.wake_socket is not None:
            loop.add_reader(self.wake_socket, self._on_wake, self.wake_socket)
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                # Prefect's own loop asks anyway, and handles a server that is away; here it only comes earlier.
                with contextlib.suppress(Exception):
                    await self.get_and_submit_flow_runs()
        finally:
            if self.wake_socket is not None:
                loop.remove_reader(self.wake_socket)

    def _on_wake(self, wake_socket: WakeSocket) -> None:
        wake_socket.drain()
        self._wanted.set()

    @property
    def polling(self) -> bool:
        """Whether it has reached Prefect and has asked for runs lately."""
        return self._has_successfully_synced and self.is_worker_still_polling(self._query_seconds)

    @property
    def runs(self) -> int:
        """Runs at hand."""
        return len(self._busy()) if self.is_setup else 0

    def change_limit(self, limit: int) -> None:
        """Take so many runs at a time from now on; what runs is finished. May be called from any thread."""

        def change() -> None:
            if self._limiter is not None and self._limiter.total_tokens != limit:
                log.get(worker=self.name, pool=self._work_pool_name).info("slots changed", slots=limit)
                self._limiter.total_tokens = limit
                self._wanted.set()

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(change)

    # --- stopping -------------------------------------------------------------------------------------------------

    @property
    def _draining(self) -> bool:
        return self._drain_requested.is_set()

    def request_drain(self) -> None:
        """Stop after the runs at hand; may be called from any thread and more than once."""
        self._stopped_early = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._drain_requested.set)

    async def start(self, *args: Any, **kwargs: Any) -> None:
        """Run until drained; see the class."""
        self._loop = asyncio.get_running_loop()
        self._query_seconds = get_current_settings().worker.query_seconds
        self._drain_requested, self._wanted = asyncio.Event(), asyncio.Event()
        if self._stopped_early:
            return
        if self.handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._on_signal)
        try:
            async with anyio.create_task_group() as group:

                async def drain_when_asked() -> None:
                    await self._drain_requested.wait()
                    _leave_within(self.drain_seconds + _LET_GO_SECONDS)
                    if self.is_setup:
                        await self._drain()
                    _leave_within(_TEARDOWN_SECONDS)
                    group.cancel_scope.cancel()

                group.start_soon(drain_when_asked)
                group.start_soon(self._ask_when_woken)
                await super().start(*args, **kwargs)
                group.cancel_scope.cancel()
        finally:
            if self.handle_signals:
                for number in (signal.SIGTERM, signal.SIGINT):
                    self._loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._draining:
            os._exit(EX_TEMPFAIL)
        self._drain_requested.set()

    async def _drain(self) -> None:
        logger = log.get(worker=self.name, pool=self._work_pool_name)
        logger.info("worker draining", runs=len(self._busy()), seconds=self.drain_seconds)
        with anyio.move_on_after(self.drain_seconds):
            while self._busy():  # noqa: ASYNC110 - Prefect keeps plain sets
                await anyio.sleep(_POLL_SECONDS)
        async with anyio.create_task_group() as group:
            for flow_run_id in self._context.process_manager.flow_run_ids():
                group.start_soon(self._let_go, flow_run_id)

    def _busy(self) -> set[UUID]:
        return self._submitting_flow_run_ids | self._context.process_manager.flow_run_ids()

    async def _let_go(self, flow_run_id: UUID) -> None:
        logger = log.get(worker=self.name, flow_run=str(flow_run_id))
        try:
            # With this intent delivered the engine in the child leaves the run's state to us.
            await self._context.control_channel.signal(flow_run_id, "relinquish")
            await self._context.process_manager.kill(flow_run_id, grace_seconds=int(_RESCHEDULE_SECONDS))
            with anyio.fail_after(_RESCHEDULE_SECONDS):
                run = await self.client.read_flow_run(flow_run_id)
                if run.state is not None and run.state.is_final():
                    return
                state: State[Any] = (
                    AwaitingRetry(message="The worker stopped before the flow began.")
                    if run.start_time is None
                    else Cancelled(message="The worker was stopped; the job goes back to the queue.")
                )
                await self.client.set_flow_run_state(flow_run_id, state, force=True)
            logger.info("run let go", state=state.name)
        except Exception as exc:  # noqa: BLE001 - the server may be away: our database and the reaper repair it
            logger.warning("run could not be let go", error=repr(exc))
