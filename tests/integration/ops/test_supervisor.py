"""The supervisor with small real services: order, restarts, stopping, and what a kill -9 leaves."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
import pytest

from ironclad import processes
from ironclad.errors import AlreadyRunning, PortInUse
from ironclad.ops import directory
from ironclad.ops.child import Backoff, UnitState
from ironclad.ops.plan import Unit
from ironclad.ops.supervisor import ServiceEvent, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Up

    from ironclad.config import Settings

    Tiny = Callable[..., Unit]
    Until = Callable[[Callable[[], bool], str], None]

PATIENCE = 60.0
TINY = str(Path(__file__).with_name("tiny_service.py"))
QUICK = Backoff(first_seconds=0.02, most_seconds=0.2, healthy_seconds=60.0, loop_after=3)
UP_SCRIPT = str(Path(__file__).with_name("up_script.py"))


def gone(pid: int) -> bool:
    return processes.identity(pid) is None


def test_starts_in_order_and_stops_in_reverse(up: Callable[..., Up], tmp_path: Path, tiny: Tiny) -> None:
    stops = tmp_path / "stops"
    running = up(
        tiny("first", "record-stop", stops),
        tiny("task", "task", task=True),
        tiny("second", "record-stop", stops, needs=("first", "task")),
        tiny("third", "record-stop", stops, needs=("second",)),
    )
    running.wait("supervisor", UnitState.READY)
    changes = [(event.name, event.state) for event in running.seen]
    for earlier, later in (("first", "second"), ("task", "second"), ("second", "third")):
        assert changes.index((earlier, UnitState.READY)) < changes.index((later, UnitState.STARTING))
    running.stop()
    assert running.error is None
    assert stops.read_text().split() == ["third", "second", "first"]


def test_independent_units_start_at_the_same_time(up: Callable[..., Up], tiny: Tiny) -> None:
    running = up(tiny("a", "never-ready"), tiny("b", "serve"))
    running.wait("b", UnitState.READY)
    assert ("a", UnitState.STARTING) in [(event.name, event.state) for event in running.seen]


@pytest.mark.parametrize("victim", ["a", "b", "c"])
def test_a_killed_service_is_started_again_and_the_others_go_on(up: Callable[..., Up], victim: str, tiny: Tiny) -> None:
    running = up(
        tiny("a", "serve"), tiny("b", "serve", needs=("a",)), tiny("c", "serve", needs=("b",)), backoff=QUICK
    )  # fmt: skip
    pids = {name: running.wait(name, UnitState.READY).pid for name in ("a", "b", "c")}
    killed = pids[victim]
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    event = running.wait(victim, UnitState.RESTARTING)
    assert event.detail == "killed by SIGKILL"
    again = running.wait(victim, UnitState.READY)
    assert again.starts == 2
    assert again.pid != killed
    others = {event.name for event in running.seen if event.state is UnitState.RESTARTING} - {victim}
    assert not others


def test_a_crash_loop_is_visible_and_does_not_stop_the_rest(up: Callable[..., Up], tmp_path: Path, tiny: Tiny) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    running = up(tiny("bad", "crash-while-file", flag), tiny("good", "serve"), backoff=QUICK)
    running.wait("good", UnitState.READY)
    running.wait("bad", UnitState.CRASH_LOOP)
    flag.unlink()
    running.wait("bad", UnitState.READY)
    running.wait("supervisor", UnitState.READY)


def test_the_end_of_the_output_comes_with_the_event_and_all_of_it_is_in_the_file(
    up: Callable[..., Up], plain_settings: Settings, tiny: Tiny
) -> None:
    running = up(tiny("bad", "crash"), backoff=QUICK)
    event = running.wait("bad", UnitState.RESTARTING)
    assert event.detail == "exit code 3: something broke"
    assert event.tail[-1] == "something broke"
    running.end()
    lines = [json.loads(line) for line in (plain_settings.layout.logs / "bad.jsonl").read_text().splitlines()]
    assert {"began", "something broke"} <= {line["event"] for line in lines}


def test_a_service_that_needs_an_operator_is_tried_rarely(up: Callable[..., Up], tiny: Tiny) -> None:
    running = up(tiny("bad", "config"), tiny("good", "serve"), backoff=replace(QUICK, most_seconds=600))
    event = running.wait("bad", UnitState.CRASH_LOOP)
    assert event.detail == "E_PORT_IN_USE: A port is taken. 127.0.0.1:1"
    assert event.starts == 1
    running.wait("good", UnitState.READY)


def test_a_task_that_needs_an_operator_ends_everything_with_its_error(up: Callable[..., Up], tiny: Tiny) -> None:
    running = up(tiny("good", "serve"), tiny("bad", "config", task=True))
    running.thread.join(PATIENCE)
    assert isinstance(running.error, PortInUse)
    assert running.error.detail == "127.0.0.1:1"


def test_a_program_that_does_not_exist_is_a_visible_failure(up: Callable[..., Up]) -> None:
    running = up(Unit("bad", ("/nonexistent/program",)), backoff=QUICK)
    assert "No such file" in running.wait("bad", UnitState.CRASH_LOOP).detail


def test_not_ready_in_time_is_killed_and_started_again(up: Callable[..., Up], tiny: Tiny) -> None:
    running = up(tiny("slow", "never-ready", start_seconds=0.3), backoff=QUICK)
    assert running.wait("slow", UnitState.RESTARTING).detail == "not ready after 0.3 s"
    assert running.wait("slow", UnitState.STARTING).starts == 2
    assert running.wait("slow", UnitState.RESTARTING).detail == "not ready after 0.6 s"  # it is given more time


def test_a_silent_service_is_killed_by_the_watchdog(up: Callable[..., Up], tiny: Tiny) -> None:
    running = up(tiny("hung", "stubborn", watchdog_seconds=0.3), backoff=QUICK)
    running.wait("hung", UnitState.READY)
    assert running.wait("hung", UnitState.RESTARTING).detail == "silent for 0.3 s"


@pytest.mark.parametrize("away_seconds", [0.0, 600.0])
def test_nobody_is_killed_for_the_silence_of_a_supervisor_that_did_not_run(
    up: Callable[..., Up], plain_settings: Settings, tiny: Tiny, away_seconds: float
) -> None:
    """Its terminal takes no output (Ctrl-S), or it was stopped (Ctrl-Z): what its services said meanwhile waits."""
    held, ready = threading.Event(), threading.Event()

    def hold(event: ServiceEvent) -> None:
        """Runs in the supervisor's thread, which hears nothing meanwhile."""
        if (event.name, event.state) == ("bad", UnitState.RESTARTING) and not held.is_set():
            held.set()
            assert ready.wait(PATIENCE)
            supervisor = running.supervisor
            assert select.select([supervisor._notify], [], [], PATIENCE)[0]
            for child in supervisor._children.values():
                if child.state in {UnitState.READY, UnitState.STARTING}:
                    child.deadline = time.monotonic() - away_seconds

    flag = plain_settings.layout.run / "flag"
    flag.touch()
    running = up(
        tiny("alive", "beat", watchdog_seconds=60.0), tiny("slow", "never-ready"),
        tiny("bad", "crash-while-file", flag, needs=("alive",)), backoff=QUICK, on_event=hold,
    )  # fmt: skip
    pid = running.wait("alive", UnitState.READY).pid
    assert held.wait(PATIENCE)
    flag.unlink()
    ready.set()
    running.wait("bad", UnitState.READY)
    running.stop()
    while not running.events.empty():
        running.seen.append(running.events.get())
    alive = [(event.state, event.pid) for event in running.seen if event.name == "alive"]
    assert (UnitState.READY, pid) in alive
    restarted = {event.name for event in running.seen if event.state is UnitState.RESTARTING} - {"bad"}
    assert restarted <= (set() if away_seconds else {"slow"})  # that one had said nothing


