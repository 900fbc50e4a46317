"""What the parent makes of what a child says and of how it ends, without starting one."""

from __future__ import annotations

import errno
import json
import signal

import pytest

from ironclad.errors import (
    CorruptAudio,
    DecodedTooLarge,
    DecodeLimit,
    DiskFull,
    IroncladError,
    NotAudio,
    OutOfMemory,
    StorageError,
    Unexpected,
)
from ironclad.sandbox import SandboxLimits
from ironclad.sandbox.child import _translate
from ironclad.sandbox.parent import _Conversation, _judge


def talk(*said: bytes, limits: SandboxLimits | None = None) -> tuple[_Conversation, list[float]]:
    seen: list[float] = []
    conversation = _Conversation(limits or SandboxLimits(), seen.append)
    for data in said:
        conversation.heard(data)
    return conversation, seen


def line(**message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


def test_lines_arrive_in_any_pieces() -> None:
    data = line(progress=0.25) + line(progress=1) + line(result={"a": "b"})
    conversation, seen = talk(*(data[i : i + 1] for i in range(len(data))))
    assert seen == [0.25, 1.0]
    assert conversation.result == {"a": "b"}


def test_progress_without_a_listener_is_dropped() -> None:
    conversation = _Conversation(SandboxLimits(), None)
    conversation.heard(line(progress=0.5))
    assert conversation.result is None


@pytest.mark.parametrize(
    "said",
    [
        b"not json\n",
        b"\xff\xfe\n",
        line(result=[1]),
        line(hello=1),
        line(progress="half"),
        line(error={"code": "E_TOO_LONG"}),
        line(error={"code": 3, "detail": "", "context": {}}),
        b"[]\n",
    ],
)
def test_anything_outside_the_protocol_is_unexpected(said: bytes) -> None:
    with pytest.raises(Unexpected):
        talk(said)


def test_an_endless_line_is_cut_off() -> None:
    with pytest.raises(Unexpected, match="longer than 100 bytes"):
        talk(b"x" * 60, b"x" * 60, limits=SandboxLimits(reply_bytes=100))


def test_only_the_end_of_stderr_is_kept() -> None:
    conversation, _ = talk()
    for _ in range(100):
        conversation.complained(b"noise" * 100)
    conversation.complained(b"the reason")
    assert conversation.stderr.endswith(b"the reason")
    assert len(conversation.stderr) <= 2000


@pytest.mark.parametrize(
    ("status", "expected", "detail"),
    [
        (-signal.SIGXCPU, DecodeLimit, "processor time"),
        (-signal.SIGKILL, OutOfMemory, "killed"),
        (-signal.SIGSEGV, CorruptAudio, "SIGSEGV"),
        (-signal.SIGABRT, CorruptAudio, "SIGABRT"),
        (1, Unexpected, "status 1"),
        (0, Unexpected, "status 0"),
    ],
)
def test_how_a_silent_child_ends_decides_the_class(status: int, expected: type[IroncladError], detail: str) -> None:
    conversation, _ = talk()
    with pytest.raises(expected, match=detail):
        _judge(status, conversation)


def test_a_result_counts_only_if_the_child_ended_well() -> None:
    conversation, _ = talk(line(result={"frames": 3}))
    assert _judge(0, conversation) == {"frames": 3}
    with pytest.raises(CorruptAudio):
        _judge(-signal.SIGSEGV, conversation)


def test_memory_that_runs_out_outside_the_target_is_a_limit() -> None:
    conversation, _ = talk()
    conversation.complained(b"Traceback ...\nMemoryError\n")
    with pytest.raises(DecodeLimit, match="bytes of memory"):
        _judge(1, conversation)


def test_a_reported_error_comes_back_as_its_class_with_context() -> None:
    conversation, _ = talk(line(error={"code": "E_NOT_AUDIO", "detail": "text", "context": {"size": 3}}))
    with pytest.raises(NotAudio) as caught:
        _judge(0, conversation)
    assert caught.value.detail == "text"
    assert caught.value.context == {"size": 3}


@pytest.mark.parametrize("code", ["E_CANCELLED", "E_LEASE_LOST", "E_CONFIG", "E_UNHEARD_OF", "E_UNEXPECTED"])
def test_a_child_cannot_report_what_is_not_its_business(code: str) -> None:
    conversation, _ = talk(line(error={"code": code, "detail": "d", "context": {}}))
    with pytest.raises(Unexpected, match=code):
        _judge(0, conversation)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (NotAudio("x"), NotAudio),
        (MemoryError(), DecodeLimit),
        (OSError(errno.ENOMEM, "m"), DecodeLimit),
        (ImportError("libx.so: failed to map segment from shared object"), DecodeLimit),
        (ImportError("no module x"), Unexpected),
        (OSError(errno.EFBIG, "f"), DecodedTooLarge),
        (OSError(errno.ENOSPC, "s", "out.f32"), DiskFull),
        (OSError(errno.EDQUOT, "q"), DiskFull),
        (OSError(errno.EIO, "i"), StorageError),
        (ValueError("v"), Unexpected),
    ],
)
def test_what_a_target_raises_is_translated(raised: Exception, expected: type[IroncladError]) -> None:
    assert type(_translate(raised)) is expected
