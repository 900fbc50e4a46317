"""The dispatcher, with an executor that keeps its runs in memory: bounds, order, losses, leadership, wake-ups."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ironclad.config import DispatchSettings, PoolSettings, Settings
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.errors import BadRequest, DatabaseUnavailable, DiskFull, PrefectRefused, PrefectUnavailable
from ironclad.jobs import control, dispatch, lease, pools, slots, submit
from ironclad.jobs.dispatch import Dispatcher
from ironclad.jobs.executor import Executor, FlowRequest, RunState
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

DEADLINE = 60.0


class MemoryExecutor:
    """Keeps flow runs in memory; its owner moves them on, takes it offline, and waits for what it is told."""

    def __init__(self) -> None:
        self.requests: list[FlowRequest] = []
        self.runs: dict[str, RunState] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.offline = False
        self.accept = 10**9
        self.asked: Callable[[str], None] = lambda _run: None
        self._by_key: dict[str, str] = {}
        self._changed = threading.Condition()

    def submit(self, request: FlowRequest) -> str:
        with self._changed:
            self._online()
            if len(self.requests) >= self.accept:
                raise PrefectUnavailable("full")
            run_id = self._by_key.setdefault(request.key, f"run-{len(self._by_key) + 1}")
            self.requests.append(request)
            self.runs.setdefault(run_id, RunState.WAITING)
            self._changed.notify_all()
            return run_id

    def state(self, run_id: str) -> RunState:
        self._online()
        found = self.runs.get(run_id, RunState.UNKNOWN)
        self.asked(run_id)
        return found

    def cancel(self, run_id: str) -> None:
        self._told("cancel", run_id)
        self.runs[run_id] = RunState.FINISHED

    def abandon(self, run_id: str, reason: str) -> None:
        self._told("abandon", run_id)
        assert reason
        self.runs[run_id] = RunState.FINISHED

    def retire(self, active: frozenset[str]) -> int:
        self._told("retire", active)
        return 0

    def set_paused(self, pool: str, *, paused: bool) -> None:
        self._told("set_paused", pool, paused)

    def prepare(self, pools: dict[str, int]) -> None:
        self._told("prepare", pools)

    def _online(self) -> None:
        if self.offline:
            raise PrefectUnavailable("offline")

    def _told(self, *call: Any) -> None:
        with self._changed:
            self._online()
            self.calls.append(call)
            self._changed.notify_all()

    def told(self, kind: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == kind]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is told that makes the condition true."""
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE), what


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def settings_of(bench: Any, tick: float = 30.0, unclaimed: float = 60.0, **pools: int) -> Settings:
    return bench.settings.model_copy(
        update={
            "dispatch": DispatchSettings(tick_seconds=tick, unclaimed_seconds=unclaimed),
            "pools": {name: PoolSettings(slots=slots) for name, slots in (pools or {"cpu": 2}).items()},
        }
    )


def declare(bench: Any, settings: Settings) -> None:
    with bench.session() as session:
        control.declare_pools(session, {name: pool.slots for name, pool in settings.pools.items()})


@pytest.fixture
def executor() -> MemoryExecutor:
    return MemoryExecutor()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(dispatch, "time", clock)
    return clock


@pytest.fixture
def dispatcher(bench: Any, executor: MemoryExecutor, clock: Clock) -> Dispatcher:
    """Two slots, so four jobs in flight; its owner calls `tick`."""
    as_protocol: Executor = executor  # the type checker's and reader's word that it is one
    settings = settings_of(bench)
    declare(bench, settings)
    return Dispatcher(bench.database, settings, as_protocol)


def dispatched(bench: Any) -> int:
    return int(bench.one("SELECT count(*) FROM job WHERE state = 'queued' AND dispatched_at IS NOT NULL"))


# --- what a tick does ------------------------------------------------------------------------------------------------


