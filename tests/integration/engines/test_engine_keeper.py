"""Warm hosts that several processes share: loaded once, cancelled, limited, and gone with whoever kept them."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from rogue_specs import ROGUES, rogue_spec

from ironclad import errors
from ironclad.engines import keeper as keeper_module
from ironclad.engines import keeper_wire as wire
from ironclad.engines import keeping as keeping_module
from ironclad.engines.hosts import Ears, Order
from ironclad.engines.keeper import Keeper, _User
from ironclad.engines.keeping import Keeping, SharedHosts, _connected, _events
from ironclad.engines.plan import HostPlan, plan
from ironclad.engines.pool import HostPool, PoolLimits
from ironclad.engines.separation import HostSettings, Progress, SeparationRequest, resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask = Callable[..., SeparationRequest]

SETTINGS = HostSettings(
    search_path=(ROGUES,), stall_seconds=60.0, cancel_seconds=60.0, start_seconds=60.0, load_seconds=60.0
)


def plan_of(engine: str, **changes: Any) -> HostPlan:
    return plan(rogue_spec(engine), settings=replace(SETTINGS, **changes))


def order(engine: str, request: SeparationRequest, *, copies: int = 1, **changes: Any) -> Order:
    spec = rogue_spec(engine)
    return Order(plan=plan_of(engine, **changes), request=resolved(spec, "", request), copies=copies)


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)  # other processes are looked at: there is no event to await
    return value


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Keeping]]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(keeping_module, "_STATS_SECONDS", 60.0)  # None for an answer that is late is no finding here
    made: list[Keeping] = []

    def start(**limits: Any) -> Keeping:
        made.append(Keeping(tmp_path / "run", f"test-{len(made)}", PoolLimits(**{"hosts": 2, **limits})))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_one_host_serves_many_runs_and_loads_its_model_once(
    keeping: Callable[..., Keeping], request_for: Ask, tmp_path: Path
) -> None:
    kept = keeping()
    assert kept.pid is None  # nothing is started before somebody asks
    steps: list[Progress] = []
    results = [
        SharedHosts(kept.path).separate(order("Counting", request_for()), Ears(progress=steps.append)) for _ in range(5)
    ]
    assert len({result.used.pid for result in results}) == 1
    assert [result.used.separations for result in results] == [1, 2, 3, 4, 5]
    assert {result.backend for result in results} == {"numpy"}
    assert (tmp_path / "loads").read_text(encoding="ascii") == "1"
    assert steps[-1].fraction == 1.0
    assert results[0].stems["vocals"].path == tmp_path / "out" / "vocals.f32"
    assert len({result.stems["vocals"].sha256 for result in results}) == 1
    stats = kept.stats()
    assert stats is not None
    (host,) = stats["hosts"]
    assert (host["engine"], host["separations"], host["busy"], stats["starts"]) == ("counting", 5, False, 1)


@pytest.mark.parametrize("refused", ["Popen", "pidfd_open"])
def test_a_keeper_for_which_there_is_no_room_is_tried_again(
    refused: str, keeping: Callable[..., Keeping], request_for: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full machine refuses a process or a descriptor once; the run that waits is served when there is room."""
    owner = subprocess if refused == "Popen" else os
    real, refusals = getattr(owner, refused), iter([OSError(errno.EAGAIN, "no room")])

    def sometimes(*args: Any, **options: Any) -> Any:
        if (error := next(refusals, None)) is not None:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(keeping_module, "_AGAIN_SECONDS", 0.01)
    kept = keeping()
    monkeypatch.setattr(owner, refused, sometimes)
    result = SharedHosts(kept.path).separate(order("Counting", request_for()), Ears())
    assert next(refusals, None) is None
    assert result.used.separations == 1
    assert kept.pid is not None


def test_runs_wait_for_a_host_that_is_busy_and_hear_why(keeping: Callable[..., Keeping], request_for: Ask) -> None:
    kept, began, heard = keeping(), threading.Event(), threading.Event()
    first = order("Polite", request_for())
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise errors.Cancelled

    def hold() -> None:
        with pytest.raises(errors.Cancelled):
            SharedHosts(kept.path).separate(first, Ears(lambda _step: began.set(), check))

    thread = threading.Thread(target=hold)
    thread.start()
    assert began.wait(120)

    def waiting(reason: str) -> None:
        assert "busy" in reason
        heard.set()

    def give_up() -> None:
        if heard.is_set():
            raise errors.Drained

    with pytest.raises(errors.Drained):
        SharedHosts(kept.path).separate(first, Ears(check=give_up, waiting=waiting))
    stop.set()
    thread.join(120)
    assert not thread.is_alive()
    stats = kept.stats()
    assert stats is not None
    assert [host["busy"] for host in stats["hosts"]] == [False]  # it was cancelled politely, and is warm