def test_what_a_task_left_running_is_watched(up: Callable[..., Up], tmp_path: Path, tiny: Tiny) -> None:
    file = tmp_path / "pid"

    def left() -> int | None:
        pid = int(file.read_text())
        return None if gone(pid) else pid

    running = up(tiny("daemon", "daemon", file, task=True, leaves=left), backoff=QUICK)
    first = running.wait("daemon", UnitState.READY).pid
    assert first == int(file.read_text())
    os.kill(first, signal.SIGKILL)
    assert running.wait("daemon", UnitState.RESTARTING).detail == "it died"
    second = running.wait("daemon", UnitState.READY).pid
    assert second is not None
    assert second != first
    running.stop()
    assert not gone(second)  # it is not ours to stop
    os.kill(second, signal.SIGKILL)


def test_what_a_killed_service_had_started_is_ended_with_it(
    up: Callable[..., Up], tmp_path: Path, tiny: Tiny, until: Until
) -> None:
    file = tmp_path / "pid"
    running = up(tiny("family", "family", file), backoff=QUICK)
    leader = running.wait("family", UnitState.READY).pid
    grandchild = int(file.read_text())
    assert leader is not None
    os.kill(leader, signal.SIGKILL)
    running.wait("family", UnitState.RESTARTING)
    until(lambda: gone(grandchild), "the grandchild's end")