def test_a_job_becomes_a_flow_run(bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor) -> None:
    job = bench.job("queued")
    bench.rows("UPDATE job SET artist = 'Ana', title = 'Blue'")
    dispatcher.tick()
    row = bench.row(job)
    (request,) = executor.requests
    assert request == FlowRequest(
        job_uuid=job, attempt=1, stage="validate", pool="cpu", key=f"{job}:1:validate:1", name="Ana - Blue",
        tags=(f"job:{job}", "user:ana", f"trace:{row.trace_id}"),
    )  # fmt: skip
    assert (row.state, row.run_id, row.dispatch_seq, row.attempt) == ("queued", "run-1", 1, 0)
    assert row.dispatched_at is not None
    assert bench.events(job)[-1] == "dispatched"
    assert bench.claim(job, run_id="run-1").job.state == "running"


@pytest.mark.parametrize(("known", "name"), [({"title": "Blue"}, "Blue"), ({"artist": "Ana"}, "Ana"), ({}, None)])
def test_a_flow_run_is_named_by_what_is_known(
    bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor, known: dict[str, str], name: str | None
) -> None:
    job = bench.job("queued")
    bench.rows("UPDATE job SET artist = :artist, title = :title", **{"artist": None, "title": None, **known})
    dispatcher.tick()
    assert executor.requests[0].name == (name or str(job))


def test_few_runs_are_in_flight(bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor) -> None:
    bench.bulk(20)
    dispatcher.tick()
    assert (len(executor.requests), dispatched(bench)) == (4, 4)
    first = bench.claim(executor.requests[0].job_uuid)
    dispatcher.tick()
    assert len(executor.requests) == 4  # it runs, so it still takes a place
    with bench.session() as session:
        lease.finish(session, first.fence, JobState.SUCCEEDED, actor="w")
    dispatcher.tick()
    dispatcher.tick()
    assert (len(executor.requests), dispatched(bench)) == (5, 4)


def test_the_first_in_the_queue_goes_first(bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor) -> None:
    bench.bulk(50, user="ana")
    ben = bench.job("queued", user="ben")
    urgent = bench.job("queued", user="cleo", priority=9)
    dispatcher.tick()
    asked = [request.job_uuid for request in executor.requests]
    assert asked[0] == urgent
    assert ben in asked[1:3]


def test_each_pool_has_its_own_room(bench: Any, executor: MemoryExecutor) -> None:
    settings = settings_of(bench, cpu=2, gpu=1)
    declare(bench, settings)
    bench.bulk(10)
    bench.bulk(10, pool="gpu")
    bench.bulk(10, pool="inline-7")
    dispatcher = Dispatcher(bench.database, settings, executor)
    dispatcher.tick()
    assert [request.pool for request in executor.requests] == ["cpu"] * 4 + ["gpu"] * 2
    assert executor.told("prepare") == [({"cpu": 2, "gpu": 1},)]
    assert dispatcher.pools == {"cpu", "gpu"}
    assert dispatch.default_pool(settings, "gpu") == "cpu"


def test_slots_that_an_operator_changed_are_the_bound(
    bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor
) -> None:
    bench.bulk(20)
    with bench.session() as session:
        assert slots.change(session, "cpu", 1, actor="user:ana") == slots.Slots(1, changed=True)
    dispatcher.tick()
    assert len(executor.requests) == 1  # exactly: nothing waits at the executor for a worker with more slots
    with bench.session() as session:
        slots.change(session, "cpu", 7, actor="user:ana")
        control.declare_pools(session, {"cpu": 2})  # a dispatcher that starts
        assert slots.shown(session, "cpu") == slots.Slots(7, changed=True)
    dispatcher.tick()
    assert len(executor.requests) == 7
    with bench.session() as session:
        assert slots.change(session, "cpu", None, actor="user:ana") == slots.Slots(2, changed=False)
    dispatcher.tick()
    assert len(executor.requests) == 7  # what has been handed out stays
    bench.rows("UPDATE pool SET slots = 9")
    dispatcher.tick()
    assert bench.one("SELECT slots FROM pool") == 2


