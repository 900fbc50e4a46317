"""The limits are real: each is driven into by a child that misbehaves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ironclad import sandbox
from ironclad.errors import (
    Cancelled,
    CorruptAudio,
    DecodedTooLarge,
    DecodeLimit,
    LeaseLost,
    OutOfMemory,
    TooLong,
    Unexpected,
)
from ironclad.sandbox import SandboxLimits, nursery, parent
from ironclad.sandbox.direct import DirectChild

SELFTEST = "ironclad.sandbox.selftest:"
QUICK = SandboxLimits(cpu_seconds=20, wall_seconds=100)
WAYS: dict[str, tuple[Any, ...]] = {"forked": (nursery.start, nursery.start), "direct": (DirectChild,)}
"""A fork server that has had nothing to do for long may be ending just when an order comes: the next one has it."""


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How children are started: in one way only, so that none hides what another cannot do."""
    monkeypatch.setattr(parent, "_WAYS", WAYS[request.param])
    return str(request.param)


def gone(pid: int, seconds: float = 60.0) -> bool:
    """Whether the process ends (a zombie counts as ended) within a bounded time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_request_progress_and_result_cross_and_prints_do_not() -> None:
    seen: list[float] = []
    request = {"text": "Motörhead \U0001f3b8\n", "list": [1, 2.5, None]}
    assert sandbox.run(SELFTEST + "echo", request, QUICK, progress=seen.append) == request
    assert seen == [0.5, 1.0]


def test_a_large_request_crosses() -> None:
    request = {"text": "x" * (1 << 20)}
    assert sandbox.run(SELFTEST + "echo", request, QUICK) == request


def test_the_child_is_confined(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    limits = SandboxLimits(
        cpu_seconds=7, wall_seconds=100, memory_bytes=900 << 20, file_bytes=1 << 20, open_files=33, processes=1
    )
    told = sandbox.run(SELFTEST + "describe", {}, limits)
    assert told["limits"] == {"AS": 900 << 20, "CPU": 7, "FSIZE": 1 << 20, "NOFILE": 33, "NPROC": 1, "CORE": 0}
    assert "SECRET_TOKEN" not in told["environment"]
    assert told["isolated"] == 1
    assert told["no_new_privs"]
    assert told["own_group"]
    assert told["dumpable"] == 0
    if way == "forked":
        assert told["descriptors"] == 4  # the standard ones and the replies
    assert told["folder"] == "/"
    if len(socket.if_nameindex()) > 1:  # otherwise there is nothing to be cut off from
        assert told["interfaces"] in ([], ["lo"])


def test_memory_is_limited() -> None:
    with pytest.raises(DecodeLimit, match="memory"):
        sandbox.run(SELFTEST + "allocate", {"bytes": 1 << 30}, SandboxLimits(memory_bytes=512 << 20))
    small = sandbox.run(SELFTEST + "allocate", {"bytes": 1 << 20}, SandboxLimits(memory_bytes=512 << 20))
    assert small == {"length": 1 << 20}


def test_processor_time_is_limited() -> None:
    with pytest.raises(DecodeLimit, match="processor time"):
        sandbox.run(SELFTEST + "spin", {}, SandboxLimits(cpu_seconds=1, wall_seconds=100))


def test_file_size_is_limited(tmp_path: Path) -> None:
    out = tmp_path / "big"
    with pytest.raises(DecodedTooLarge):
        sandbox.run(SELFTEST + "write", {"path": str(out)}, SandboxLimits(file_bytes=3 << 20))
    assert out.stat().st_size <= 3 << 20


def test_the_clock_is_limited_and_the_whole_group_dies(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    begun: list[float] = []
    for seconds in (1.0, 10.0, 40.0):  # more where the child had no time to begin
        limits = SandboxLimits(wall_seconds=seconds, processes=1000)
        with pytest.raises(DecodeLimit, match="on the clock"):
            sandbox.run(SELFTEST + "wait", {"pids": str(pids)}, limits, progress=begun.append)
        if begun:
            break
    leader, helper = map(int, pids.read_text(encoding="ascii").split())
    assert gone(leader)
    assert gone(helper)


@pytest.mark.parametrize("error", [Cancelled, LeaseLost])
def test_what_check_raises_kills_the_group_at_once(tmp_path: Path, error: type[Exception]) -> None:
    pids = tmp_path / "pids"
    asked: list[float] = []
    working = threading.Event()

    def check() -> None:
        if working.is_set():
            asked.append(time.monotonic())
            raise error

    with pytest.raises(error):
        sandbox.run(
            SELFTEST + "wait",
            {"pids": str(pids)},
            SandboxLimits(wall_seconds=100, processes=1000),
            progress=lambda _: working.set(),
            check=check,
        )
    assert time.monotonic() - asked[0] < 50  # not the end of its time, nor that of the helper
    assert len(asked) == 1
    leader, helper = map(int, pids.read_text(encoding="ascii").split())
    assert gone(leader)
    assert gone(helper)


def test_what_the_child_says_last_is_heard_though_nobody_listened_when_it_ended(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A parent that gets no processor for a while looks up only after the answer and the end."""
    looked: list[bool] = []

    class Late:
        def __init__(self, order: dict[str, Any]) -> None:
            self._child = WAYS[way][0](order)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._child, name)

        def ended(self) -> bool:
            looked.append(self._child.wait(60))
            return looked[-1]

    monkeypatch.setattr(parent, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(parent, "_WAYS", (Late,) * len(WAYS[way]))
    assert sandbox.run(SELFTEST + "echo", {"text": "last words"}, QUICK) == {"text": "last words"}
    assert looked


def test_check_is_polled_while_the_child_says_nothing(tmp_path: Path) -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise Cancelled

    started = time.monotonic()
    with pytest.raises(Cancelled):
        sandbox.run(
            SELFTEST + "wait",
            {"pids": str(tmp_path / "p")},
            SandboxLimits(wall_seconds=100, processes=1000),
            check=check,
        )
    assert time.monotonic() - started < 50  # not the end of its time


def test_a_crash_is_damage_with_the_signal_named() -> None:
    with pytest.raises(CorruptAudio, match="SIGSEGV") as caught:
        sandbox.run(SELFTEST + "crash", {}, QUICK)
    assert caught.value.context == {"signal": "SIGSEGV"}


def test_a_kill_from_outside_is_memory(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def kill(_fraction: float) -> None:
        os.kill(int(pids.read_text(encoding="ascii").split()[0]), signal.SIGKILL)

    # The helper inherits the pipes and would keep them open.
    started = time.monotonic()
    with pytest.raises(OutOfMemory):
        sandbox.run(
            SELFTEST + "wait", {"pids": str(pids)}, SandboxLimits(wall_seconds=100, processes=1000), progress=kill
        )
    assert time.monotonic() - started < 50
    assert gone(int(pids.read_text(encoding="ascii").split()[1]))


def test_errors_of_the_catalogue_cross_with_detail_and_context() -> None:
    with pytest.raises(TooLong, match="as asked") as caught:
        sandbox.run(SELFTEST + "fail", {"code": "E_TOO_LONG"}, QUICK)
    assert caught.value.context == {"seconds": 3}


def test_a_bug_in_the_target_is_unexpected_with_its_traceback() -> None:
    with pytest.raises(Unexpected, match="ValueError: a bug"):
        sandbox.run(SELFTEST + "fail", {}, QUICK)


def test_a_target_that_does_not_exist_is_unexpected() -> None:
    with pytest.raises(Unexpected, match="no_such_thing"):
        sandbox.run(SELFTEST + "no_such_thing", {}, QUICK)


def test_an_end_without_a_reply_is_unexpected() -> None:
    with pytest.raises(Unexpected, match="status 3"):
        sandbox.run(SELFTEST + "leave", {"status": 3}, QUICK)
    with pytest.raises(Unexpected, match="status 0"):
        sandbox.run(SELFTEST + "leave", {"status": 0}, QUICK)


def test_a_reply_without_end_is_cut_off() -> None:
    with pytest.raises(Unexpected, match="longer than"):
        sandbox.run(SELFTEST + "babble", {"length": 1 << 20}, SandboxLimits(reply_bytes=1 << 16))


def _run_in_fork(queue: multiprocessing.Queue[object]) -> None:
    queue.put(sandbox.run(SELFTEST + "echo", {"from": "fork"}, QUICK))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_it_works_in_a_fork_of_a_multi_threaded_parent() -> None:
    stop = threading.Event()
    others = [threading.Thread(target=stop.wait) for _ in range(8)]
    for thread in others:
        thread.start()
    try:
        context = multiprocessing.get_context("fork")
        queue: multiprocessing.Queue[object] = context.Queue()
        process = context.Process(target=_run_in_fork, args=(queue,))
        process.start()
        assert queue.get(timeout=60) == {"from": "fork"}
        process.join(60)
        assert process.exitcode == 0
        queue.close()
    finally:
        stop.set()
        for thread in others:
            thread.join()


def test_it_works_from_several_threads_at_once() -> None:
    results: list[object] = []

    def work(number: int) -> None:
        results.append(sandbox.run(SELFTEST + "echo", {"n": number}, QUICK)["n"])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [0, 1, 2, 3]  # type: ignore[type-var]  # objects of a list shared between threads


def test_a_cancel_before_it_has_begun_goes_through() -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        sandbox.run(SELFTEST + "spin", {}, QUICK, check=check)


def test_nothing_of_one_order_is_there_in_the_next() -> None:
    for _ in range(2):
        assert sandbox.run(SELFTEST + "remember", {"name": "MARK"}, QUICK) == {"seen": None}


PARENT = """
import sys
from ironclad import sandbox
from ironclad.sandbox import direct, nursery, parent
parent._WAYS = ({"forked": nursery.start, "direct": direct.DirectChild}[sys.argv[2]],)
sandbox.run("ironclad.sandbox.selftest:wait", {"pids": sys.argv[1]}, sandbox.SandboxLimits(processes=1000))
"""


def test_the_child_dies_with_its_parent(tmp_path: Path, way: str) -> None:
    pids = tmp_path / "pids"
    user = subprocess.Popen([sys.executable, "-c", PARENT, str(pids), way])
    deadline = time.monotonic() + 60
    while not (pids.exists() and pids.read_text(encoding="ascii")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    leader, helper = map(int, pids.read_text(encoding="ascii").split())
    user.kill()
    user.wait(60)
    assert gone(leader)
    if way == "forked":  # its fork server sees to the whole group
        assert gone(helper)
    else:
        os.kill(helper, signal.SIGKILL)
