"""The fork server's loop with a plain function in place of a flow run; no Prefect."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 60.0

# What the server's children do is chosen by the request's environment.
SCRIPT = """
import errno, os, signal, socket, subprocess, sys, time
from ironclad_flows.forkserver import Server
from ironclad_flows.processes import become_subreaper

def announce(path, *pids):
    with open(path + ".new", "w") as file:
        file.write(" ".join(map(str, pids)))
    os.rename(path + ".new", path)

def run(environment):
    match environment["do"]:
        case "exit":
            os._exit(int(environment["code"]))
        case "raise":
            raise ValueError("of the child")
        case "sleep":
            program = subprocess.Popen(["sleep", "600"])
            announce(environment["path"], os.getpid(), program.pid)
            time.sleep(600)
        case "leave":
            program = subprocess.Popen(["sleep", "600"])
            announce(environment["path"], os.getpid(), program.pid)
            os._exit(0)
        case "detach":
            program = subprocess.Popen(["sleep", "600"], start_new_session=True)
            announce(environment["path"], os.getpid(), program.pid)
            os._exit(0)
        case "environment":
            os._exit(7 if os.environ.get("WHERE_PREFECT_IS") == "here" else 1)
        case "signals":
            handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
            os._exit(0 if set(handlers) == {signal.SIG_DFL} else 1)

real_fork = os.fork

def fork():
    # What the kernel says at TasksMax= of the unit, at pids.max of a container, or without memory.
    if os.environ.get("KERNEL") == "full":
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return real_fork()

os.fork = fork
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
become_subreaper()
Server(socket.socket(fileno=int(sys.argv[1])), run).serve()
"""


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def until(what: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Client:
    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        self.connection.settimeout(SECONDS)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stderr=subprocess.DEVNULL,
            )
        self.lines = self.connection.makefile("rb")
        self._asked = 0

    def ask(self, do: str, **more: str) -> None:
        self._asked += 1
        request = {"id": str(self._asked), "environment": {"do": do, **more}}
        self.connection.sendall(json.dumps(request).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        return dict(json.loads(self.lines.readline()))

    def renew(self, **environment: str) -> None:
        self.connection.sendall(json.dumps({"environment": environment}).encode() + b"\n")

    def start(self, do: str, **more: str) -> int:
        self.ask(do, **more)
        message = self.hear()
        assert (message["event"], message["id"]) == ("started", str(self._asked))
        return int(message["pid"])

    def hang_up(self) -> None:
        self.lines.close()
        self.connection.close()


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.hang_up()
    try:
        client.process.wait(SECONDS)  # it kills what is left of the runs, but not if it is killed itself
    finally:
        client.process.kill()
        client.process.wait(SECONDS)


def pids(path: Path) -> tuple[int, int]:
    until(path.exists)
    run, program = path.read_text(encoding="ascii").split()
    return int(run), int(program)


@pytest.mark.parametrize("code", [0, 1, 75])
def test_a_childs_exit_code_is_told(client: Client, code: int) -> None:
    pid = client.start("exit", code=str(code))
    assert client.hear() == {"event": "ended", "pid": pid, "code": code}


def test_a_child_that_raises_ends_with_1_and_the_server_goes_on(client: Client) -> None:
    pid = client.start("raise")
    assert client.hear() == {"event": "ended", "pid": pid, "code": 1}
    assert client.start("exit", code="0") != pid


def test_a_fork_that_the_kernel_refuses_is_told_and_costs_no_other_run(client: Client, tmp_path: Path) -> None:
    client.start("sleep", path=str(tmp_path / "pids"))
    run, _ = pids(tmp_path / "pids")
    client.renew(KERNEL="full")
    client.ask("exit", code="0")
    refused = client.hear()
    assert (refused["event"], refused["id"]) == ("refused", "2")
    assert "Resource temporarily unavailable" in refused["error"]
    client.renew(KERNEL="")
    pid = client.start("exit", code="3")
    assert client.hear() == {"event": "ended", "pid": pid, "code": 3}
    assert alive(run)


def test_children_see_what_the_servers_environment_has_become(client: Client) -> None:
    pid = client.start("environment")
    assert client.hear() == {"event": "ended", "pid": pid, "code": 1}
    client.renew(WHERE_PREFECT_IS="here")
    pid = client.start("environment")
    assert client.hear() == {"event": "ended", "pid": pid, "code": 7}


def test_many_at_once_are_all_told(client: Client) -> None:
    for _ in range(30):
        client.ask("exit", code="3")
    heard = [client.hear() for _ in range(60)]
    started = {message["pid"] for message in heard if message["event"] == "started"}
    ended = {message["pid"]: message["code"] for message in heard if message["event"] == "ended"}
    assert len(started) == 30
    assert ended == dict.fromkeys(started, 3)


def test_a_child_leads_a_group_and_is_told_by_its_signal(client: Client, tmp_path: Path) -> None:
    pid = client.start("sleep", path=str(tmp_path / "pids"))
    run, program = pids(tmp_path / "pids")
    assert run == pid == os.getpgid(pid) == os.getpgid(program)
    os.kill(pid, signal.SIGKILL)
    assert client.hear() == {"event": "ended", "pid": pid, "code": -signal.SIGKILL}
    until(lambda: not alive(program))


def test_what_is_left_of_a_finished_runs_group_is_killed(client: Client, tmp_path: Path) -> None:
    client.start("leave", path=str(tmp_path / "pids"))
    _, program = pids(tmp_path / "pids")
    assert client.hear()["code"] == 0
    until(lambda: not alive(program))


def test_what_left_the_group_outlives_the_run_but_not_the_worker(client: Client, tmp_path: Path) -> None:
    client.start("detach", path=str(tmp_path / "pids"))
    _, program = pids(tmp_path / "pids")
    assert client.hear()["code"] == 0
    assert alive(program)
    client.hang_up()
    assert client.process.wait(SECONDS) == 0
    assert not alive(program)


def test_hanging_up_kills_everything(client: Client, tmp_path: Path) -> None:
    client.start("sleep", path=str(tmp_path / "pids"))
    run, program = pids(tmp_path / "pids")
    client.hang_up()
    assert client.process.wait(SECONDS) == 0
    assert not alive(run)
    assert not alive(program)


def test_a_killed_server_takes_its_children_along(client: Client, tmp_path: Path) -> None:
    client.start("sleep", path=str(tmp_path / "pids"))
    run, program = pids(tmp_path / "pids")
    client.process.kill()
    until(lambda: not alive(run))
    os.kill(program, signal.SIGKILL)  # the worker's part, see `ForkServer`


def test_signals_for_the_group_do_not_end_the_server_and_children_get_them_back(client: Client) -> None:
    until(lambda: client.start("exit", code="0") and client.hear())
    client.process.send_signal(signal.SIGTERM)
    client.process.send_signal(signal.SIGINT)
    pid = client.start("signals")
    assert client.hear() == {"event": "ended", "pid": pid, "code": 0}
