"""What grows with what: jobs a minute of dispatcher and Prefect server, and what each worker costs the server.

    python benchmarks/scale.py [--jobs 1500] [--runs 12] [--asks 60] [--json]

1. The dispatcher alone, on an executor that takes everything at once: jobs a minute, processor time a job.
2. The Prefect server alone: creating a run, an asking worker, a worker's heartbeat: processor time of the server each.
3. Whole runs (five trivial tasks; our songs have seven stages) on one warm worker of two slots, then on two: runs a
   minute, processor time of the server a run.

From these: how many runs a minute, and how many idle workers, keep one core of the server busy.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import job_queue
import sqlalchemy as sa
import trivial_flow
from orchestration_bench import Bench, tree_cpu

from ironclad.config import load
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.jobs.dispatch import Dispatcher
from ironclad.jobs.executor import RunState
from ironclad_flows.worker_service import worker_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.jobs.executor import FlowRequest

QUERY_SECONDS = 5.0
BEAT_SECONDS = 30.0


class Accepting:
    """An executor that takes every run at once; thousands of slots make the dispatcher hand all out."""

    def submit(self, request: FlowRequest) -> str:
        """Take it."""
        return request.key

    def state(self, _run_id: str) -> RunState:
        """Nobody works on it."""
        return RunState.WAITING

    def cancel(self, _run_id: str) -> None:
        """Nothing to do."""

    def abandon(self, _run_id: str, _reason: str) -> None:
        """Nothing to do."""

    def retire(self, _active: frozenset[str]) -> int:
        """Nothing to do."""
        return 0

    def set_paused(self, _pool: str, *, paused: bool) -> None:
        """Nothing to do."""

    def prepare(self, _pools: dict[str, int]) -> None:
        """Nothing to do."""


def dispatcher(jobs: int) -> dict[str, float]:
    """Hand out that many jobs; the database waits for the disk, as in an installation."""
    with tempfile.TemporaryDirectory(prefix="ironclad-scale-") as name:
        server = EmbeddedServer(Path(name) / "postgres")
        server.start()
        try:
            database = Database(server.url())
            schema.upgrade(database)
            job_queue.fill(database, jobs)
            environment = {"IRONCLAD_DATA_DIR": name, "IRONCLAD_DATABASE_URL": server.url().replace("+psycopg", "")}
            settings = load(environ={**environment, "IRONCLAD_POOLS__CPU__SLOTS": str(jobs)})
            stopping = threading.Event()
            thread = threading.Thread(
                target=lambda: Dispatcher(database, settings, Accepting()).run(stopping, lambda: None)
            )

            def waiting() -> int:
                with database.session() as session:
                    statement = "SELECT count(*) FROM job WHERE state = 'queued' AND dispatched_at IS NULL"
                    return int(session.scalar(sa.text(statement)) or 0)

            before, begun = time.process_time(), time.monotonic()
            thread.start()
            until(lambda: waiting() == 0, 240)
            seconds, cpu = time.monotonic() - begun, time.process_time() - before
            stopping.set()
            thread.join(60)
            database.close()
        finally:
            server.stop()
            server.release()
    return {"jobs_a_minute": round(jobs / seconds * 60), "cpu_ms_a_job": round(cpu / jobs * 1000, 2)}


def until(holds: Callable[[], object], seconds: float) -> None:
    """Look until it holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Server:
    """A Prefect server that is asked, and what that costs it."""

    bench: Bench

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """One request."""
        answer = self.bench._client.post(path, json=body).raise_for_status()  # noqa: SLF001 - one benchmark in two files
        return answer.json() if answer.content else None

    def cost_ms(self, times: int, ask: Callable[[], object]) -> float:
        """Processor time of the server for one request, what it does anyway taken off."""
        begun, before = time.monotonic(), tree_cpu(self.bench.server_pid)
        for _ in range(times):
            ask()
        time.sleep(1.0)  # what it does after it has answered
        cpu, seconds = tree_cpu(self.bench.server_pid) - before, time.monotonic() - begun
        idle = tree_cpu(self.bench.server_pid)
        time.sleep(3.0)
        idle = (tree_cpu(self.bench.server_pid) - idle) / 3.0
        return round(max(0.0, cpu - idle * seconds) / times * 1000, 1)

    def runs(self, deployment: str, count: int) -> tuple[float, float]:
        """Seconds until so many runs are through, and the server's processor time for each."""
        done = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        before = int(self.post("flow_runs/count", done))
        cpu, begun = tree_cpu(self.bench.server_pid), time.monotonic()
        for _ in range(count):
            self.post(f"deployments/{deployment}/create_flow_run", {})
        until(lambda: int(self.post("flow_runs/count", done)) >= before + count, 300)
        return time.monotonic() - begun, (tree_cpu(self.bench.server_pid) - cpu) / count


