"""A Prefect server on a throw-away home, workers on it, and what one flow run costs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import psutil

from ironclad_flows.environment import URL_FILE
from ironclad_flows.executor import JOB_TEMPLATE
from ironclad_flows.server_service import server_command
from ironclad_flows.wake import wake
from ironclad_flows.worker_service import worker_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FLOW = "trivial_flow.trivial"
SLOTS = 2
_POLL_SECONDS = 0.1


class TooSlow(RuntimeError):
    """The benchmark's time is up."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One run: seconds from its creation to its end, and CPU seconds of its worker and all its processes."""

    latency: float
    cpu: float


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process tree, ended and waited-for members included."""
    root = psutil.Process(pid)
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def tree_memory(pid: int) -> float:
    """MB of a process tree, shared pages counted once (proportional set size)."""
    root = psutil.Process(pid)
    return sum(process.memory_full_info().pss for process in [root, *root.children(recursive=True)]) / 1e6


class Bench:
    """The server and its workers; a context manager that leaves nothing behind.

    Args:
        query_seconds: how often every worker asks for runs.
        seconds: time for everything.
        port: the server's; 0 takes a free one, an occupied one is refused.
        database: `sqlite` or `postgresql` (embedded).
    """

    def __init__(self, *, query_seconds: float, seconds: float, port: int = 0, database: str = "postgresql") -> None:
        self._deadline = time.monotonic() + seconds
        self._home = Path(tempfile.mkdtemp(prefix="ironclad-bench-"))
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("IRONCLAD_", "PREFECT_"))}
        self.environment = {
            **keep,
            "IRONCLAD_DATA_DIR": str(self._home),
            "IRONCLAD_PREFECT__PORT": str(port),
            "IRONCLAD_PREFECT__QUERY_SECONDS": str(query_seconds),
            "IRONCLAD_PREFECT__DATABASE": database,
            "PYTHONPATH": str(Path(__file__).parent),
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._client = httpx.Client(timeout=20, trust_env=False)
        self.server_pid = 0

    def __enter__(self) -> Self:
        try:
            self._start_server()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._home)

    def _spawn(self, command: Sequence[str], environment: dict[str, str], name: str) -> subprocess.Popen[bytes]:
        with (self._home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def _until(self, what: Callable[[], Any], process: subprocess.Popen[bytes] | None = None) -> Any:
        while not (value := what()):
            if time.monotonic() > self._deadline:
                raise TooSlow("The benchmark's time is up.")
            if process is not None and process.poll() is not None:
                logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self._home.glob("*.log"))
                raise RuntimeError(f"A process ended by itself:\n{logs}")
            time.sleep(_POLL_SECONDS)
        return value

    def _start_server(self) -> None:
        server = self._spawn(server_command(), self.environment, "server")
        self.server_pid = server.pid
        published = self._home / "run" / URL_FILE
        self._until(published.is_file, server)
        self._client.base_url = httpx.URL(published.read_text(encoding="ascii"))

        def healthy() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return self._client.get("health").is_success
            return False

        self._until(healthy, server)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        def answer() -> httpx.Response | None:
            response = self._client.post(path, json=body)
            # What Prefect says where SQLite was busy; its own client asks again too.
            return None if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else response

        return self._until(answer).raise_for_status().json()

    def worker(self, kind: str) -> Worker:
        """Start a worker of type `ironclad` or `process`, on a pool of its own, and wait until it asks for runs."""
        pool = {"name": kind, "type": kind, "base_job_template": JOB_TEMPLATE if kind == "ironclad" else {}}
        if kind == "process":
            pool = {"name": kind, "type": kind}
        self._post("work_pools/", pool)
        if kind == "ironclad":
            command, environment = (
                worker_command(kind, slots=SLOTS, name=kind, preload=[FLOW.rpartition(".")[0]]), self.environment,
            )  # fmt: skip
        else:
            from ironclad.config import load  # noqa: PLC0415
            from ironclad_flows.environment import prefect_environment  # noqa: PLC0415

            settings = load(environ=self.environment)
            environment = {**self.environment, **prefect_environment(settings)}
            command = [
                sys.executable, "-m", "prefect", "worker", "start", "--type", kind, "--pool", kind, "--name", kind,
                "--limit", str(SLOTS), "--install-policy", "never",
            ]  # fmt: skip
        process = self._spawn(command, environment, f"worker-{kind}")
        self._until(lambda: self._post(f"work_pools/{kind}/workers/filter", {}), process)
        flow = self._post("flows/", {"name": "trivial"})
        deployment = self._post(
            "deployments/",
            {"name": f"trivial-{kind}", "flow_id": flow["id"], "work_pool_name": kind, "entrypoint": FLOW},
        )
        return Worker(self, kind, process, deployment["id"])


class Worker:
    """A worker that runs the trivial flow one at a time."""

    def __init__(self, bench: Bench, pool: str, process: subprocess.Popen[bytes], deployment: str) -> None:
        self._bench, self._pool, self._deployment = bench, pool, deployment
        self.process = process

    def run(self, *, tasks: int, woken: bool = False) -> Cost:
        """One flow run; stops the benchmark unless it completed with all its task runs.

        Args:
            tasks: how many task runs it must have.
            woken: tell the worker at once, as the dispatcher does, instead of letting it ask.
        """
        bench = self._bench
        before = tree_cpu(self.process.pid)
        run_id = bench._post(f"deployments/{self._deployment}/create_flow_run", {})["id"]  # noqa: SLF001
        if woken:
            wake(bench._home / "run", self._pool)  # noqa: SLF001

        def ended() -> dict[str, Any] | None:
            run = bench._client.get(f"flow_runs/{run_id}").raise_for_status().json()  # noqa: SLF001
            return run if run["end_time"] is not None else None

        run = bench._until(ended, self.process)  # noqa: SLF001
        assert run["state"]["type"] == "COMPLETED", run["state"]
        pid = int(run["infrastructure_pid"].rpartition(":")[2])
        bench._until(lambda: not psutil.pid_exists(pid))  # noqa: SLF001
        cpu = tree_cpu(self.process.pid) - before
        bench._until(lambda: self._task_runs(run_id) == tasks)  # noqa: SLF001
        latency = (datetime.fromisoformat(run["end_time"]) - datetime.fromisoformat(run["created"])).total_seconds()
        return Cost(latency, cpu)

    def _task_runs(self, run_id: str) -> int:
        query = {"flow_runs": {"id": {"any_": [run_id]}}, "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        return len(self._bench._post("task_runs/filter", query))  # noqa: SLF001
