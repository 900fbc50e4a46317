"""Nothing that an engine starts outlives its host, and no host outlives the process that uses it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from ironclad import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.engines.client import EngineHost
    from ironclad.engines.separation import SeparationRequest

    Start = Callable[..., EngineHost]
    Ask = Callable[..., SeparationRequest]


def assert_gone(pid: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:  # dead; whoever inherited it has yet to notice
                return
        except psutil.NoSuchProcess:
            return
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.mark.parametrize("what", ["fork", "session"])
def test_children_of_an_engine_end_with_its_host(host: Start, request_for: Ask, tmp_path: Path, what: str) -> None:
    engine = host("Forking")
    engine.separate(request_for(what=what, steps=1))
    child = int((tmp_path / "child.pid").read_text())
    assert psutil.pid_exists(child)
    engine.close()
    assert_gone(child)


@pytest.mark.parametrize("what", ["fork", "session"])
def test_a_host_that_dies_is_noticed_though_its_child_holds_the_pipe(
    host: Start, request_for: Ask, tmp_path: Path, what: str
) -> None:
    engine = host("Forking")
    with pytest.raises(errors.EngineDied, match="exit status 7"):
        engine.separate(request_for(what=what, steps=2))
    assert_gone(int((tmp_path / "child.pid").read_text()))


def test_a_host_lives_on_when_the_thread_that_started_it_ends(build: Start, request_for: Ask) -> None:
    engine = build("Echo")
    thread = threading.Thread(target=engine.start)
    thread.start()
    thread.join(60)
    assert engine.separate(request_for()).stems


USER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import rogue_specs
from ironclad.engines.client import EngineHost
from ironclad.engines.separation import HostSettings, SeparationRequest
host = EngineHost(rogue_specs.rogue_spec({engine!r}), settings=HostSettings(search_path=({rogues!r},))).start()
print(host.pid, flush=True)
host.separate(
    SeparationRequest(
        input=Path({mix!r}), frames=4410, channels=2, rate=44100, output=Path({out!r}),
        params=dict(what={what!r}, steps=1),
    ),
    progress=lambda _: print("working", flush=True),
)
"""


@pytest.mark.parametrize(("engine", "what"), [("Hanging", "value"), ("Hanging", "lock"), ("Forking", "fork")])
def test_a_host_dies_with_the_process_that_uses_it(request_for: Ask, tmp_path: Path, engine: str, what: str) -> None:
    here = Path(__file__).parent
    code = textwrap.dedent(USER).format(
        tests=str(here.parents[1] / "support"), rogues=str(here / "rogues"), engine=engine, what=what,
        mix=str(request_for().input), out=str(tmp_path / "out"),
    )  # fmt: skip
    if engine == "Forking":  # keep the user and the host alive after the separation
        code += "input()\n"
    environ = {**os.environ, "HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True
    ) as user:
        assert user.stdout is not None
        pid = int(user.stdout.readline())
        assert user.stdout.readline().strip() == "working"
        children = [pid]
        if engine == "Forking":
            marker = tmp_path / "child.pid"
            deadline = time.monotonic() + 60
            while not marker.exists() or not marker.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            children.append(int(marker.read_text()))
        user.kill()
        for child in children:
            assert_gone(child)
