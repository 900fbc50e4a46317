"""The worker's side of the fork server: start it, ask it for processes, watch them end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.abc
from prefect.runner._process_manager import ProcessHandle

from ironclad.errors import ConfigError, WorkerLost
from ironclad_flows.processes import kill_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prefect.client.schemas.objects import FlowRun
    from prefect.runner._control_channel import ControlChannel

    from ironclad_flows.prefork import Forked

PRELOAD_SECONDS = 120.0
"""How long preloading may take; it takes 2 s on an idle machine."""
FORK_SECONDS = 30.0
_STOP_SECONDS = 5.0
_LONGEST_LINE = 1 << 20


@dataclass(slots=True)
class ForkedProcess:
    """A process that the fork server started; `returncode` is negative if a signal ended it, None while it runs."""

    pid: int
    returncode: int | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> int:
        """The exit code, once it has one."""
        await self._ended.wait()
        return cast("int", self.returncode)

    def end(self, code: int) -> None:
        """Record how it ended."""
        self.returncode = code
        self._ended.set()


class ForkServer:
    """A fork server process and its children; restarted by the next `fork` if it has died.

    Args:
        modules: what it preloads besides Prefect.
        service: what the lines that runs log say as theirs.
        forked: one that was forked from this process, to use as long as it lives.
    """

    def __init__(self, modules: Sequence[str], service: str = "worker", forked: Forked | None = None) -> None:
        self._modules = tuple(modules)
        self._service = service
        self._forked = forked
        self._lock = asyncio.Lock()
        self._server: subprocess.Popen[bytes] | Forked | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._requests: dict[str, asyncio.Future[ForkedProcess]] = {}
        self._processes: dict[int, ForkedProcess] = {}

    @property
    def pid(self) -> int | None:
        """The fork server's process id, None if it does not run."""
        return self._server.pid if self._server is not None else None

    async def start(self) -> None:
        """Start it and wait until everything is preloaded; nothing if it runs.

        Raises `ConfigError` with the traceback if a preloaded module cannot be imported.
        """
        async with self._lock:
            await self._start()

    async def _start(self) -> None:
        if self._server is not None:
            return
        forked, self._forked = self._forked, None
        if forked is not None and await self._began(forked, forked.connection):
            if self._writer is not None:
                # It was forked before this process knew where the Prefect server is.
                own = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}
                self._writer.write(json.dumps({"environment": own}).encode() + b"\n")
            return
        # There was none, or it has died since.
        if not await self._began(*self._launch()):
            raise ConfigError("The worker's fork server died at its start.")

    async def _began(self, server: subprocess.Popen[bytes] | Forked, connection: socket.socket) -> bool:
        """Whether it has preloaded everything; False if it died without a word."""
        self._server = server
        reader, self._writer = await asyncio.open_connection(sock=connection, limit=_LONGEST_LINE)
        message: dict[str, Any] | None
        try:
            async with asyncio.timeout(PRELOAD_SECONDS):
                line = await reader.readline()
            message = json.loads(line) if line else None
        except TimeoutError:
            message = {"error": f"preloading took longer than {PRELOAD_SECONDS:.0f} s"}
        except OSError:
            message = None
        if message is None:
            await self._stop()
            return False
        if message.get("event") != "ready":
            await self._stop()
            raise ConfigError(f"The worker's fork server did not start:\n{message['error']}")
        self._watcher = asyncio.create_task(self._watch(reader))
        return True

    def _launch(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            server = subprocess.Popen(
                [
                    sys.executable, "-m", "ironclad_flows.forkserver", str(theirs.fileno()), self._service,
                    *self._modules,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        return server, ours

    async def fork(self, environment: Mapping[str, str]) -> ForkedProcess:
        """A new process that runs `ironclad_flows.child.main(environment)`.

        Raises `WorkerLost` if the fork server dies or does not answer meanwhile, or the kernel makes no process.
        """
        async with self._lock:
            await self._start()
            writer = cast("asyncio.StreamWriter", self._writer)
            request = uuid.uuid4().hex
            answer: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
            self._requests[request] = answer
            try:
                writer.write(json.dumps({"id": request, "environment": dict(environment)}).encode() + b"\n")
                await writer.drain()
                async with asyncio.timeout(FORK_SECONDS):
                    return await answer
            except (OSError, TimeoutError) as exc:
                raise WorkerLost(f"The fork server did not answer ({exc!r}).") from exc
            finally:
                self._requests.pop(request, None)

    async def close(self) -> None:
        """End it and everything it started."""
        async with self._lock:
            await self._stop()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                self._handle(json.loads(line))
        # Whoever closed it: the kernel has killed the children, but not what they had started.
        for pid, process in self._processes.items():
            kill_group(pid)
            process.end(-signal.SIGKILL)
        self._processes.clear()
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(WorkerLost("The fork server died."))
        server, self._server = self._server, None
        if self._writer is not None:
            self._writer.close()
        if server is not None:
            await asyncio.to_thread(_reap, server)

    def _handle(self, message: Mapping[str, Any]) -> None:
        if message["event"] == "started":
            process = self._processes[message["pid"]] = ForkedProcess(message["pid"])
            answer = self._requests.get(message["id"])
            if answer is not None and not answer.done():
                answer.set_result(process)
            else:
                kill_group(process.pid)
        elif message["event"] == "refused":
            answer = self._requests.get(message["id"])
            if answer is not None and not answer.done():
                answer.set_exception(WorkerLost(f"No process could be started: {message['error']}"))
        else:
            self._processes.pop(message["pid"]).end(message["code"])

    async def _stop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._watcher is not None:
            watcher, self._watcher = self._watcher, None
            await watcher
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.to_thread(_reap, server)


def _reap(server: subprocess.Popen[bytes] | Forked) -> None:
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


class GroupScope:
    """How Prefect ends a run: SIGTERM to its process alone, so that it can clean up; SIGKILL to its whole group."""

    wait_after_graceful_kill = True

    def is_alive(self, pid: int) -> bool:
        """Whether the process exists."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def graceful_kill(self, pid: int) -> None:
        """SIGTERM. Raises `ProcessLookupError` if it is gone."""
        os.kill(pid, signal.SIGTERM)

    def hard_kill(self, pid: int) -> None:
        """SIGKILL to the group."""
        kill_group(pid)

    def close(self) -> None:
        """Nothing is held."""


class ForkStarter:
    """Prefect's `ProcessStarter`: starts one run's process, reports it, and returns when it has ended."""

    def __init__(self, server: ForkServer, environment: Mapping[str, str], channel: ControlChannel) -> None:
        self._server = server
        self._environment = environment
        self._channel = channel

    async def start(
        self,
        flow_run: FlowRun,
        task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Fork the run's process; see Prefect's contract in `prefect.runner._flow_run_executor`."""
        environment = {
            **self._environment,
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            # The worker runs them, once it has seen how the process ended.
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
        }
        # Without a channel (no loopback port left) a cancelled run is killed, and then still marked as cancelled.
        with contextlib.suppress(RuntimeError):
            port, token = self._channel.register(flow_run.id)
            environment |= {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        process = await self._server.fork(environment)
        # Prefect's handle wants one of two process classes but uses nothing of them except pid and returncode.
        task_status.started(ProcessHandle(cast("Any", process), termination_scope=GroupScope()))
        await process.wait()
