from __future__ import annotations

from typing import Any

from ironclad.config import load
from ironclad.db.embedded import EmbeddedServer
from ironclad.ops import plan


def planned(embedded: bool = True, **settings: Any) -> dict[str, plan.Unit]:  # noqa: FBT001, FBT002 - a test's helper
    loaded = load(settings, environ={"IRONCLAD_DATA_DIR": "/nonexistent"})
    server = EmbeddedServer(loaded.layout.postgres) if embedded else None
    return {unit.name: unit for unit in plan.units(loaded, server)}


def test_one_machine_with_everything_of_its_own() -> None:
    units = planned(pools={"cpu": {"slots": 1}, "gpu": {"slots": 1}})
    assert list(units) == ["postgres", "schema", "prefect", "watch", "dispatch", "worker-cpu", "worker-gpu"]
    assert units["postgres"].leaves is not None
    assert units["schema"].needs == ()  # it waits for the server by itself, so its imports cost no time
    assert units["prefect"].needs == ("postgres",)
    for name in ("watch", "dispatch", "worker-cpu", "worker-gpu"):
        assert set(units[name].needs) == {"postgres", "schema"}
    assert units["worker-gpu"].uses == units["dispatch"].uses == ("prefect",)
    assert units["worker-gpu"].command[-2:] == ("ironclad.ops.services", "worker-gpu")
    assert units["watch"].command[-2:] == ("ironclad.ops.services", "watch")


def test_a_server_and_a_prefect_of_the_operators_are_not_started() -> None:
    units = planned(embedded=False, prefect={"api_url": "http://prefect/api"})
    assert list(units) == ["schema", "watch", "dispatch", "worker-cpu"]
    assert units["worker-cpu"].needs == ("schema",)
    assert units["worker-cpu"].uses == ()


def test_the_notifier_is_started_when_there_is_somebody_to_tell() -> None:
    assert "notify" not in planned()
    unit = planned(notify={"channels": {"ops": {"url": "json://h/"}}})["notify"]
    assert unit.command[-2:] == ("ironclad.ops.services", "notify")
    assert set(unit.needs) == {"postgres", "schema"}


def test_the_api_is_started_when_the_settings_say_so() -> None:
    assert "api" not in planned()
    unit = planned(api={"enabled": True})["api"]
    assert unit.command[-2:] == ("ironclad.ops.services", "api")
    assert set(unit.needs) == {"postgres", "schema"}


def test_needs_come_before_those_who_need_them() -> None:
    seen: set[str] = set()
    for unit in planned().values():
        assert {*unit.needs, *unit.uses} <= seen
        seen.add(unit.name)
