"""The flow `maintenance`: deployed with a schedule, run by Prefect's scheduler and our worker, and then things go."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.config import Settings, load
from ironclad.ops.housekeeper import since_last
from ironclad_flows.executor import MAINTENANCE_ENTRYPOINT, PrefectExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Prefect, StartWorker

    from ironclad.db.session import Database

NAME = "/deployments/name/maintenance/maintenance"
POOL = "cpu"


@pytest.fixture(autouse=True)
def no_deployment(prefect: Prefect) -> Iterator[None]:
    """Its name is one for the whole server."""
    yield
    found = prefect.client.get(NAME)
    if found.is_success:
        prefect.client.delete(f"/deployments/{found.json()['id']}").raise_for_status()


def deployed(prefect: Prefect) -> dict[str, Any]:
    return dict(prefect.client.get(NAME).raise_for_status().json())


def scheduled(prefect: Prefect, state: str = "SCHEDULED") -> list[dict[str, Any]]:
    body = {
        "deployments": {"id": {"any_": [deployed(prefect)["id"]]}},
        "flow_runs": {"state": {"type": {"any_": [state]}}}, "limit": 50,
    }  # fmt: skip
    return list(prefect.post("/flow_runs/filter", body))


def test_it_is_deployed_with_its_schedule_and_left_alone_afterwards(prefect: Prefect) -> None:
    with PrefectExecutor(prefect.url, maintenance_seconds=86400.0) as executor:
        executor.prepare({"gpu": 1, POOL: 2})
        first = deployed(prefect)
        assert (first["work_pool_name"], first["entrypoint"]) == (POOL, MAINTENANCE_ENTRYPOINT)
        assert first["paused"] is False
        (schedule,) = first["schedules"]
        assert schedule["active"] is True
        assert schedule["schedule"]["interval"] == 86400.0
        prefect.client.patch(f"/deployments/{first['id']}", json={"paused": True}).raise_for_status()
        executor.prepare({"gpu": 1, POOL: 2})
        again = deployed(prefect)
        assert again["schedules"][0]["id"] == schedule["id"]
        assert again["paused"] is True  # an operator's wish
    with PrefectExecutor(prefect.url, maintenance_seconds=3600.0) as executor:
        executor.prepare({POOL: 2})
        assert [one["schedule"]["interval"] for one in deployed(prefect)["schedules"]] == [3600.0]


def test_prefects_scheduler_makes_its_runs_at_the_same_hour_whenever_it_is_deployed(prefect: Prefect) -> None:
    with PrefectExecutor(prefect.url, maintenance_seconds=86400.0) as executor:
        executor.prepare({POOL: 2})
    runs = prefect.until(lambda: scheduled(prefect) or None)
    assert all(run["auto_scheduled"] for run in runs)
    assert {run["expected_start_time"][11:19] for run in runs} == {"03:00:00"}


@pytest.fixture
def installation(prefect: Prefect, environment: dict[str, str]) -> Settings:
    environment |= {"IRONCLAD_PREFECT__API_URL": prefect.url, "IRONCLAD_PRUNE__EVERY_HOURS": str(2 / 3600)}
    settings = load(environ=environment)
    settings.layout.create()
    return settings


def test_a_scheduled_run_prunes(
    prefect: Prefect, installation: Settings, environment: dict[str, str], database: Database, start_worker: StartWorker
) -> None:
    old = installation.layout.orphaned / "20200101T000000-00000000"
    old.mkdir(parents=True)
    at = time.time() - 31 * 86400
    os.utime(old, (at, at))
    assert since_last(database) is None
    start_worker(POOL, preload=None, environment=environment)
    with PrefectExecutor.of(installation) as executor:
        executor.prepare({POOL: 1})
    prefect.until(lambda: not old.exists(), seconds=240)
    prefect.until(lambda: since_last(database) is not None)
    done = prefect.until(lambda: scheduled(prefect, "COMPLETED"))
    assert all(run["auto_scheduled"] for run in done)
