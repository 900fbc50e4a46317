"""The host program itself, spoken to line by line as another client would."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from ironclad.engines.host import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ironclad.engines.separation import SeparationRequest

ROGUES = Path(__file__).parent / "rogues"


class Conversation:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin: IO[bytes] = process.stdin
        self.stdout: IO[bytes] = process.stdout

    def say(self, message: protocol.Message | bytes) -> None:
        self.stdin.write(message if isinstance(message, bytes) else protocol.encode_request(message))
        self.stdin.flush()

    def hear(self) -> Any:
        return protocol.decode_event(self.stdout.readline())


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(entry: str, parent: int | None = None) -> Conversation:
            command = [sys.executable, "-I", "-m", "ironclad.engines.host", "--entry", f"rogue_engines:{entry}"]
            command += ["--parent", str(parent or os.getpid()), "--path", str(ROGUES)]
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
                    env={"HOME": str(tmp_path)}, start_new_session=True,
                )
            )  # fmt: skip
            stack.callback(process.kill)
            return Conversation(process)

        yield start


def separate(request: SeparationRequest, number: int, **params: Any) -> protocol.Separate:
    values = {"steps": 4, "pause": 0.0, "what": "value", **params}
    return protocol.Separate(
        number, str(request.input), request.frames, 2, 44100, str(request.output), ["vocals", "rest"], values
    )


def test_says_hello_before_it_imports_the_engine(talk: Any) -> None:
    host = talk("NoSuchEngine")
    hello = host.hear()
    assert (hello.protocol, hello.pid, hello.entry) == (1, host.process.pid, "rogue_engines:NoSuchEngine")
    host.say(protocol.Load(1, "m", "", "cpu"))
    failure = host.hear()
    assert (failure.kind, failure.code, failure.fatal) == ("engine", "E_PLUGIN", False)
    host.say(protocol.Shutdown())
    assert host.process.wait(60) == 0


def test_a_line_that_is_no_request_is_answered_and_survived(talk: Any) -> None:
    host = talk("Echo")
    host.hear()
    for garbage in (b"hello?\n", b'{"op":"dance"}\n', b'{"op":"ping"}\n', b"[]\n"):
        host.say(garbage)
        failure = host.hear()
        assert (failure.id, failure.code) == (0, "E_ENGINE_PROTOCOL")
    host.say(protocol.Ping(5))
    assert host.hear() == protocol.Pong(5)


def test_nothing_is_separated_before_a_model_is_loaded(talk: Any, request_for: Any) -> None:
    host = talk("Echo")
    host.hear()
    host.say(separate(request_for(), 1))
    assert (host.hear().kind) == "model"


def test_pings_and_stats_are_answered_while_it_works(talk: Any, request_for: Any) -> None:
    host = talk("Polite")
    host.hear()
    host.say(protocol.Load(1, "m", "", "cpu"))
    assert host.hear().id == 1
    host.say(separate(request_for(), 2))
    assert host.hear().done == 1
    host.say(protocol.Ping(3))
    assert host.hear() == protocol.Pong(3)
    host.say(protocol.GetStats(4))
    assert host.hear().uptime_seconds > 0
    host.say(protocol.Cancel(2))
    assert host.hear() == protocol.CancelledEvent(2)


@pytest.mark.parametrize("busy", [False, True])
def test_the_end_of_its_input_is_the_end_of_it(talk: Any, request_for: Any, *, busy: bool) -> None:
    host = talk("Hanging")
    host.hear()
    host.say(protocol.Load(1, "m", "", "cpu"))
    host.hear()
    if busy:
        host.say(separate(request_for(), 2))
        assert host.hear().done == 1
    host.stdin.close()
    assert host.process.wait(60) in {0, -9}


def test_a_parent_that_does_not_read_any_more_ends_it(talk: Any, request_for: Any) -> None:
    host = talk("Stuck")
    host.hear()
    host.say(protocol.Load(1, "m", "", "cpu"))
    host.hear()
    host.say(separate(request_for(), 2))
    host.stdout.close()
    assert host.process.wait(60) in {0, -9}


def test_a_parent_that_is_gone_already_means_no_host(talk: Any) -> None:
    host = talk("Echo", parent=1 << 22)
    assert host.stdout.read() == b""
    assert host.process.wait(60) == 0


def test_it_exits_for_good_when_memory_ran_out(talk: Any, request_for: Any) -> None:
    host = talk("Raising")
    host.hear()
    host.say(protocol.Load(1, "m", "", "cpu"))
    host.hear()
    host.say(separate(request_for(), 2, what="memory"))
    events = [json.loads(line) for line in host.stdout]
    assert (events[-1]["kind"], events[-1]["fatal"]) == ("oom", True)
    assert host.process.wait(60) == protocol.EXIT_OUT_OF_MEMORY
