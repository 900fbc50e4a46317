"""The adapters: each kind of service started and stopped in the real runtime, and what they report."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from ironclad.errors import NotFound, PortInUse, PrefectUnavailable
from ironclad.ingest.watch import How, RootStatus
from ironclad.jobs.executor import RunState
from ironclad.ops import queue_metrics
from ironclad.ops.health import HealthBoard, Status
from ironclad.ops.service import ServiceRuntime
from ironclad.ops.services import registry
from ironclad.ops.services.dispatch_service import DispatchService, WatchedExecutor
from ironclad.ops.services.front_service import FrontService
from ironclad.ops.services.watch_service import WatchService, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings
    from ironclad.jobs.executor import FlowRequest
    from ironclad.ops.service import Service

    Until = Callable[[Callable[[], bool], str], None]

PATIENCE = 60.0


class Memory:
    """An executor that keeps runs in memory, and can be away."""

    def __init__(self) -> None:
        self.away = False
        self.prepared: list[dict[str, int]] = []

    def _answer(self) -> None:
        if self.away:
            raise PrefectUnavailable("no answer")

    def submit(self, request: FlowRequest) -> str:
        self._answer()
        return request.key

    def state(self, _run_id: str) -> RunState:
        self._answer()
        return RunState.WAITING

    def cancel(self, _run_id: str) -> None:
        self._answer()

    def abandon(self, _run_id: str, _reason: str) -> None:
        self._answer()

    def retire(self, active: frozenset[str]) -> int:
        self._answer()
        return len(active) * 0

    def set_paused(self, _pool: str, *, paused: bool) -> None:
        assert isinstance(paused, bool)
        self._answer()

    def prepare(self, pools: dict[str, int]) -> None:
        self._answer()
        self.prepared.append(pools)


class SlowFront:
    """A front that becomes ready after a while, and may lose and find its work."""

    def __init__(self) -> None:
        self.ready = False
        self.began = threading.Event()

    def run(self, stopping: threading.Event) -> None:
        self.began.set()
        stopping.wait()


class Running:
    """A service in the real runtime, in a thread."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self.runtime = ServiceRuntime(service.name, settings, heartbeat=False)
        self.entered = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(service,))
        self.thread.start()
        assert self.entered.wait(PATIENCE)

    def _run(self, service: Service) -> None:
        with self.runtime:
            self.entered.set()
            service.run(self.runtime)

    def stop(self) -> None:
        self.runtime.stop()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.mark.parametrize("times", [3])
def test_dispatch_started_and_stopped_many_times(settings: Settings, until: Until, times: int) -> None:
    executor = Memory()
    for _ in range(times):
        running = Running(DispatchService(lambda: executor), settings)
        until(lambda: running.runtime.health.ready, "readiness")  # noqa: B023 - used at once
        running.stop()
    assert executor.prepared == [{"cpu": 2}] * times


@pytest.mark.parametrize("times", [5])
def test_watch_started_and_stopped_many_times(settings: Settings, until: Until, times: int) -> None:
    for _ in range(times):
        running = Running(WatchService(), settings)
        until(lambda: running.runtime.health.ready, "readiness")  # noqa: B023 - used at once

        def names() -> set[str]:
            return {c.name for c in running.runtime.health.components()}  # noqa: B023 - likewise

        # What the service needs is looked at in a thread of its own, which readiness does not wait for.
        until(lambda: names() == {"root 1", "root 1 events", "storage", "file descriptors"}, "all components")
        running.stop()


def test_dispatch_says_when_prefect_is_away_and_back(
    settings: Settings, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Memory()
    executor.away = True
    running = Running(DispatchService(lambda: executor), settings)

    def prefect() -> str:
        return next((c.status.value for c in running.runtime.health.components() if c.name == "prefect"), "")

    until(lambda: prefect() == "degraded", "the component degraded")
    executor.away = False
    until(lambda: prefect() == "ok", "the component ok")
    monkeypatch.setattr(queue_metrics, "_TIMEOUT", "60s")  # a scrape goes without the queue after two
    text = httpx.get(f"{running.runtime.url}/metrics", timeout=PATIENCE).text
    assert 'ironclad_jobs{state="queued"} 0.0' in text
    assert "ironclad_disk_free_bytes " in text
    running.stop()


def test_a_front_is_ready_when_it_says_so(settings: Settings, until: Until) -> None:
    front = SlowFront()
    running = Running(FrontService("prefect", lambda: front, "a remedy"), settings)
    assert front.began.wait(PATIENCE)
    assert not running.runtime.health.ready
    front.ready = True
    until(lambda: running.runtime.health.ready, "readiness")
    running.stop()


def test_a_front_started_and_stopped_many_times_before_it_is_ready(settings: Settings) -> None:
    for _ in range(20):
        Running(FrontService("prefect", SlowFront, ""), settings).stop()


def test_what_a_front_raises_ends_the_service(settings: Settings) -> None:
    class Broken(SlowFront):
        def run(self, _stopping: threading.Event) -> None:
            raise PortInUse("127.0.0.1:1")

    with ServiceRuntime("prefect", settings, heartbeat=False) as runtime, pytest.raises(PortInUse):
        FrontService("prefect", Broken, "").run(runtime)


def test_an_executor_is_made_anew_when_it_is_prepared() -> None:
    made: list[Memory] = []

    def make() -> Memory:
        made.append(Memory())
        return made[-1]

    executor = WatchedExecutor(make, HealthBoard())
    executor.prepare({"cpu": 1})
    assert executor.state("x") is RunState.WAITING
    executor.set_paused("cpu", paused=True)
    executor.cancel("x")
    executor.abandon("x", "because")
    executor.prepare({"cpu": 2})
    assert [one.prepared for one in made] == [[{"cpu": 1}], [{"cpu": 2}]]


def test_roots_are_reported_one_by_one() -> None:
    board = HealthBoard()
    roots = [
        RootStatus("/a", How.EVENTS), RootStatus("/b", How.POLLING, "no events arrive"),
        RootStatus("/c", How.POLLING, "the setting says so"), RootStatus("/d", How.UNKNOWN, "it is not mounted"),
    ]  # fmt: skip
    report(board, roots, {"/c"})
    assert {component.name: component.status for component in board.components()} == {
        "root 1": Status.OK, "root 1 events": Status.OK, "root 2": Status.OK, "root 2 events": Status.DEGRADED,
        "root 3": Status.OK, "root 3 events": Status.OK, "root 4": Status.DEGRADED,
    }  # fmt: skip
    assert all(component.remedy for component in board.components() if component.status is not Status.OK)


def test_services_by_name(settings: Settings) -> None:
    names = ["watch", "dispatch", "prefect", "worker-cpu"]
    assert [registry.load(name, settings).name for name in names] == names
    for unknown in ("nonsense", "worker-gpu", "supervisor"):
        with pytest.raises(NotFound, match="worker-cpu"):
            registry.load(unknown, settings)