@pytest.mark.parametrize(
    ("engine", "what", "error"),
    [
        ("Raising", "value", errors.EngineFailed), ("Raising", "mono", errors.MonoInput),
        ("Raising", "memory", errors.OutOfMemory), ("Raising", "disk", errors.DiskFull),
        ("Dying", "SIGKILL", errors.EngineDied), ("Wrong", "nan", errors.OutputInvalid),
    ],
)  # fmt: skip
def test_errors_arrive_as_what_they_are(
    keeping: Callable[..., Keeping], request_for: Ask, engine: str, what: str, error: type[errors.IroncladError]
) -> None:
    hosts = SharedHosts(keeping().path)
    with pytest.raises(error) as caught:
        hosts.separate(order(engine, request_for(what=what)), Ears())
    assert type(caught.value) is error
    assert caught.value.context["engine"] == engine.lower()
    assert hosts.separate(order("Echo", request_for()), Ears()).stems  # the keeper goes on


def test_a_run_can_be_stopped_while_progress_never_pauses(keeping: Callable[..., Keeping], request_for: Ask) -> None:
    kept, heard = keeping(), threading.Event()

    def check() -> None:
        if heard.is_set():
            raise errors.Cancelled

    steps: list[Progress] = []

    def progress(step: Progress) -> None:
        steps.append(step)
        heard.set()

    with pytest.raises(errors.Cancelled):
        SharedHosts(kept.path).separate(order("Echo", request_for(steps=500, pause=0.01)), Ears(progress, check))
    assert len(steps) == 1, "it was asked after the first word"


def test_a_host_that_hangs_is_killed_and_the_next_one_works(keeping: Callable[..., Keeping], request_for: Ask) -> None:
    hosts = SharedHosts(keeping().path)
    with pytest.raises(errors.EngineStalled):
        hosts.separate(order("Hanging", request_for(), stall_seconds=0.5), Ears())
    assert hosts.separate(order("Echo", request_for()), Ears()).stems


def test_another_model_file_or_version_gets_another_host(keeping: Callable[..., Keeping], request_for: Ask) -> None:
    kept = keeping(hosts=1)
    before = order("Echo", request_for())
    after = replace(before, plan=replace(before.plan, fingerprint="another"))
    pids = [SharedHosts(kept.path).separate(one, Ears()).used.pid for one in (before, after)]
    assert pids[0] != pids[1]
    assert gone(pids[0])  # there is room for one


def test_an_idle_host_is_ended(keeping: Callable[..., Keeping], request_for: Ask) -> None:
    kept = keeping(idle_seconds=0.2)
    pid = SharedHosts(kept.path).separate(order("Echo", request_for()), Ears()).used.pid
    until(lambda: gone(pid))


RUN = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
import test_engine_keeper as tests
from ironclad.engines.hosts import Ears
from ironclad.engines.keeping import SharedHosts
from ironclad.engines.separation import SeparationRequest
request = SeparationRequest(
    input=Path({mix!r}), frames=4410, channels=2, rate=44100, output=Path({out!r}),
    params=dict(what={what!r}, steps={steps}),
)
SharedHosts(Path({socket!r})).separate(tests.order({engine!r}, request), Ears(lambda _: print("working", flush=True)))
print("done", flush=True)
sys.stdin.read()
"""

WORKER = """
import sys
from pathlib import Path
from ironclad.engines.keeping import Keeping
from ironclad.engines.pool import PoolLimits
with Keeping(Path({run!r}), "worker", PoolLimits(hosts=2)) as kept:
    print(kept.path, flush=True)
    sys.stdin.readline()
    print(kept.pid, flush=True)
    sys.stdin.read()
