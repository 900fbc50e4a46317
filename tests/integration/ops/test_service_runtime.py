"""The runtime around a service, in real processes: announcement, signals, notifications, exit codes, heartbeat."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from ironclad import processes
from ironclad.errors import AlreadyRunning, NotFound, PortInUse
from ironclad.ops import directory, heartbeat
from ironclad.ops import service as service_module
from ironclad.ops.notify_socket import NotifySocket
from ironclad.ops.sdnotify import sockaddr
from ironclad.ops.service import EXIT_CONFIG, EXIT_FAILURE, EXIT_TEMPORARY, SUPERVISOR_VARIABLE, ServiceRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.ops.directory import Announcement

    Until = Callable[[Callable[[], bool], str], None]
    Start = Callable[..., "Process"]

PATIENCE = 60.0
SCRIPT = str(Path(__file__).with_name("runtime_script.py"))


def fill(manager: NotifySocket) -> None:
    """Leave no room for a message: the kernel's default is eleven (net.unix.max_dgram_qlen)."""
    with (
        contextlib.suppress(BlockingIOError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as others,
    ):
        while True:
            others.sendto(b"STATUS=of another service", sockaddr(manager.address))


class Process:
    """A service in a process, and the manager's end of its notifications."""

    def __init__(self, settings: Settings, kind: str, *, full: bool = False, **environment: str) -> None:
        self.run = settings.layout.run
        self.socket = NotifySocket()
        if full:
            fill(self.socket)
        variables = {
            **os.environ,
            "IRONCLAD_DATA_DIR": str(settings.layout.root),
            "IRONCLAD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "IRONCLAD_SERVICES__BASE_PORT": "0",
            "NOTIFY_SOCKET": self.socket.address,
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, kind], env=variables, stdout=subprocess.PIPE, text=True, process_group=0
        )
        self.heard: dict[str, str] = {}

    def has(self, name: str, value: str) -> bool:
        for message in self.socket.receive():
            assert message.pid == self.process.pid
            self.heard.update(message.assignments)
        return self.heard.get(name) == value

    @property
    def announcement(self) -> Announcement:
        found = directory.find(self.run, "notify")
        assert found is not None
        return found

    def end(self) -> None:
        processes.signal_group(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.socket.close()

    def lines(self) -> list[dict[str, Any]]:
        out, _ = self.process.communicate(timeout=PATIENCE)
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def start(plain_settings: Settings) -> Iterator[Start]:
    """Starts services."""
    started: list[Process] = []

    def begin(kind: str, *, full: bool = False, **environment: str) -> Process:
        started.append(Process(plain_settings, kind, full=full, **environment))
        return started[-1]

    yield begin
    for one in started:
        one.end()


def test_life_of_a_service(start: Start, until: Until) -> None:
    service = start("steady")
    until(lambda: service.has("READY", "1"), "READY")
    announcement = service.announcement
    assert (announcement.pid, announcement.alive, announcement.supervisor) == (service.process.pid, True, None)
    assert httpx.get(f"{announcement.url}/health/live", timeout=PATIENCE).status_code == HTTPStatus.OK
    metrics = httpx.get(f"{announcement.url}/metrics", timeout=PATIENCE).text
    assert "ironclad_build_info{" in metrics
    assert "process_resident_memory_bytes" in metrics
    service.process.terminate()
    assert service.process.wait(PATIENCE) == 0
    assert service.has("STOPPING", "1")
    assert directory.find(service.run, "notify") is None


def test_not_ready_before_it_says_so(start: Start, until: Until) -> None:
    service = start("slow-start")
    until(lambda: service.has("STATUS", "thinking"), "its status")
    reply = httpx.get(f"{service.announcement.url}/health/ready", timeout=PATIENCE)
    assert reply.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert "READY" not in service.heard
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(PATIENCE) == 0


def test_a_second_signal_ends_it_at_once(start: Start, until: Until) -> None:
    service = start("stubborn")
    until(lambda: service.has("READY", "1"), "READY")
    service.process.terminate()
    until(lambda: service.has("STOPPING", "1"), "STOPPING")
    service.process.terminate()
    assert service.process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_signals_in_a_burst_from_a_dying_supervisor_are_one_request(start: Start, until: Until) -> None:
    """The kernel sends one for each thread of the supervisor, and all but the last before it is gone."""
    service = start("steady", **{SUPERVISOR_VARIABLE: str(os.getpid())})
    until(lambda: service.has("READY", "1"), "READY")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # of one kind, the kernel may keep only one
        os.kill(service.process.pid, number)
    assert service.process.wait(PATIENCE) == 0
    assert directory.find(service.run, "notify") is None


@pytest.mark.parametrize("kind", ["deaf", "borrowing"])
def test_a_signal_is_heard_whatever_the_main_thread_does(start: Start, until: Until, kind: str) -> None:
    service = start(kind)
    until(lambda: service.has("READY", "1"), "READY")
    service.process.terminate()
    lines = service.lines()
    assert service.process.returncode == 0
    assert [line["event"] for line in lines].count("stopping") == 1
    assert "stopping_at_once" not in {line["event"] for line in lines}


def test_the_watchdog_hears_from_it_unless_it_hangs(start: Start, until: Until) -> None:
    steady, hung = start("steady", WATCHDOG_USEC="200000"), None
    until(lambda: steady.has("WATCHDOG", "1"), "a sign of life")
    assert directory.find(steady.run, "notify") is not None
    steady.process.terminate()
    steady.process.wait(PATIENCE)
    hung = start("hung", WATCHDOG_USEC="400000")
    until(lambda: hung.has("READY", "1"), "READY")
    url = hung.announcement.url

    def not_live() -> bool:
        return httpx.get(f"{url}/health/live", timeout=PATIENCE).status_code == HTTPStatus.SERVICE_UNAVAILABLE

    def silent() -> bool:
        """Longer than two signs of life are apart; one that was decided before it hung may still be on its way."""
        hung.heard.clear()
        threading.Event().wait(0.6)  # silence is what is to be seen, so it takes its time
        return not hung.has("WATCHDOG", "1")

    until(not_live, "not live")
    until(silent, "its silence")


def test_being_ready_is_said_again_where_the_manager_had_no_room_to_hear_it(start: Start, until: Until) -> None:
    """Else it is killed as one that does not start, at work."""
    service = start("steady", full=True, WATCHDOG_USEC="200000")
    assert service.process.stdout is not None
    assert any(json.loads(line)["event"] == "service_ready" for line in service.process.stdout)
    list(service.socket.receive())
    until(lambda: service.has("READY", "1"), "READY")


@pytest.mark.parametrize(
    ("kind", "code", "event"),
    [
        ("config", EXIT_CONFIG, "service_failed"),
        ("dependency", EXIT_TEMPORARY, "service_failed"),
        ("other", EXIT_FAILURE, "service_failed"),
        ("bug", EXIT_FAILURE, "service_crashed"),
    ],
)
def test_exit_codes_tell_the_manager_what_to_do(start: Start, kind: str, code: int, event: str) -> None:
    service = start(kind)
    lines = service.lines()
    assert service.process.returncode == code
    assert event in {line["event"] for line in lines}
    assert {line["service"] for line in lines} == {"notify"}


def test_it_does_not_start_under_a_supervisor_that_is_dead_already(start: Start) -> None:
    service = start("steady", **{SUPERVISOR_VARIABLE: "1"})
    assert service.process.wait(PATIENCE) == EXIT_TEMPORARY


def test_orphaned_and_stubborn_it_ends_itself_with_what_it_started(
    plain_settings: Settings, until: Until, tmp_path: Path
) -> None:
    # A supervisor that starts it, says when it is ready, and is killed.
    script = tmp_path / "supervisor.py"
    script.write_text(
        "import os, subprocess, sys\n"
        f"env = {{**os.environ, {SUPERVISOR_VARIABLE!r}: str(os.getpid()), 'IRONCLAD_SERVICES__STOP_SECONDS': '0.2'}}\n"
        f"subprocess.Popen([sys.executable, {SCRIPT!r}, 'stubborn'], env=env, process_group=0).wait()\n"
    )
    environment = {
        **os.environ,
        "IRONCLAD_DATA_DIR": str(plain_settings.layout.root),
        "IRONCLAD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "IRONCLAD_SERVICES__BASE_PORT": "0",
    }
    supervisor = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)

    def found() -> Announcement | None:
        return directory.find(plain_settings.layout.run, "notify")

    until(lambda: found() is not None, "its announcement")
    announcement = found()
    assert announcement is not None
    assert announcement.supervisor == supervisor.pid

    def components() -> dict[str, str]:
        data = httpx.get(f"{announcement.url}/health", timeout=PATIENCE).json()
        return {component["name"]: component["detail"] for component in data["components"]}

    until(lambda: "grandchild" in components(), "what it starts")
    grandchild = int(components()["grandchild"])
    supervisor.kill()
    supervisor.wait()
    until(lambda: not announcement.alive, "its end")
    until(lambda: processes.identity(grandchild) is None, "the end of what it started")


