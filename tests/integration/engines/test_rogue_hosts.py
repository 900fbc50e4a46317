"""Programs that are no engine host, or a lying one: what the client makes of them."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import psutil
import pytest

from ironclad import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.engines.client import EngineHost
    from ironclad.engines.separation import SeparationRequest

    Start = Callable[..., EngineHost]
    Ask = Callable[..., SeparationRequest]
    Pretend = Callable[..., EngineHost]

PREAMBLE = """
import json, os, sys, time
def emit(**event): sys.stdout.write(json.dumps(event) + "\\n"); sys.stdout.flush()
def hello(version=1): emit(event="hello", protocol=version, pid=os.getpid(), python="3", numpy="2", entry="x:y")
def listen(): return json.loads(sys.stdin.readline())
def loaded(): emit(event="loaded", id=listen()["id"], seconds=0.1)
def report(file, frames, peak=0.5): return dict(file=file, frames=frames, peak=peak, sha256="0" * 64)
def step(m, done, written): emit(event="progress", id=m["id"], done=done, total=4, written=written)
def deliver(m, size, claim):
    for stem in m["stems"]:
        with open(f"{m['output']}/{stem}.f32", "wb") as file: file.write(bytes(size))
    emit(event="done", id=m["id"], seconds=1, stems={s: report(s + ".f32", claim) for s in m["stems"]})