def test_a_service_that_does_not_stop_is_killed_after_the_patience(
    up: Callable[..., Up], plain_settings: Settings, tiny: Tiny
) -> None:
    patience = plain_settings.services.model_copy(update={"stop_seconds": 0.2})
    running = up(tiny("stubborn", "stubborn"), settings=plain_settings.model_copy(update={"services": patience}))
    pid = running.wait("stubborn", UnitState.READY).pid
    running.stop()
    assert pid is not None
    assert gone(pid)


def test_kill_ends_everything_at_once(up: Callable[..., Up], tiny: Tiny) -> None:
    running = up(tiny("a", "stubborn"), tiny("b", "stubborn", needs=("a",)))
    pids = [running.wait(name, UnitState.READY).pid for name in ("a", "b")]
    running.end()
    assert all(pid is not None and gone(pid) for pid in pids)


def test_stopping_while_services_start(up: Callable[..., Up], tiny: Tiny) -> None:
    running = up(tiny("a", "never-ready"), tiny("b", "serve", needs=("a",)), tiny("c", "crash"))
    running.wait("a", UnitState.STARTING)
    running.stop()
    assert running.error is None
    states = {event.name: event.state for event in [*running.seen, *running.events.queue]}
    assert states == dict.fromkeys(("a", "b", "c", "supervisor"), UnitState.STOPPED)


def test_stopping_while_nothing_runs(up: Callable[..., Up], tiny: Tiny) -> None:
    long = Backoff(first_seconds=600, most_seconds=600)
    running = up(tiny("a", "crash"), tiny("b", "serve", needs=("a",)), tiny("c", "serve", uses=("b",)), backoff=long)
    running.wait("a", UnitState.RESTARTING)
    running.stop()
    assert running.error is None


def test_a_unit_before_what_it_needs_is_a_mistake(plain_settings: Settings, tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="a comes before"):
        Supervisor(plain_settings, units=(tiny("a", "serve", needs=("b",)), tiny("b", "serve")))


def test_a_second_up_names_the_first(up: Callable[..., Up], plain_settings: Settings, tiny: Tiny) -> None:
    first = up(tiny("a", "serve"))
    first.wait("supervisor", UnitState.READY)
    second = up(tiny("a", "serve"))
    second.thread.join(PATIENCE)
    assert isinstance(second.error, AlreadyRunning)
    assert str(os.getpid()) in second.error.detail
    first.stop()
    third = up(tiny("a", "serve"))
    third.wait("supervisor", UnitState.READY)


