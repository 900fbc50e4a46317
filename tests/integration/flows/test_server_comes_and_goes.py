"""A worker whose server is late, moves, or is gone when the worker must stop."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from ironclad.config import load
from ironclad_flows.environment import publish_url

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Prefect, StartServer, StartWorker

pytestmark = pytest.mark.slow
PATIENCE = 180.0


def test_a_worker_waits_for_a_late_server_and_leaves_without_one(
    prefect: Prefect, start_server: StartServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    environment = {"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_PREFECT__DATABASE": "sqlite"}
    worker = start_worker("late", environment=environment, drain_seconds=1)
    with start_server(environment) as server:
        run_id = server.prefect.start("late", "sample_flows.sleeper", pids=str(tmp_path / "pids"))
        flow, program = prefect.started(tmp_path / "pids")
        prefect.until(lambda: server.prefect.state(run_id) == "RUNNING")
        server.process.kill()
        server.process.wait(60)
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(PATIENCE)
    prefect.until(lambda: not prefect.alive(flow) and not prefect.alive(program))


def test_a_worker_ends_when_its_server_has_moved_so_that_a_new_one_follows(
    prefect: Prefect, start_worker: StartWorker, tmp_path: Path
) -> None:
    environment = {"IRONCLAD_DATA_DIR": str(tmp_path)}
    settings = load(environ={**environment, "IRONCLAD_PREFECT__PORT": "0"})
    publish_url(settings, prefect.url)
    worker = start_worker("moved", environment=environment)
    prefect.until(lambda: prefect.client.get("/work_pools/moved").is_success)
    publish_url(settings, "http://127.0.0.1:1/api")
    assert worker.process.wait(PATIENCE) != 0
    assert f"It has moved from {prefect.url} to http://127.0.0.1:1/api" in worker.log.read_text(encoding="utf-8")