@pytest.mark.parametrize(("pool", "number"), [("cpu", 0), ("cpu", 5000), ("tpu", 1)])
def test_slots_that_cannot_be(bench: Any, pool: str, number: int) -> None:
    declare(bench, settings_of(bench))
    with bench.session() as session, pytest.raises(BadRequest):
        slots.change(session, pool, number, actor="user:ana")


def test_a_change_of_slots_wakes_the_dispatcher(bench: Any, executor: MemoryExecutor) -> None:
    settings = settings_of(bench, cpu=1)
    bench.bulk(20)
    stopping = threading.Event()
    thread = threading.Thread(target=Dispatcher(bench.database, settings, executor).run, args=(stopping, lambda: None))
    thread.start()
    try:
        executor.wait(lambda: len(executor.requests) == 2, "the first two")
        with bench.session() as session:
            slots.change(session, "cpu", 5, actor="user:ana")
        executor.wait(lambda: len(executor.requests) == 5, "as many as the operator said")
    finally:
        stopping.set()
        thread.join(DEADLINE)


def test_a_pause_reaches_the_executor_once(bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor) -> None:
    dispatcher.tick()
    assert executor.told("set_paused") == [("cpu", False)]  # whatever somebody set by hand before
    bench.job("queued")
    for paused in (True, False):
        with bench.session() as session:
            control.pause(session, "cpu", paused=paused, actor="user:ana")
        dispatcher.tick()
        dispatcher.tick()
        assert len(executor.requests) == (0 if paused else 1)
    assert executor.told("set_paused") == [("cpu", False), ("cpu", True), ("cpu", False)]


@pytest.mark.parametrize("switch", ["pipeline", "disk"])
def test_other_pauses_reach_it_too(bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor, switch: str) -> None:
    bench.job("queued")
    with bench.session() as session:
        control.set_switch(session, switch, {"paused": True, "low": True})
    dispatcher.tick()
    assert (executor.told("set_paused"), executor.requests) == ([("cpu", True)], [])


# --- the executor is away --------------------------------------------------------------------------------------------


def test_what_could_not_be_submitted_goes_back(
    bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor, clock: Clock
) -> None:
    bench.bulk(4)
    executor.accept = 1
    pause = dispatcher.tick()
    assert dispatched(bench) == 1
    assert pause <= 2.0
    assert bench.one("SELECT count(*) FROM job_event WHERE kind = 'undispatched'") == 3
    executor.accept = 100
    dispatcher.tick()
    assert len(executor.requests) == 1  # not yet asked again
    clock.now += 3
    dispatcher.tick()
    assert dispatched(bench) == 4
    assert len(executor.told("prepare")) == 2  # it may be another server, or one that lost its memory
    keys = [request.key for request in executor.requests]
    assert len(set(keys)) == 4
    assert sorted(key.rsplit(":", 1)[1] for key in keys) == ["1", "2", "2", "2"]


def test_nothing_is_dispatched_while_the_executor_is_away(
    bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor, clock: Clock
) -> None:
    bench.bulk(4)
    executor.offline = True
    for _ in range(5):
        dispatcher.tick()
        clock.now += 3
    assert bench.one("SELECT count(*) FROM job_event") == 0  # not even tried: a long outage leaves no trail of events
    executor.offline = False
    dispatcher.tick()
    assert dispatched(bench) == 4


def test_leases_are_reaped_while_the_executor_is_away(
    bench: Any, executor: MemoryExecutor, clock: Clock
) -> None:  # fmt: skip
    job = bench.job("queued")
    bench.claim(job, run_id="run-9")
    executor.offline = True
    dispatcher = Dispatcher(bench.later(31), settings_of(bench), executor)
    dispatcher.tick()
    assert bench.state(job) == "queued"
    clock.now += 3
    executor.offline = False
    dispatcher.tick()
    assert executor.told("abandon") == [("run-9",)]  # not forgotten meanwhile
    dispatcher.tick()
    assert executor.told("abandon") == [("run-9",)]