def test_its_endpoint_tells_how_everything_is(up: Callable[..., Up], plain_settings: Settings, tiny: Tiny) -> None:
    # The pause outlasts the test: a unit that starts again is no longer failed.
    patient = replace(QUICK, first_seconds=600, most_seconds=600, loop_after=1)
    running = up(tiny("good", "serve"), tiny("bad", "crash"), backoff=patient)
    running.wait("good", UnitState.READY)
    running.wait("bad", UnitState.CRASH_LOOP)
    announcement = directory.find(plain_settings.layout.run, "supervisor")
    assert announcement is not None
    reply = httpx.get(f"{announcement.url}/health", timeout=PATIENCE)
    assert reply.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    data = reply.json()
    assert data["ready"] is False
    assert {c["name"]: c["status"] for c in data["components"]} == {"good": "ok", "bad": "failed"}
    text = httpx.get(f"{announcement.url}/metrics", timeout=PATIENCE).text
    assert 'ironclad_supervised_up{service="good"} 1.0' in text
    assert 'ironclad_supervised_up{service="bad"} 0.0' in text
    running.stop()
    assert directory.find(plain_settings.layout.run, "supervisor") is None


class Script:
    """`up` in a process of its own."""

    def __init__(self, settings: Settings, *modes: str) -> None:
        environment = {
            **os.environ,
            "IRONCLAD_DATA_DIR": str(settings.layout.root),
            "IRONCLAD_SERVICES__BASE_PORT": "0",
            "IRONCLAD_SERVICES__STOP_SECONDS": "60",
            "IRONCLAD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        }
        self.process = subprocess.Popen(
            [sys.executable, UP_SCRIPT, *modes], stdout=subprocess.PIPE, text=True, env=environment
        )
        self.pids: set[int] = set()
        """Of the units that were ready; what such a one says of itself later comes with it again."""

    def wait(self, name: str, state: str) -> dict[str, object]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, object] = json.loads(line)
            if event.get("state") == "ready" and isinstance(event["pid"], int):
                self.pids.add(event["pid"])
            if (event.get("name"), event.get("state")) == (name, state):
                return event
        pytest.fail(f"up ended before {name} was {state}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_when_the_supervisor_is_killed_its_services_stop_and_the_next_up_starts(
    plain_settings: Settings, until: Until
) -> None:
    with Script(plain_settings, "serve", "serve", "runtime") as first:
        first.wait("supervisor", "ready")
        first.process.kill()
        first.process.wait()
        assert len(first.pids) == 3
        until(lambda: all(map(gone, first.pids)), "the services' end")
    # It stopped in good order, although nobody read its output any more.
    assert directory.find(plain_settings.layout.run, "notify") is None
    with Script(plain_settings, "serve", "serve") as second:
        second.wait("supervisor", "ready")
        second.process.terminate()
        assert second.process.wait(PATIENCE) == 0
        assert all(map(gone, second.pids))


def test_ctrl_c_stops_cleanly_and_a_second_one_at_once(plain_settings: Settings) -> None:
    with Script(plain_settings, "serve", "stubborn") as running:
        running.wait("supervisor", "ready")
        running.process.send_signal(signal.SIGINT)
        running.wait("u0", "stopped")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE) == 0
        assert all(map(gone, running.pids))


def test_killing_at_random_for_a_while_ends_in_everything_ready(up: Callable[..., Up], tiny: Tiny) -> None:
    names = ["a", "b", "c", "d"]
    running = up(*(tiny(name, "serve") for name in names), backoff=replace(QUICK, loop_after=1000))
    pids = {name: running.wait(name, UnitState.READY).pid for name in names}
    chooser = random.Random(7)  # noqa: S311 - which one is killed is no secret
    for _ in range(20):
        victim = chooser.choice(names)
        pid = pids[victim]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        running.wait(victim, UnitState.RESTARTING)
        pids[victim] = running.wait(victim, UnitState.READY).pid
    running.stop()
    assert all(pid is not None and gone(pid) for pid in pids.values())
