"""The warm worker against a real Prefect server: every way for a run, a worker or its fork server to end."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Prefect, StartWorker, Worker

PATIENCE = 180.0


def test_a_flow_runs_to_its_end_in_a_forked_process(prefect: Prefect, steady_worker: Worker, tmp_path: Path) -> None:
    run_id = prefect.start("steady", "sample_flows.five")
    state = prefect.ended(run_id)
    assert state["type"] == "COMPLETED"
    tasks = prefect.until(
        lambda: len(prefect.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})) == 5
    )
    assert tasks
    logs = prefect.until(
        lambda: [
            entry["message"]
            for entry in prefect.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}})
            if "Finished in state Completed()" in entry["message"]
        ]
    )
    assert logs
    host, _, pid = prefect.run(run_id)["infrastructure_pid"].rpartition(":")
    assert host == os.uname().nodename
    prefect.until(lambda: not prefect.alive(int(pid)))  # it ends after it has sent its last logs


def test_worker_and_fork_server_share_what_they_import(prefect: Prefect, steady_worker: Worker) -> None:
    assert prefect.ended(prefect.start("steady", "sample_flows.five"))["type"] == "COMPLETED"
    memory = steady_worker.fork_server.memory_full_info()
    assert memory.pss < 0.75 * memory.rss


def test_a_flow_that_raises_is_failed_and_the_worker_goes_on(prefect: Prefect, steady_worker: Worker) -> None:
    state = prefect.ended(prefect.start("steady", "sample_flows.broken"))
    assert state["type"] == "FAILED"
    assert "broken on purpose" in state["message"]
    assert prefect.ended(prefect.start("steady", "sample_flows.five"))["type"] == "COMPLETED"


def test_a_killed_run_is_crashed_at_once_and_what_it_started_dies(
    prefect: Prefect, steady_worker: Worker, tmp_path: Path
) -> None:
    run_id = prefect.start("steady", "sample_flows.sleeper", pids=str(tmp_path / "pids"))
    flow, program = prefect.started(tmp_path / "pids")
    assert os.getpgid(program) == os.getpgid(flow) == flow
    os.kill(flow, signal.SIGKILL)
    assert prefect.ended(run_id)["type"] == "CRASHED"  # the worker says so: the server would wait for ever
    prefect.until(lambda: not prefect.alive(program))


def test_a_cancelled_run_ends_with_what_it_started(prefect: Prefect, steady_worker: Worker, tmp_path: Path) -> None:
    run_id = prefect.start("steady", "sample_flows.sleeper", pids=str(tmp_path / "pids"))
    flow, program = prefect.started(tmp_path / "pids")
    prefect.until(lambda: prefect.state(run_id) == "RUNNING")
    prefect.cancel(run_id)
    assert prefect.ended(run_id)["type"] == "CANCELLED"
    prefect.until(lambda: not prefect.alive(flow) and not prefect.alive(program))


def test_a_dead_fork_server_takes_its_runs_along_and_the_next_run_has_a_new_one(
    prefect: Prefect, steady_worker: Worker, tmp_path: Path
) -> None:
    run_id = prefect.start("steady", "sample_flows.sleeper", pids=str(tmp_path / "pids"))
    flow, program = prefect.started(tmp_path / "pids")
    old = steady_worker.fork_server
    old.kill()
    assert prefect.ended(run_id)["type"] == "CRASHED"
    prefect.until(lambda: not prefect.alive(flow) and not prefect.alive(program))
    assert prefect.ended(prefect.start("steady", "sample_flows.five"))["type"] == "COMPLETED"
    assert steady_worker.fork_server.pid != old.pid


def test_a_stopping_worker_lets_its_run_finish(prefect: Prefect, start_worker: StartWorker, tmp_path: Path) -> None:
    worker, over = start_worker("finish", drain_seconds=600), tmp_path / "over"
    run_id = prefect.start("finish", "sample_flows.sleeper", pids=str(tmp_path / "pids"), over=str(over))
    prefect.started(tmp_path / "pids")
    worker.process.send_signal(signal.SIGTERM)
    # Until it says so it may rightly take what comes in the same moment.
    prefect.until(lambda: "worker draining" in worker.log.read_text(encoding="utf-8"))
    late = prefect.start("finish", "sample_flows.five")
    over.touch()
    assert worker.process.wait(PATIENCE) == 0
    assert prefect.state(run_id) == "COMPLETED"
    assert prefect.state(late) == "SCHEDULED", "a draining worker takes no more runs"


def test_a_stopping_worker_lets_go_of_a_run_that_takes_too_long(
    prefect: Prefect, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker("letgo", drain_seconds=1)
    run_id = prefect.start("letgo", "sample_flows.sleeper", pids=str(tmp_path / "pids"))
    flow, program = prefect.started(tmp_path / "pids")
    prefect.until(lambda: prefect.state(run_id) == "RUNNING")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(PATIENCE) == 0
    state = prefect.run(run_id)["state"]
    assert state["type"] == "CANCELLED"
    assert "goes back to the queue" in state["message"]
    assert not prefect.alive(flow)
    assert not prefect.alive(program)


def test_nothing_outlives_a_killed_worker(prefect: Prefect, start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker("killed")
    prefect.start("killed", "sample_flows.sleeper", pids=str(tmp_path / "pids"))
    flow, program = prefect.started(tmp_path / "pids")
    fork_server = worker.fork_server.pid
    worker.process.kill()
    prefect.until(lambda: not any(prefect.alive(pid) for pid in (flow, program, fork_server)))


def test_a_worker_whose_modules_do_not_load_says_so_and_ends(start_worker: StartWorker) -> None:
    worker = start_worker("nothing", preload="no_such_module")
    assert worker.process.wait(PATIENCE) != 0
    assert "No module named 'no_such_module'" in worker.log.read_text(encoding="utf-8")
    assert not psutil.pid_exists(worker.process.pid)