"""


def started(code: str, **values: Any) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    text = textwrap.dedent(code).format(tests=str(here), **values)
    paths = [str(here), str(here.parents[1] / "support")]
    return subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_run_that_is_killed_leaves_the_host_to_the_next_one(
    keeping: Callable[..., Keeping], request_for: Ask, tmp_path: Path
) -> None:
    kept, request = keeping(), request_for()
    run = started(
        RUN, mix=str(request.input), out=str(tmp_path / "out"), what="value", steps=4, socket=str(kept.path),
        engine="Polite",
    )  # fmt: skip
    with run:
        assert line(run) == "working"
        run.send_signal(signal.SIGKILL)

    def idle() -> Any:
        stats = kept.stats() or {}
        return [host for host in stats.get("hosts", []) if not host["busy"]]

    (host,) = until(idle)
    assert not list((tmp_path / "out").iterdir())  # and nothing unfinished stays
    assert not gone(host["pid"])
    with pytest.raises(errors.Cancelled):
        SharedHosts(kept.path).separate(order("Polite", request), Ears(check=stop_once_begun()))


def stop_once_begun() -> Callable[[], None]:
    def check() -> None:
        raise errors.Cancelled

    return check


@pytest.mark.parametrize("what", ["fork", "session"])
def test_nothing_outlives_a_worker_that_is_killed(
    request_for: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where the engine says what it started
    request = request_for()
    with started(WORKER, run=str(tmp_path / "run")) as worker:
        hosts = SharedHosts(Path(line(worker)))
        pid = hosts.separate(order("Forking", replace(request, params={"what": what, "steps": 1})), Ears()).used.pid
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
        keeper = int(line(worker))
        child = int((tmp_path / "child.pid").read_text(encoding="ascii"))
        assert not any(map(gone, (pid, keeper, child)))
        worker.kill()
    for process in (pid, keeper, child):
        until(lambda process=process: gone(process))  # type: ignore[misc]  # a default binds the loop's value


@pytest.mark.parametrize("what", ["fork", "session"])
def test_nothing_outlives_a_keeper_that_is_killed_and_another_takes_its_place(
    keeping: Callable[..., Keeping], request_for: Ask, tmp_path: Path, what: str
) -> None:
    kept = keeping()
    hosts = SharedHosts(kept.path)
    pid = hosts.separate(order("Forking", request_for(what=what, steps=1)), Ears()).used.pid
    child = int((tmp_path / "child.pid").read_text(encoding="ascii"))
    first = kept.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    for process in (first, pid, child):
        until(lambda process=process: gone(process))  # type: ignore[misc]  # a default binds the loop's value
    assert hosts.separate(order("Echo", request_for()), Ears()).used.pid != pid
    assert kept.pid not in {None, first}


def test_a_run_hears_of_a_keeper_that_dies_under_it(keeping: Callable[..., Keeping], request_for: Ask) -> None:
    kept = keeping()

    def kill(_step: Progress) -> None:
        assert kept.pid is not None
        os.kill(kept.pid, signal.SIGKILL)

    with pytest.raises(errors.EngineDied, match="keeper"):
        SharedHosts(kept.path).separate(order("Hanging", request_for()), Ears(progress=kill))


def test_closing_ends_everything(keeping: Callable[..., Keeping], request_for: Ask) -> None:
    kept = keeping()
    pid = SharedHosts(kept.path).separate(order("Echo", request_for()), Ears()).used.pid
    keeper = kept.pid
    assert keeper is not None
    kept.close()
    assert gone(pid)
    assert gone(keeper)
    assert kept.stats() is None
    with pytest.raises(errors.EngineDied, match="cannot be reached"):
        SharedHosts(kept.path).separate(order("Echo", request_for()), Ears())


@pytest.mark.parametrize(
    "said", [b"\n", b"[]\n", b"nonsense\n", b'{"op":"make coffee"}\n', b'{"op":"separate","order":{}}\n',
             b'{"op":"separate","order":{"plan":{"engine":3}}}\n'],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_the_keeper_goes_on(
    keeping: Callable[..., Keeping], request_for: Ask, said: bytes
) -> None:
    kept = keeping()
    with _connected(kept.path, 20) as connection:
        connection.sendall(said)
        answer = next(event for event in _events(connection, time.monotonic() + 60) if event is not None)
    assert wire.error_of(answer).code == "E_ENGINE_PROTOCOL"
    assert SharedHosts(kept.path).separate(order("Echo", request_for()), Ears()).stems


def test_the_socket_is_for_its_owner_alone(keeping: Callable[..., Keeping]) -> None:
    assert keeping().path.stat().st_mode & 0o777 == 0o600


def test_a_run_that_does_not_listen_for_long_is_neither_gone_nor_cancelled() -> None:
    keeper, run = socket.socketpair()
    with keeper, run:
        keeper.settimeout(0.1)
        user = _User(keeper)
        user.waiting("for memory")
        for done in range(2000):  # more than a socket holds; the run writes its stems to a slow disk meanwhile
            user.progress(Progress(done, 2000, done))
            user.check()
        events = _events(run)
        heard = list(iter(lambda: next(events), None))
        assert heard[0] == {"event": "waiting", "reason": "for memory"}
        assert [event["done"] for event in heard[1:]] == list(range(len(heard) - 1))
        user.progress(Progress(2000, 2000, 2000))
        assert next(events)["done"] == 2000
        run.close()
        with pytest.raises(errors.Cancelled):
            user.check()
        with pytest.raises(errors.Cancelled):
            user.progress(Progress(2000, 2000, 2000))


def test_a_run_that_does_not_listen_for_long_gets_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "_REQUEST_SECONDS", 0.1)
    connection, run = socket.socketpair()
    with run, socket.socket() as door, HostPool() as pool:
        connection.settimeout(0.1)
        user = _User(connection)
        for done in range(2000):
            user.progress(Progress(done, 2000, done))
        run.sendall(wire.encode({"op": "stats"}))
        serving = threading.Thread(target=Keeper(door, pool)._serve, args=(connection,))
        serving.start()
        serving.join(0.5)  # longer than a request may take
        heard = [event for event in _events(run) if event is not None]
        assert heard[-1]["event"] == "stats"
        serving.join(60)
