from __future__ import annotations

import hashlib
import itertools
import os
import resource
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mounts
import numpy as np
import psutil
import pytest
from rogue_specs import ROGUES, rogue_spec

from ironclad import errors
from ironclad.engines.contract import PrivateEnvironment
from ironclad.engines.hosts import Ears, LocalHosts, Order
from ironclad.engines.models import ModelStore
from ironclad.engines.oom import OomWatch, control_groups
from ironclad.engines.plan import HostPlan, plan
from ironclad.engines.pool import HostPool
from ironclad.engines.separation import HostSettings, resolved
from ironclad.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.engines.client import EngineHost
    from ironclad.engines.separation import Progress, SeparationRequest

    Start = Callable[..., EngineHost]
    Ask = Callable[..., SeparationRequest]


def test_separates_several_recordings_on_one_warm_host(
    host: Start, request_for: Ask, mixture: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    engine = host("Echo")
    steps: list[Progress] = []
    result = engine.separate(request_for(pause=0.11), progress=steps.append)
    assert sorted(result.stems) == ["rest", "vocals"]
    vocals = result.stems["vocals"]
    np.testing.assert_array_equal(np.fromfile(vocals.path, "<f4").reshape(-1, 2).T, mixture / 2)
    assert vocals.sha256 == hashlib.sha256(vocals.path.read_bytes()).hexdigest()
    assert vocals.peak == pytest.approx(float(np.abs(mixture / 2).max()))
    assert result.params == {"steps": 4, "pause": 0.11, "what": "value"}
    assert [step.fraction for step in steps] == [0.25, 0.5, 0.75, 1.0]
    assert steps[-1].written == mixture.shape[1]
    engine.separate(request_for())
    engine.separate(request_for())
    stats = engine.stats(60)
    assert stats.jobs == 3
    assert stats.rss > 1 << 20
    engine.ping(60)
    assert engine.alive
    engine.close()
    assert not engine.alive
    assert not psutil.pid_exists(engine.pid)


def test_what_ran_the_networks_is_told_if_it_is_a_name(host: Start, request_for: Ask) -> None:
    assert [host(name).separate(request_for()).backend for name in ("Echo", "Puzzling")] == ["numpy", ""]


def test_only_the_stems_wanted_are_written(host: Start, request_for: Ask, tmp_path: Path) -> None:
    result = host("Echo").separate(request_for(stems=("rest",)))
    assert list(result.stems) == ["rest"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rest.f32"]


def test_what_libraries_print_does_not_reach_the_protocol(host: Start, request_for: Ask) -> None:
    engine = host("Chatty")
    assert engine.separate(request_for()).stems
    engine.ping(60)
    engine.close()
    printed = engine._child.stderr_tail()
    assert "downloading 3%" in printed
    assert "from a child" in printed
    assert "and to stderr" in printed


def test_the_host_is_easy_prey_for_the_kernel_and_limited_as_told(host: Start) -> None:
    engine = host("Echo", memory_bytes=3 << 30, threads=3)
    process = psutil.Process(engine.pid)
    assert Path(f"/proc/{engine.pid}/oom_score_adj").read_text().strip() == "800"
    assert process.rlimit(resource.RLIMIT_DATA) == (3 << 30, 3 << 30)
    assert process.environ()["OMP_NUM_THREADS"] == "3"
    assert os.getpgid(engine.pid) == engine.pid


def test_sloppy_progress_is_put_right(host: Start, request_for: Ask) -> None:
    steps: list[Progress] = []
    host("Sloppy").separate(request_for(), progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(3, 4), (3, 4), (9, 9), (9, 9)]


@pytest.mark.parametrize(
    ("what", "error", "survives"),
    [
        ("value", errors.EngineFailed, True),
        ("exit", errors.EngineFailed, True),
        ("disk", errors.DiskFull, True),
        ("mono", errors.MonoInput, True),
        ("impostor", errors.EngineFailed, True),
        ("memory", errors.OutOfMemory, False),
        ("torch", errors.OutOfMemory, False),
    ],
)
def test_what_an_engine_raises_is_one_failed_call(
    host: Start, request_for: Ask, what: str, error: type[Exception], *, survives: bool
) -> None:
    out = request_for().output
    engine = host("Raising")
    with pytest.raises(errors.IroncladError) as caught:
        engine.separate(request_for(what=what))
    assert type(caught.value) is error
    assert caught.value.context["engine"] == "raising"
    assert engine.alive is survives
    assert list(out.iterdir()) == []
    if survives:
        deadline = time.monotonic() + 60
        while "Traceback" not in engine._child.stderr_tail():
            assert time.monotonic() < deadline
            time.sleep(0.01)  # it was written before the answer came, and is read by another thread
        with pytest.raises(errors.EngineFailed, match="bad tensor") as again:
            engine.separate(request_for(what="value"))
        assert "Traceback" in again.value.context["stderr"]
    else:
        with pytest.raises(errors.EngineDied, match="ended already"):
            engine.separate(request_for())


@pytest.mark.parametrize(
    ("what", "text"),
    [("exit", "exit status 7"), ("SIGSEGV", "SIGSEGV"), ("SIGKILL", "SIGKILL"), ("SIGABRT", "SIGABRT")],
)
def test_a_host_that_dies_says_how_and_shows_its_last_words(
    host: Start, request_for: Ask, what: str, text: str
) -> None:
    engine = host("Dying")
    with pytest.raises(errors.EngineDied, match=text) as caught:
        engine.separate(request_for(what=what))
    assert "last words" in caught.value.context["stderr"]
    assert not engine.alive


def test_a_kill_by_the_kernel_is_out_of_memory(host: Start, request_for: Ask, tmp_path: Path) -> None:
    engine = host("Dying")
    (tmp_path / "vmstat").write_text("oom_kill 0\n", encoding="ascii")
    engine._oom = OomWatch(engine.pid, proc=tmp_path, cgroups=tmp_path)
    (tmp_path / "vmstat").write_text("oom_kill 1\n", encoding="ascii")  # as if the kernel had
    with pytest.raises(errors.OutOfMemory, match="the kernel killed"):
        engine.separate(request_for(what="SIGKILL"))


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with 600 MB of memory; its `cgroup.procs` takes processes in."""
    try:
        if (base := Path("/sys/fs/cgroup/memory")).is_dir():  # version 1
            limit = "memory.limit_in_bytes"
        else:
            base, limit = Path("/sys/fs/cgroup"), "memory.max"
        group = base / f"ironclad-test-{uuid.uuid4().hex[:12]}"
        group.mkdir()
    except OSError as exc:
        pytest.skip(f"control groups cannot be made here: {exc}")
    try:
        try:
            (group / limit).write_text(str(600 << 20), encoding="ascii")
        except OSError as exc:
            pytest.skip(f"the memory of a control group cannot be limited here: {exc}")
        yield group
    finally:
        deadline = time.monotonic() + 60
        while True:  # the kernel lets a group go when the last dead process has left it
            try:
                group.rmdir()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.mark.chaos  # where only the machine counts, hosts that others kill meanwhile would seem to be the kernel's prey
def test_the_kernel_kills_for_memory_and_the_next_host_works(
    host: Start, request_for: Ask, small_group: Path, tmp_path: Path
) -> None:
    engine = host("Devouring")
    (small_group / "cgroup.procs").write_text(str(engine.pid), encoding="ascii")
    with pytest.raises(errors.OutOfMemory, match="the kernel killed"):
        engine.separate(request_for())
    assert not engine.alive
    assert list((tmp_path / "out").glob("*.f32")) == []
    assert host("Echo").separate(request_for()).stems.keys() == {"vocals", "rest"}


@pytest.mark.chaos
def test_a_kill_of_another_for_memory_is_not_the_hosts(host: Start, request_for: Ask, small_group: Path) -> None:
    engine = host("Dying")
    if counted_by_the_machine(engine.pid):
        pytest.skip("only the whole machine counts the kernel's kills here")
    other = host("Devouring")
    (small_group / "cgroup.procs").write_text(str(other.pid), encoding="ascii")
    with pytest.raises(errors.OutOfMemory, match="the kernel killed"):
        other.separate(request_for())
    with pytest.raises(errors.EngineDied, match="SIGKILL"):
        engine.separate(request_for(what="SIGKILL"))


def counted_by_the_machine(pid: int) -> bool:
    """Whether no control group of the process counts."""
    groups, base = control_groups(pid), Path("/sys/fs/cgroup")
    files = (
        base / "memory" / groups.get("memory", "") / "memory.oom_control",
        base / groups.get("", "") / "memory.events",
    )
    return not any(file.is_file() for file in files)


def test_the_memory_limit_is_an_error_not_a_crash(host: Start, request_for: Ask) -> None:
    with pytest.raises(errors.OutOfMemory):
        host("Greedy", memory_bytes=1 << 30).separate(request_for())


@pytest.mark.parametrize("what", ["value", "lock"])
def test_a_hang_is_noticed_and_ended(host: Start, request_for: Ask, what: str) -> None:
    steps: list[Progress] = []
    for seconds in (2.0, 10.0, 40.0):  # more where the host had no time to begin
        engine = host("Hanging", stall_seconds=seconds)
        with pytest.raises(errors.EngineStalled, match=rf"no progress for {seconds:g} s \(at \d+%\)") as caught:
            engine.separate(request_for(what=what), progress=steps.append)
        assert not psutil.pid_exists(engine.pid)
        if steps:
            break
    assert "(at 25%)" in str(caught.value)


def test_progress_that_does_not_advance_is_no_progress(host: Start, request_for: Ask) -> None:
    with pytest.raises(errors.EngineStalled):
        host("Stuck", stall_seconds=1.0).separate(request_for())


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("nan", errors.OutputInvalid),
        ("short", errors.OutputInvalid),
        ("long", errors.OutputInvalid),
        ("mono", errors.EngineFailed),
        ("missing", errors.EngineFailed),
    ],
)
def test_wrong_stems_are_refused_and_removed(
    host: Start, request_for: Ask, tmp_path: Path, what: str, error: type[Exception]
) -> None:
    engine = host("Wrong")
    with pytest.raises(error):
        engine.separate(request_for(what=what))
    assert engine.alive
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_named(host: Start, request_for: Ask, tmp_path: Path) -> None:
    request = request_for()
    (tmp_path / "out" / "vocals.f32.part").symlink_to("/dev/full")
    with pytest.raises(errors.DiskFull):
        host("Echo").separate(request)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """`out/` on a file system that holds one of two stems."""
    with mounts.needed(tmp_path / "out", "size=48k,mode=700") as folder:
        yield folder


def test_a_disk_that_fills_up_while_stems_are_written(host: Start, request_for: Ask, small_disk: Path) -> None:
    engine = host("Echo")
    with pytest.raises(errors.DiskFull):
        engine.separate(request_for())
    assert list(small_disk.iterdir()) == []
    assert engine.alive
    done = engine.separate(request_for(stems=("vocals",)))  # there is room for one
    assert done.stems["vocals"].path.stat().st_size == 8 * done.stems["vocals"].frames
    done.stems["vocals"].path.unlink()


# --- being stopped ---------------------------------------------------------------------------------------------------


def raise_once(error: Exception, after: int) -> Callable[[], None]:
    calls = iter(range(1000))

    def check() -> None:
        if next(calls) >= after:
            raise error

    return check


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("Echo", errors.Cancelled("by the user")),
        ("Echo", errors.LeaseLost("taken over")),
        ("Echo", KeyboardInterrupt()),
        ("Polite", errors.Cancelled()),
        ("Swallowing", errors.Cancelled()),
    ],
)
def test_a_check_that_raises_stops_the_engine_and_goes_on(
    host: Start, request_for: Ask, tmp_path: Path, name: str, error: BaseException
) -> None:
    engine = host(name, cancel_seconds=0.5 if name == "Swallowing" else 60.0)
    steps: list[Progress] = []

    def check() -> None:
        if steps:  # it is at work: before that, it would hear of the cancel in time, whoever it is
            raise error

    with pytest.raises(type(error)) as caught:
        engine.separate(request_for(pause=0.05, steps=400), progress=steps.append, check=check)
    assert caught.value is error
    assert engine.alive is (name != "Swallowing")
    if name != "Swallowing":
        assert list((tmp_path / "out").iterdir()) == []
        if name == "Echo":
            assert engine.separate(request_for()).stems
    else:
        assert not psutil.pid_exists(engine.pid)


def test_a_progress_callback_may_stop_it_too(host: Start, request_for: Ask) -> None:
    engine = host("Echo", cancel_seconds=60.0)

    def lost(_: Progress) -> None:
        raise errors.LeaseLost

    with pytest.raises(errors.LeaseLost):
        engine.separate(request_for(pause=0.05, steps=400), progress=lost)
    assert engine.alive


def test_a_load_can_be_given_up(build: Start) -> None:
    engine = build("NeverLoads")
    with pytest.raises(errors.Cancelled):
        engine.start(raise_once(errors.Cancelled(), 2))
    assert not psutil.pid_exists(engine.pid)


# --- starting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("NoSuchEngine", errors.PluginBroken, "cannot be imported"),
        ("BadModel", errors.ModelBroken, r"layer\.0"),
        ("broken_factory", errors.ModelBroken, "no such device"),
        ("DiesLoading", errors.EngineDied, "exit status 1"),
        ("NeverLoads", errors.EngineStalled, "no progress"),
    ],
)
def test_an_engine_that_does_not_load_leaves_no_process(
    build: Start, name: str, error: type[Exception], text: str
) -> None:
    engine = build(name, load_seconds=1.0 if error is errors.EngineStalled else 60.0)
    with pytest.raises(error, match=text):
        engine.start()
    engine.close()
    assert not psutil.pid_exists(engine.pid)


def test_a_private_environment_that_is_not_built_is_missing(build: Start) -> None:
    with pytest.raises(errors.EngineMissing, match="is not built"):
        build("Echo", environment=PrivateEnvironment(requirements=("torch==2.13.0",)))


def test_an_interpreter_that_is_not_there_is_named(build: Start, tmp_path: Path) -> None:
    with pytest.raises(errors.PluginBroken, match="interpreter cannot be started"):
        build("Echo", interpreter=tmp_path / "python").start()


def test_a_bad_request_is_refused_before_the_host_hears_of_it(host: Start, request_for: Ask, tmp_path: Path) -> None:
    engine = host("Echo")
    for request, error in (
        (request_for(steps=0), errors.BadRequest),
        (request_for(stems=("kazoo",)), errors.BadRequest),
        (request_for(frames=0), errors.BadRequest),
        (request_for(frames=1), errors.BadRequest),
        (request_for(output=tmp_path / "nowhere"), errors.BadRequest),
        (request_for(input=tmp_path / "gone.f32"), errors.SourceMissing),
    ):
        with pytest.raises(error):
            engine.separate(request)
    assert engine.separate(request_for()).stems


def test_a_second_thread_is_refused(host: Start, request_for: Ask) -> None:
    engine = host("Echo")
    running = threading.Event()
    release = threading.Event()

    def hold(_: Progress) -> None:
        running.set()
        release.wait(60)

    thread = threading.Thread(target=lambda: engine.separate(request_for(), progress=hold))
    thread.start()
    assert running.wait(60)
    with pytest.raises(errors.BadRequest, match="busy"):
        engine.ping(60)
    release.set()
    thread.join(60)
    engine.ping(60)


def test_a_machine_without_room_for_a_process_is_not_a_broken_plugin(
    build: Callable[..., EngineHost], request_for: Ask
) -> None:
    refused, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    engine = build("Echo")
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # one of the limits that are reached now and then
    try:
        with pytest.raises(errors.EngineDied, match=r"cannot be started: .*open files") as caught:
            engine.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (refused, hard))
    assert caught.value.retryable
    with build("Echo") as another:
        assert another.separate(request_for()).stems


@pytest.mark.parametrize("number", [0, 1])
def test_a_machine_without_room_for_a_thread_is_not_waited_for(
    number: int, build: Callable[..., EngineHost], request_for: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the thread that keeps the host, and of the one that reads what it says to standard error."""
    real, begun = threading.Thread.start, itertools.count()

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("engine-") and next(begun) == number:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(errors.EngineDied, match=r"cannot be started: .*new thread") as caught:
        build("Echo").start()
    assert caught.value.retryable
    with build("Echo") as another:
        assert another.separate(request_for()).stems


def test_weights_that_were_replaced_while_a_recording_waited_are_not_taken_for_those_it_meant(
    request_for: Ask, tmp_path: Path
) -> None:
    engine = replace(rogue_spec("Echo"), custom_models=True)
    store, weights = ModelStore(Layout(tmp_path / "data")), tmp_path / "w.bin"

    def brought(content: bytes) -> HostPlan:
        weights.write_bytes(content)
        store.add(engine, "mine", [("w.bin", weights)], origin="here", accept_licence=True, pin=True)
        spec = store.effective(engine)
        settings = HostSettings(search_path=(ROGUES,))
        return plan(spec, model="mine", settings=settings, model_folder=store.required(spec, "mine"))

    first = brought(b"one")
    second = brought(b"two")
    with HostPool() as pool:
        hosts = LocalHosts(pool)
        request = resolved(store.effective(engine), "mine", request_for())
        with pytest.raises(errors.EngineFailed, match="was replaced") as caught:
            hosts.separate(Order(plan=first, request=request), Ears())
        assert caught.value.retryable
        assert len(pool) == 0
        assert hosts.separate(Order(plan=second, request=request), Ears()).stems
        brought(b"three")
        assert hosts.separate(Order(plan=second, request=request), Ears()).stems  # loaded before, and meant
    assert HostPlan.from_dict(second.to_dict()) == second
