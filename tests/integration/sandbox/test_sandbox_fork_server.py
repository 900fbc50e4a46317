"""The fork server: who shares it, who dies with whom, and what happens when it is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import structlog.testing

from ironclad import sandbox
from ironclad.errors import Cancelled, CorruptAudio, OutOfMemory, Unexpected
from ironclad.sandbox import SandboxLimits, nursery, parent

if TYPE_CHECKING:
    from collections.abc import Iterator

SELFTEST = "ironclad.sandbox.selftest:"
QUICK = SandboxLimits(cpu_seconds=20, wall_seconds=100)
LONG = SandboxLimits(cpu_seconds=20, wall_seconds=250, processes=1000)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[nursery.Nursery]:
    """A nursery of this test, and no other way to a child."""
    mine = nursery.Nursery()
    here = os.getpid()
    real = nursery.of_process
    monkeypatch.setattr(nursery, "of_process", lambda pid: mine if pid == here else real(pid))
    monkeypatch.setattr(parent, "_WAYS", (nursery.start,))
    yield mine
    mine.close()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(pid: int, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not alive(pid):
            return True
        time.sleep(0.01)
    return False


def described() -> dict[str, Any]:
    return sandbox.run(SELFTEST + "describe", {}, QUICK)


class Waiting:
    """An order that goes on until it is told to stop, in a thread of its own."""

    def __init__(self, pids: Path) -> None:
        self._pids = pids
        self._begun = threading.Event()
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self._begun.wait(100)
        self.leader, self.helper = map(int, pids.read_text(encoding="ascii").split())

    def _run(self) -> None:
        def check() -> None:
            if self.stop.is_set():
                raise Cancelled

        try:
            sandbox.run(
                SELFTEST + "wait", {"pids": str(self._pids)}, LONG, progress=lambda _: self._begun.set(), check=check
            )
        except BaseException as exc:  # noqa: BLE001 -- looked at by the test
            self.error = exc

    def end(self) -> BaseException | None:
        self.stop.set()
        self.thread.join(100)
        assert not self.thread.is_alive()
        return self.error


def test_all_orders_of_a_process_share_one(own: nursery.Nursery) -> None:
    first, second = described(), described()
    assert first["parent"] == second["parent"] == own.pid()
    assert first["pid"] != second["pid"]


def test_it_is_not_there_before_the_first_order(own: nursery.Nursery) -> None:
    assert own.pid() is None


def test_two_orders_run_at_once_and_know_nothing_of_each_other(own: nursery.Nursery, tmp_path: Path) -> None:
    one, two = Waiting(tmp_path / "one"), Waiting(tmp_path / "two")
    assert described()["descriptors"] == 4  # none of theirs
    assert isinstance(one.end(), Cancelled)
    assert ends(one.leader)
    assert ends(one.helper)
    assert alive(two.leader)
    assert alive(two.helper)
    assert isinstance(two.end(), Cancelled)
    assert ends(two.leader)
    assert ends(two.helper)


def test_killed_in_the_middle_it_takes_its_children_along_and_the_next_order_has_another(
    own: nursery.Nursery, tmp_path: Path
) -> None:
    waiting = Waiting(tmp_path / "pids")
    before = own.pid()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    waiting.thread.join(100)
    assert isinstance(waiting.error, OutOfMemory)
    assert ends(waiting.leader)
    assert ends(waiting.helper)
    assert described()["parent"] == own.pid() != before


def test_killed_between_orders_it_is_replaced(own: nursery.Nursery) -> None:
    before = described()["parent"]
    os.kill(before, signal.SIGKILL)
    assert ends(before)
    assert described()["parent"] != before


def test_after_a_crash_the_next_order_has_another_one_but_those_under_way_go_on(
    own: nursery.Nursery, tmp_path: Path
) -> None:
    waiting = Waiting(tmp_path / "pids")
    before = own.pid()
    assert before is not None
    with pytest.raises(CorruptAudio):
        sandbox.run(SELFTEST + "crash", {}, QUICK)
    assert described()["parent"] != before  # its addresses are others
    assert alive(before)
    assert alive(waiting.leader)
    assert isinstance(waiting.end(), Cancelled)
    assert ends(before)  # nothing is left for it to do


def test_where_none_can_be_started_children_are_started_directly(
    own: nursery.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(nursery, "of_process", lambda _: own)
    monkeypatch.setattr(nursery, "_MODULE", "ironclad.sandbox.no_such_module")
    with structlog.testing.capture_logs() as logged:
        assert [described()["parent"] for _ in range(2)] == [os.getpid()] * 2
    assert [entry["event"] for entry in logged] == ["sandbox_without_fork_server"]
    monkeypatch.undo()
    monkeypatch.setattr(nursery, "of_process", lambda _: own)
    assert described()["parent"] == os.getpid()  # it is not tried for ever


def test_one_that_cannot_be_started_once_is_started_again(
    own: nursery.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = nursery.Zygote
    modules = iter(["ironclad.sandbox.no_such_module", "ironclad.sandbox.zygote"])

    def start() -> nursery.Zygote:
        monkeypatch.setattr(nursery, "_MODULE", next(modules))
        return real()

    monkeypatch.setattr(nursery, "Zygote", start)
    monkeypatch.setattr(parent, "_WAYS", (nursery.start, nursery.start))
    assert described()["parent"] == own.pid()


def test_limits_count_from_the_fork(own: nursery.Nursery) -> None:
    with pytest.raises(Unexpected, match="KeyError"):  # what the fork server imports for it is what counts
        sandbox.run("ironclad.audio.decode_child:probe", {}, QUICK)
    pid = own.pid()
    assert pid is not None
    spent = psutil.Process(pid).cpu_times()
    assert described()["processor_seconds"] < spent.user + spent.system


def test_a_module_is_imported_once_for_all_children(own: nursery.Nursery) -> None:
    described()
    pid = own.pid()
    assert pid is not None
    maps = Path(f"/proc/{pid}/maps")
    assert "/av/" not in maps.read_text(encoding="utf-8")
    for _ in range(2):
        with pytest.raises(Unexpected, match="KeyError"):
            sandbox.run("ironclad.metadata.convert_child:main", {}, QUICK)
        assert "/av/" in maps.read_text(encoding="utf-8")


def test_it_ends_when_there_is_nothing_to_do_for_a_while(own: nursery.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery, "_IDLE_SECONDS", 0.3)
    # An order may come too late for so short a time, where the machine is busy; then the next one has it.
    monkeypatch.setattr(parent, "_WAYS", (nursery.start, nursery.start))
    before = described()["parent"]
    assert ends(before)
    assert described()["parent"] != before


USER = """
import os, sys
from ironclad import sandbox
print(sandbox.run("ironclad.sandbox.selftest:describe", {}, sandbox.SandboxLimits())["parent"], flush=True)
if sys.argv[1] == "wait":
    sandbox.run("ironclad.sandbox.selftest:wait", {"pids": sys.argv[2]}, sandbox.SandboxLimits(processes=1000))
elif sys.argv[1] == "idle":
    sys.stdin.read()
"""


def user(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", USER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def done(process: subprocess.Popen[str]) -> None:
    with process:
        process.wait(60)


def test_it_ends_with_the_process_that_uses_it() -> None:
    process, zygote = user("end")
    done(process)
    assert process.returncode == 0
    assert not alive(zygote)  # it was waited for


@pytest.mark.parametrize("doing", ["idle", "wait"])
def test_nothing_is_left_of_a_user_that_is_killed(doing: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    process, zygote = user(doing, str(pids))
    deadline = time.monotonic() + 60
    while doing == "wait" and not (pids.exists() and pids.read_text(encoding="ascii")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    done(process)
    assert ends(zygote)
    if doing == "wait":
        leader, helper = map(int, pids.read_text(encoding="ascii").split())
        assert ends(leader)
        assert ends(helper)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_fork_of_its_user_has_one_of_its_own(own: nursery.Nursery) -> None:
    before = described()["parent"]
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover -- measured in no process
        try:
            os.write(write, str(described()["parent"]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        other = int(answer.read())
    os.waitpid(pid, 0)
    assert other != before
    assert ends(other)
    assert described()["parent"] == before