def prefect(runs: int, asks: int) -> dict[str, Any]:
    """The server's side."""
    with Bench(query_seconds=1.0, seconds=600) as bench:
        server = Server(bench)
        server.post("work_pools/", {"name": "idle", "type": "process"})
        flow = server.post("flows/", {"name": "idle"})["id"]
        made = {"name": "idle", "flow_id": flow, "work_pool_name": "idle", "entrypoint": "trivial_flow.trivial"}
        deployment = server.post("deployments/", made)["id"]
        poll = server.cost_ms(asks, lambda: server.post("work_pools/idle/get_scheduled_flow_runs", {}))
        beat = server.cost_ms(asks, lambda: server.post("work_pools/idle/workers/heartbeat", {"name": "one"}))
        later = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}}
        create = server.cost_ms(asks, lambda: server.post(f"deployments/{deployment}/create_flow_run", later))
        worker = bench.worker("ironclad")
        worker.run(tasks=trivial_flow.TASKS)  # fills caches; not counted
        found: dict[str, Any] = {"poll_ms": poll, "heartbeat_ms": beat, "create_ms": create, "workers": []}
        for number in (1, 2):
            if number == 2:
                command = worker_command("ironclad", slots=2, name="second", preload=["trivial_flow"])
                bench._spawn(command, bench.environment, "second")  # noqa: SLF001 - as above
                until(lambda: len(server.post("work_pools/ironclad/workers/filter", {})) == 2, 120)
            seconds, cpu = server.runs(worker._deployment, runs)  # noqa: SLF001 - as above
            found["workers"].append(
                {"workers": number, "runs_a_minute": round(runs / seconds * 60, 1), "server_cpu_s_a_run": round(cpu, 3)}
            )
        return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--asks", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result: dict[str, Any] = {"dispatcher": dispatcher(options.jobs), "prefect": prefect(options.runs, options.asks)}
    server = result["prefect"]
    cpu = min(row["server_cpu_s_a_run"] for row in server["workers"])
    worker_ms = server["poll_ms"] / QUERY_SECONDS + server["heartbeat_ms"] / BEAT_SECONDS
    result["runs_a_minute_a_server_core"] = round(60 / (cpu + server["create_ms"] / 1000))
    result["idle_workers_a_server_core"] = round(1000 / worker_ms)
    if options.json:
        print(json.dumps(result))
        return 0
    print(f"dispatcher: {result['dispatcher']['jobs_a_minute']} jobs a minute, "
          f"{result['dispatcher']['cpu_ms_a_job']} ms of a processor a job (its own side)")  # fmt: skip
    print(f"Prefect server, processor: {server['create_ms']} ms to create a run, {server['poll_ms']} ms for a worker "
          f"that asks, {server['heartbeat_ms']} ms for a heartbeat")  # fmt: skip
    for row in server["workers"]:
        print(f"{row['workers']} worker(s) of 2 slots, all on this machine: {row['runs_a_minute']} runs a minute, "
              f"{row['server_cpu_s_a_run']} s of the server a run")  # fmt: skip
    print(f"one core of the server: {result['runs_a_minute_a_server_core']} runs a minute, or "
          f"{result['idle_workers_a_server_core']} idle workers that ask every {QUERY_SECONDS:g} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