"""


@pytest.fixture
def pretend(build: Start) -> Pretend:
    """A host program written in the test."""

    def make(code: str, **settings: float) -> EngineHost:
        program = PREAMBLE + textwrap.dedent(code)
        times = {"start_seconds": 60.0, "stall_seconds": 60.0, "cancel_seconds": 0.3, **settings}
        return build("Echo", argv=lambda _parent: [sys.executable, "-I", "-c", program], **times)

    return make


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        ("print('Welcome to my engine!', flush=True); time.sleep(30)", errors.EngineProtocol, "not JSON"),
        ("os.write(1, b'\\xff\\x00' * 10); os.write(1, b'\\n'); time.sleep(30)", errors.EngineProtocol, "not JSON"),
        ("sys.stdout.write('x' * (3 << 20)); sys.stdout.flush(); time.sleep(30)", errors.EngineProtocol, "longer than"),
        ("sys.stdout.write('{'); sys.stdout.flush()", errors.EngineProtocol, "does not end"),
        ("hello(version=7); time.sleep(30)", errors.EngineProtocol, "speaks version 7"),
        ("emit(event='pong', id=0); time.sleep(30)", errors.EngineProtocol, "unexpected 'pong'"),
        ("sys.stderr.write('no GPU here'); sys.exit(4)", errors.EngineDied, "exit status 4"),
        ("os.close(1); os.close(2); time.sleep(30)", errors.EngineDied, "does not exit"),
        ("hello(); emit(event='loaded', id=9, seconds=0); time.sleep(9)", errors.EngineProtocol, "unexpected 'loaded'"),
        ("hello(); hello(); time.sleep(30)", errors.EngineProtocol, "unexpected 'hello'"),
        ("hello(); emit(event='error', id=0, kind='engine', code='E_ENGINE_PROTOCOL', message='what?'); time.sleep(9)",
         errors.EngineProtocol, "what?"),
    ],
)  # fmt: skip
def test_what_is_no_engine_host_is_refused_and_ended(
    pretend: Pretend, code: str, error: type[Exception], text: str
) -> None:
    engine = pretend(code)
    with pytest.raises(error, match=text):
        engine.start()
    assert not psutil.pid_exists(engine.pid)
    assert not engine.alive


def test_silence_is_a_stall(pretend: Pretend) -> None:
    engine = pretend("time.sleep(60)", start_seconds=0.5)
    with pytest.raises(errors.EngineStalled):
        engine.start()
    assert not psutil.pid_exists(engine.pid)


def test_what_it_said_before_it_died_is_in_the_error(pretend: Pretend) -> None:
    with pytest.raises(errors.EngineDied) as caught:
        pretend("sys.stderr.write('no GPU here'); sys.exit(4)").start()
    assert caught.value.context["stderr"] == "no GPU here"
    assert caught.value.to_dict()["context"]["exit_status"] == 4


def test_a_flood_on_stderr_is_drained_and_only_its_end_kept(pretend: Pretend, request_for: Ask) -> None:
    engine = pretend("hello(); loaded(); sys.stderr.write('spam ' * 200_000 + 'END'); sys.stderr.flush(); sys.exit(1)")
    engine.start()
    with pytest.raises(errors.EngineDied) as caught:
        engine.separate(request_for())
    assert caught.value.context["stderr"].endswith("END")
    assert len(engine._child.stderr_tail()) <= 64 * 1024


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        ("emit(event='done', id=m['id'], seconds=1, stems={})", errors.OutputInvalid, "did not deliver vocals"),
        (
            "emit(event='done', id=m['id'], seconds=1, stems={s: report('../' + s, m['frames']) for s in m['stems']})",
            errors.OutputInvalid,
            "did not deliver vocals",
        ),
        (
            "emit(event='done', id=m['id'], seconds=1, stems={s: report(s + '.f32', m['frames']) for s in m['stems']})",
            errors.OutputInvalid,
            "vocals has -1 bytes",
        ),
        (
            "deliver(m, size=8 * m['frames'] - 8, claim=m['frames'])",
            errors.OutputInvalid,
            "35272 bytes",
        ),
        (
            "deliver(m, size=8 * m['frames'], claim=7)",
            errors.OutputInvalid,
            "claims 7 of 4410",
        ),
        ("emit(event='done', id=m['id'] + 1, seconds=1, stems={})", errors.EngineProtocol, "unexpected 'done'"),
        ("emit(event='cancelled', id=m['id'])", errors.EngineProtocol, "unexpected 'cancelled'"),
        ("emit(event='progress', id=m['id'], done=5, total=4, written=0)", errors.EngineProtocol, "progress 5/4"),
        (
            "step(m, done=2, written=9); step(m, done=1, written=9)",
            errors.EngineProtocol,
            "progress 1/4 after 2/4",
        ),
        (
            "step(m, done=2, written=9); step(m, done=2, written=3)",
            errors.EngineProtocol,
            "progress",
        ),
        (
            "emit(event='error', id=m['id'], kind='oom', code='', message='gone', fatal=True); sys.exit(75)",
            errors.OutOfMemory,
            "gone",
        ),
        ("sys.exit(75)", errors.OutOfMemory, "gave up"),
    ],
)
def test_lies_about_a_separation_are_found_out(
    pretend: Pretend, request_for: Ask, code: str, error: type[Exception], text: str
) -> None:
    engine = pretend(f"hello(); loaded(); m = listen()\n{code}\ntime.sleep(30)").start()
    with pytest.raises(error, match=text):
        engine.separate(request_for())
    assert not engine.alive
    assert not psutil.pid_exists(engine.pid)


def test_a_host_that_ignores_cancel_is_killed_in_time(pretend: Pretend, request_for: Ask) -> None:
    engine = pretend("""
        hello(); loaded(); m = listen()
        n = 0
        while True:
            n += 1
            emit(event="progress", id=m["id"], done=n, total=10**9, written=0)
    """).start()
    polls = iter(range(100))

    def check() -> None:
        if next(polls) == 50:
            raise errors.Cancelled

    with pytest.raises(errors.Cancelled):
        engine.separate(request_for(), check=check)
    assert not psutil.pid_exists(engine.pid)


def test_a_host_that_finishes_instead_of_cancelling_stays_usable(pretend: Pretend, request_for: Ask) -> None:
    engine = pretend(
        """
        hello(); loaded(); m = listen(); listen()
        emit(event="done", id=m["id"], seconds=1, stems={})
        emit(event="pong", id=listen()["id"])
        listen()
    """,
        cancel_seconds=60.0,
    ).start()
    with pytest.raises(errors.Drained):
        engine.separate(request_for(), check=_raise_drained())
    engine.ping(60)
    assert engine.alive


def _raise_drained() -> Callable[[], None]:
    polls = iter(range(100))

    def check() -> None:
        if next(polls) >= 1:
            raise errors.Drained

    return check


def test_a_host_that_does_not_want_to_leave_is_killed(pretend: Pretend, tmp_path: Path) -> None:
    engine = pretend(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); hello(); loaded(); time.sleep(60)"
    ).start()
    engine.close()
    assert not psutil.pid_exists(engine.pid)
    engine.close()