def test_a_due_retry_is_dispatched_in_the_same_tick(bench: Any, executor: MemoryExecutor, clock: Clock) -> None:
    job = bench.job("waiting_retry")
    Dispatcher(bench.later(60), settings_of(bench), executor).tick()
    (request,) = executor.requests
    assert (request.job_uuid, request.attempt) == (job, 2)


def test_an_attempt_whose_process_died_here_is_reaped_at_once(
    bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = bench.job("queued"), bench.job("queued")
    bench.claim(dead, run_id="run-dead")
    bench.claim(alive, run_id="run-alive")
    bench.rows("UPDATE attempt SET process = 'gone' WHERE job_uuid = :job", job=dead)
    monkeypatch.setattr("ironclad.processes.gone", lambda process: process == "gone")
    dispatcher.tick()
    assert (bench.state(dead), bench.state(alive)) == ("queued", "running")
    assert executor.told("abandon") == [("run-dead",)]
    assert bench.row(dead).error_code is None or bench.events(dead).count("claimed") == 1


@pytest.mark.parametrize("kind", ["abandon", "cancel"])
def test_a_run_that_cannot_be_ended_is_in_nobodys_way(
    bench: Any, executor: MemoryExecutor, clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stubborn = bench.job("queued")
    if kind == "abandon":
        bench.claim(stubborn, run_id="run-stubborn")
        other = bench.job("queued")
        bench.claim(other, run_id="run-other")
    else:
        with bench.session() as session:
            dispatch.pick(session, "cpu", 1)
        bench.rows("UPDATE job SET run_id = 'run-stubborn'")
        with bench.session() as session:
            control.cancel(session, stubborn, actor="user:ana")
    end = getattr(executor, kind)

    def refuse(run_id: str, *reason: str) -> None:
        if run_id == "run-stubborn":
            raise PrefectUnavailable("422")
        end(run_id, *reason)

    monkeypatch.setattr(executor, kind, refuse)
    new = bench.job("queued")
    dispatcher = Dispatcher(bench.later(31), settings_of(bench), executor)
    for _ in range(3):
        dispatcher.tick()
    assert new in {request.job_uuid for request in executor.requests}
    if kind == "abandon":
        assert executor.told("abandon") == [("run-other",)]


def test_an_attempt_that_went_on_while_its_process_was_looked_at_is_left_alone(
    bench: Any, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.job("queued")
    fence = bench.claim(job).fence

    def gone(_process: str) -> bool:
        with bench.session() as session:
            if bench.state(job) == "running" and bench.row(job).attempt == 1:
                lease.finish(session, fence, JobState.QUEUED, actor="w")
        return True

    monkeypatch.setattr("ironclad.processes.gone", gone)
    dispatcher.tick()
    assert "waiting_retry" not in bench.events(job)
    assert bench.row(job).failures == 0


# --- jobs that the executor refuses ----------------------------------------------------------------------------------


class Picky(MemoryExecutor):
    """Refuses what its owner says."""

    def __init__(self, refuses: Callable[[FlowRequest], bool]) -> None:
        super().__init__()
        self.refuses = refuses

    def submit(self, request: FlowRequest) -> str:
        if self.refuses(request):
            raise PrefectRefused("422 because")
        return super().submit(request)


def test_a_job_that_is_refused_fails_and_the_others_go_on(bench: Any, clock: Clock) -> None:
    bad = bench.job("queued", priority=9)  # it would be the first at every look
    good = [bench.job("queued") for _ in range(3)]
    executor = Picky(lambda request: request.job_uuid == bad)
    dispatcher = Dispatcher(bench.database, settings_of(bench), executor)
    dispatcher.tick()
    row = bench.row(bad)
    assert (row.state, row.error_code, row.run_id, row.dispatched_at) == ("failed", "E_PREFECT_REFUSED", None, None)
    assert "422 because" in row.error["detail"]
    assert row.finished_at is not None
    assert bench.events(bad)[-2:] == ["dispatched", "failed"]
    assert {request.job_uuid for request in executor.requests} == set(good)

    executor.refuses = lambda _request: False
    with bench.session() as session:
        control.retry(session, bad, actor="user:ana", pools=frozenset({"cpu"}))
    dispatcher.tick()
    assert executor.requests[-1].job_uuid == bad
    assert bench.row(bad).error_code is None or bench.claim(bad).job.error_code is None


def test_an_executor_that_refuses_everything_fails_three_jobs_not_the_queue(bench: Any, clock: Clock) -> None:
    bench.bulk(20)
    executor = Picky(lambda _request: True)
    dispatcher = Dispatcher(bench.database, settings_of(bench), executor)
    for _ in range(20):
        dispatcher.tick()
        clock.now += 3
    assert bench.one("SELECT count(*) FROM job WHERE state = 'failed'") == 3
    assert dispatched(bench) == 0
    clock.now += 600
    dispatcher.tick()
    assert bench.one("SELECT count(*) FROM job WHERE state = 'failed'") == 6
    executor.refuses = lambda _request: False
    clock.now += 3
    dispatcher.tick()
    assert dispatched(bench) == 4


def test_refusals_now_and_then_are_the_jobs_own(bench: Any, clock: Clock) -> None:
    jobs = [bench.job("queued") for _ in range(16)]
    executor = Picky(lambda request: jobs.index(request.job_uuid) % 2 == 0)
    dispatcher = Dispatcher(bench.database, settings_of(bench, cpu=20), executor)
    dispatcher.tick()
    assert [bench.state(job) for job in jobs] == ["failed", "queued"] * 8


def test_a_job_cancelled_while_it_is_refused_stays_cancelled(bench: Any, clock: Clock) -> None:
    job = bench.job("queued")

    def refuse(_request: FlowRequest) -> bool:
        with bench.session() as session:
            control.cancel(session, job, actor="user:ana")
        return True

    Dispatcher(bench.database, settings_of(bench), Picky(refuse)).tick()
    assert bench.state(job) == "cancelled"


# --- a pool that was taken out of the settings -----------------------------------------------------------------------


def test_its_jobs_go_where_new_ones_go(bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor) -> None:
    job = bench.job("queued")
    with bench.session() as session:
        pools.declare(session, {"cpu": 2, "gpu": 1})
    bench.rows("UPDATE job SET pool = 'gpu', dispatched_at = ironclad_now(), run_id = 'run-old'")
    executor.runs["run-old"] = RunState.WAITING
    dispatcher.tick()
    assert [(request.job_uuid, request.pool) for request in executor.requests] == [(job, "cpu")]
    assert executor.told("abandon") == [("run-old",)]


# --- flow runs that nobody claims ------------------------------------------------------------------------------------


def unclaimed(bench: Any, executor: MemoryExecutor, state: RunState | None) -> tuple[UUID, Dispatcher]:
    """A job whose flow run came into `state` (None: is unknown) without claiming; the dispatcher an hour later."""
    settings = settings_of(bench)
    declare(bench, settings)
    job = bench.job("queued")
    Dispatcher(bench.database, settings, executor).tick()
    if state is None:
        executor.runs.clear()
    else:
        executor.runs["run-1"] = state
    return job, Dispatcher(bench.later(3600), settings, executor)


@pytest.mark.parametrize("state", [RunState.FINISHED, None])
def test_a_lost_flow_run_is_made_anew(
    bench: Any, executor: MemoryExecutor, clock: Clock, state: RunState | None
) -> None:
    job, dispatcher = unclaimed(bench, executor, state)
    dispatcher.tick()
    assert bench.row(job).dispatched_at is None
    dispatcher.tick()
    assert [request.key for request in executor.requests] == [f"{job}:1:validate:1", f"{job}:1:validate:2"]
    assert bench.row(job).run_id == "run-2"
    assert executor.told("abandon") == []


def test_a_waiting_flow_run_is_left_in_peace(bench: Any, executor: MemoryExecutor, clock: Clock) -> None:
    job, dispatcher = unclaimed(bench, executor, RunState.WAITING)
    for _ in range(3):
        dispatcher.tick()
        clock.now += 1000
    assert (bench.row(job).run_id, executor.told("abandon")) == ("run-1", [])


def test_a_run_that_has_only_just_started_is_not_abandoned(bench: Any, executor: MemoryExecutor, clock: Clock) -> None:
    job, dispatcher = unclaimed(bench, executor, RunState.RUNNING)
    dispatcher.tick()
    clock.now += 31
    dispatcher.tick()
    assert (bench.row(job).run_id, executor.told("abandon")) == ("run-1", [])
    clock.now += 31  # running for 62 s now, without having claimed
    dispatcher.tick()
    assert executor.told("abandon") == [("run-1",)]
    assert bench.row(job).dispatched_at is None


def test_a_slow_start_is_counted_anew_after_a_wait(bench: Any, executor: MemoryExecutor, clock: Clock) -> None:
    job, dispatcher = unclaimed(bench, executor, RunState.RUNNING)
    for state in (RunState.RUNNING, RunState.WAITING, RunState.RUNNING):
        executor.runs["run-1"] = state
        dispatcher.tick()
        clock.now += 50
    assert (bench.row(job).run_id, executor.told("abandon")) == ("run-1", [])


def test_the_executor_is_not_asked_at_every_wake_up(bench: Any, executor: MemoryExecutor, clock: Clock) -> None:
    _, dispatcher = unclaimed(bench, executor, RunState.WAITING)
    asked: list[str] = []
    executor.asked = asked.append
    for _ in range(5):
        dispatcher.tick()
    assert asked == ["run-1"]
    clock.now += 31
    dispatcher.tick()
    assert asked == ["run-1", "run-1"]


def test_a_job_claimed_while_the_executor_was_asked_is_not_taken_back(
    bench: Any, executor: MemoryExecutor, clock: Clock
) -> None:
    job, dispatcher = unclaimed(bench, executor, RunState.FINISHED)
    executor.asked = lambda _run: bench.claim(job)
    dispatcher.tick()
    assert bench.state(job) == "running"


def test_a_job_dispatched_anew_while_the_executor_was_asked_keeps_its_dispatch(
    bench: Any, executor: MemoryExecutor, clock: Clock
) -> None:
    job, dispatcher = unclaimed(bench, executor, RunState.FINISHED)

    def meanwhile(_run: str) -> None:
        fence = bench.claim(job).fence
        with bench.session() as session:
            lease.finish(session, fence, JobState.QUEUED, actor="w")
        with bench.session() as session:
            dispatch.pick(session, "cpu", 1)

    executor.asked = meanwhile
    dispatcher.tick()
    row = bench.row(job)
    assert (row.dispatch_seq, row.attempt) == (2, 1)
    assert row.dispatched_at is not None


def test_the_run_of_a_cancelled_job_is_cancelled(bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor) -> None:
    job = bench.job("queued")
    dispatcher.tick()
    with bench.session() as session:
        control.cancel(session, job, actor="user:ana")
    dispatcher.tick()
    dispatcher.tick()
    assert executor.told("cancel") == [("run-1",)]
    assert bench.row(job).dispatched_at is None


def test_a_job_cancelled_while_its_run_was_made_is_withdrawn_too(
    bench: Any, dispatcher: Dispatcher, executor: MemoryExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.job("queued")
    make = executor.submit

    def submit_slowly(request: FlowRequest) -> str:
        with bench.session() as session:
            control.cancel(session, job, actor="user:ana")
        return make(request)

    monkeypatch.setattr(executor, "submit", submit_slowly)
    dispatcher.tick()
    dispatcher.tick()
    assert executor.told("cancel") == [("run-1",)]


# --- the loop --------------------------------------------------------------------------------------------------------


class Running:
    """A dispatcher in a thread."""

    def __init__(self, database: Database, settings: Settings, housekeeping: Callable[[], None] = lambda: None) -> None:
        self.executor = MemoryExecutor()
        self.ready = threading.Event()
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self._dispatcher = Dispatcher(database, settings, self.executor, housekeeping)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._dispatcher.run(self.stopping, self.ready.set)
        except BaseException as exc:  # noqa: BLE001 - looked at by `stop`
            self.error = exc

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error

    def submitted(self, count: int) -> None:
        self.executor.wait(lambda: len(self.executor.requests) >= count, f"{count} flow runs")

    def leads(self) -> None:
        self.executor.wait(lambda: bool(self.executor.told("set_paused")), "leadership")


@pytest.fixture
def start(bench: Any) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def begin(database: Database | None = None, **more: Any) -> Running:
        housekeeping = more.pop("housekeeping", lambda: None)
        made.append(Running(database or bench.database, settings_of(bench, **more), housekeeping))
        return made[-1]

    yield begin
    for running in made:
        running.stop()


def listening(bench: Any, count: int = 1) -> None:
    """Wait until so many dispatchers listen: from then on no notice is missed."""
    ears = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ironclad-feed' "
        "AND datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'"
    )
    deadline = time.monotonic() + DEADLINE
    while bench.one(ears) < count:
        assert time.monotonic() < deadline
        bench.one("SELECT pg_sleep(0.02)")


def test_a_new_job_is_dispatched_well_before_the_tick(bench: Any, start: Callable[..., Running]) -> None:
    running = start(tick=600)
    running.leads()
    listening(bench)
    bench.job("queued")
    running.submitted(1)
    assert DEADLINE < 600


def test_many_free_slots_are_filled_without_waiting_for_the_tick(bench: Any, start: Callable[..., Running]) -> None:
    for _ in range(110):
        bench.job("queued")
    start(tick=600, cpu=100).submitted(110)


def test_everything_that_makes_room_wakes_it(bench: Any, start: Callable[..., Running]) -> None:
    running = start(tick=600, cpu=1)
    running.leads()
    listening(bench)
    with bench.session() as session:
        control.pause(session, None, paused=True, actor="u")
    running.executor.wait(lambda: ("cpu", True) in running.executor.told("set_paused"), "the pause")
    jobs = [bench.job("queued") for _ in range(3)]
    with bench.session() as session:
        control.hold(session, jobs[0], held=True, actor="u")
        control.pause(session, None, paused=False, actor="u")
    running.submitted(2)  # the room of one slot
    fence = bench.claim(jobs[1]).fence
    with bench.session() as session:
        lease.finish(session, fence, JobState.SUCCEEDED, actor="w")
    with bench.session() as session:
        control.hold(session, jobs[0], held=False, actor="u")
    running.submitted(3)
    fence = bench.claim(jobs[2]).fence
    with bench.session() as session:
        lease.finish(session, fence, JobState.FAILED, actor="w", error=DiskFull("x"))
    with bench.session() as session:
        control.retry(session, jobs[1], actor="u", pools=frozenset({"cpu"}))
    running.submitted(4)
    assert [request.job_uuid for request in running.executor.requests] == [jobs[1], jobs[2], jobs[0], jobs[1]]


def test_one_of_two_leads_and_the_other_takes_over(bench: Any, start: Callable[..., Running]) -> None:
    first = start(tick=0.5)
    first.leads()
    second = start(tick=0.5)
    assert second.ready.wait(DEADLINE)  # standing by is being ready
    bench.job("queued")
    first.submitted(1)
    assert second.executor.calls == []
    leader = (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = :key "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    pid = bench.one(leader, key=dispatch._LEADER)
    first.executor.offline = True  # should it get the lead back, it can do nothing
    first.stopping.set()
    bench.one("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
    second.leads()
    bench.job("queued")
    second.submitted(1)
    assert bench.one(leader, key=dispatch._LEADER) != pid


def test_a_leader_that_lost_its_connection_comes_back(bench: Any, start: Callable[..., Running]) -> None:
    running = start(tick=0.5)
    running.leads()
    bench.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name <> 'janitor' AND pid <> pg_backend_pid()"
    )
    bench.job("queued")
    running.submitted(1)


def test_what_a_dead_dispatcher_left_is_put_right(bench: Any, start: Callable[..., Running]) -> None:
    half_made = bench.job("queued")
    with bench.session() as session:
        dispatch.pick(session, "cpu", 1)  # marked, and then it died
    lost = bench.job("queued")
    bench.claim(lost, run_id="run-lost")
    bench.reap(after=31)  # reaped, and then it died
    running = start(tick=600)
    running.submitted(2)
    assert {request.job_uuid for request in running.executor.requests} == {half_made, lost}
    assert next(r.key for r in running.executor.requests if r.job_uuid == half_made).endswith(":2")
    assert running.executor.told("abandon") == [("run-lost",)]


@pytest.mark.parametrize("error", [DiskFull("no room for the sweep"), OSError(errno.EIO, "the disk is away")])
def test_housekeeping_is_done_and_may_fail(bench: Any, start: Callable[..., Running], error: Exception) -> None:
    done = threading.Semaphore(0)

    def sweep() -> None:
        done.release()
        raise error

    running = start(tick=0.1, housekeeping=sweep)
    for _ in range(3):
        assert done.acquire(timeout=DEADLINE)
    bench.job("queued")
    running.submitted(1)


def test_housekeeping_without_a_database_begins_again(bench: Any, start: Callable[..., Running]) -> None:
    outcomes = iter([DatabaseUnavailable("gone")])

    def sweep() -> None:
        for error in outcomes:
            raise error

    running = start(tick=0.1, housekeeping=sweep)
    bench.job("queued")
    running.submitted(1)


def test_it_stops_when_told(bench: Any, start: Callable[..., Running]) -> None:
    leader = start(tick=600)
    leader.leads()
    standby = start(tick=600)
    assert standby.ready.wait(DEADLINE)
    leader.stop()  # within a deadline that is far shorter than the tick
    standby.stop()


def test_the_pause_is_never_longer_than_the_tick_nor_none(bench: Any, executor: MemoryExecutor) -> None:
    jobs = bench.settings.jobs.model_copy(update={"backoff_seconds": 600.0})  # so that none comes due meanwhile
    bench.settings = bench.settings.model_copy(update={"jobs": jobs})
    settings = settings_of(bench, tick=3.0)
    assert Dispatcher(bench.database, settings, executor).tick() == 3.0
    bench.job("waiting_retry")
    assert 0 < Dispatcher(bench.database, settings, executor).tick() <= 2.0
    executor.offline = True
    assert 0.05 <= Dispatcher(bench.database, settings, executor).tick() <= 2.0


# --- the database goes away ------------------------------------------------------------------------------------------


@pytest.fixture
def restartable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedServer, Database]]:
    """A server of this test's own, and a database on it."""
    server = EmbeddedServer(tmp_path_factory.mktemp("restart") / "postgres", {"fsync": "off"})
    server.start()
    database = Database(server.url())
    schema.upgrade(database)
    yield server, database
    database.close()
    server.release()
    server.stop()


def put(database: Database, bench: Any) -> None:
    new = bench.new()
    with database.session() as session:
        job = submit.receive(session, new, bench.settings).job_uuid
        submit.claimed(session, job, new.source.name)


def test_a_restart_of_the_server_is_survived(
    bench: Any, restartable: tuple[EmbeddedServer, Database], start: Callable[..., Running]
) -> None:
    # In this order: the dispatcher is stopped before its database goes for good.
    server, database = restartable
    running = start(database, tick=0.5)
    put(database, bench)
    running.submitted(1)
    for number in (2, 3):
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(database.dsn)
        server.start()
        put(database, bench)
        running.submitted(number)
    assert running.thread.is_alive()