# --- in this process -------------------------------------------------------------------------------------------------


def runtime(settings: Settings, **options: Any) -> ServiceRuntime:
    return ServiceRuntime("notify", settings, heartbeat=options.pop("heartbeat", False), **options)


def test_one_of_a_kind_on_a_data_folder(plain_settings: Settings) -> None:
    with runtime(plain_settings):
        second = runtime(plain_settings)
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            second.__enter__()
        with ServiceRuntime("api", plain_settings, heartbeat=False):
            pass
    with runtime(plain_settings):
        pass


def test_what_does_not_answer_while_a_service_starts_is_no_trouble_yet(
    plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runtime(plain_settings) as starts:
        monkeypatch.setattr(service_module, "_STARTING_SECONDS", 3600.0)
        assert starts._row().data["status"] == "ok"
        starts.health.failed("prefect api", "nobody listens")
        assert starts._row().data["status"] == "starting"
        assert not starts.health.ready
        monkeypatch.setattr(service_module, "_STARTING_SECONDS", 0.0)
        assert starts._row().data["status"] == "failed"
        monkeypatch.setattr(service_module, "_STARTING_SECONDS", 3600.0)
        starts.ready()
        assert starts._row().data["status"] == "failed"


def test_a_port_that_is_taken(plain_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        services = plain_settings.services.model_copy(update={"base_port": port - directory.OFFSETS["notify"]})
        busy = plain_settings.model_copy(update={"services": services})
        with pytest.raises(PortInUse, match=str(port)):
            runtime(busy).__enter__()
    with runtime(busy) as free:  # nothing of the failed start is left in the way
        assert free.url.endswith(str(port))


def test_an_unknown_service(plain_settings: Settings) -> None:
    with pytest.raises(NotFound, match="worker-cpu"):
        ServiceRuntime("nonsense", plain_settings, heartbeat=False).__enter__()


def test_its_row_is_written_kept_and_removed(
    settings: Settings, database: Database, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_CONNECT_SECONDS", 60)  # it gives up removing its row soon, on a busy machine, too

    def rows() -> list[Any]:
        with database.session() as session:
            return list(session.execute(sa.text("SELECT name, kind, pid, pool, data FROM worker")).all())

    service = ServiceRuntime("worker-cpu", settings, kind="worker", pool="cpu")
    service.facts["slots"] = 2
    with service:
        until(lambda: bool(rows()), "its row")
        (row,) = rows()
        assert row.name.startswith("worker-cpu@")
        assert (row.kind, row.pid, row.pool, row.data["slots"]) == ("worker", os.getpid(), "cpu", 2)
        until(lambda: [c.status for c in service.health.components()] == ["ok"], "the database's health")
    assert rows() == []


def test_a_dead_database_is_a_failed_component_and_no_failure(plain_settings: Settings, until: Until) -> None:
    with runtime(plain_settings, heartbeat=True) as service:
        service.ready()
        until(lambda: bool(service.health.components()), "the first beat")
        (component,) = service.health.components()
        assert (component.name, component.status) == ("database", "failed")
        assert component.remedy
        assert httpx.get(f"{service.url}/health/ready", timeout=PATIENCE).status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert httpx.get(f"{service.url}/health/live", timeout=PATIENCE).status_code == HTTPStatus.OK


def descriptors() -> set[str]:
    """What this process has open: each number, and what is behind it."""
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one of this very list
            found.add(f"{one.name} {one.readlink()}")
    return found


def test_started_and_stopped_twenty_times(settings: Settings, until: Until) -> None:
    # Threads that earlier tests left may end meanwhile, so it is asked what is new and not how many there are.
    threads, before = set(threading.enumerate()), descriptors()
    for _ in range(20):
        with runtime(settings, heartbeat=True) as service:
            service.ready()
            assert httpx.get(f"{service.url}/health/live", timeout=PATIENCE).status_code == HTTPStatus.OK
    until(lambda: set(threading.enumerate()) <= threads, "the end of its threads")
    until(lambda: descriptors() <= before, "the end of its descriptors")
