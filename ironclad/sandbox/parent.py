"""The parent's side: start the child, watch it, translate how it ended."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ironclad.errors import (
    CATALOGUE,
    CorruptAudio,
    DecodeLimit,
    DiskFull,
    InputError,
    IroncladError,
    OutOfMemory,
    StorageError,
    Unexpected,
)
from ironclad.sandbox import nursery
from ironclad.sandbox.direct import DirectChild
from ironclad.sandbox.running import NotStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.sandbox.limits import SandboxLimits
    from ironclad.sandbox.running import Running

_POLL_SECONDS = 0.1
_READ = 1 << 16
_STDERR_TAIL = 2000
_EXIT_SECONDS = 30.0
_MAY_REPORT = (InputError, DecodeLimit, OutOfMemory, DiskFull, StorageError)
_WAYS: tuple[Callable[[dict[str, Any]], Running], ...] = (nursery.start, nursery.start, DirectChild)
"""How a child comes to be, in the order in which it is tried: a fork server that has gone is started anew, once."""


@dataclass(slots=True)
class _Conversation:
    """What the child may say, and what it has said so far."""

    limits: SandboxLimits
    progress: Callable[[float], None] | None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    pending: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    def heard(self, data: bytes) -> None:
        """Interpret the complete lines among the bytes received on stdout."""
        while (end := data.find(b"\n")) >= 0:
            self._understood(bytes(self.pending + data[:end]))
            self.pending.clear()
            data = data[end + 1 :]
        self.pending += data
        if len(self.pending) > self.limits.reply_bytes:
            raise Unexpected(f"the reply is longer than {self.limits.reply_bytes} bytes")

    def _understood(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError as exc:
            raise Unexpected("the child did not answer in JSON") from exc
        match message:
            case {"progress": float() | int() as fraction}:
                if self.progress is not None:
                    self.progress(float(fraction))
            case {"result": dict() as result}:
                self.result = result
            case {"error": {"code": str(), "detail": str(), "context": dict()} as error}:
                self.error = error
            case _:
                raise Unexpected("the child answered outside the protocol")

    def complained(self, data: bytes) -> None:
        """Keep the end of what it wrote to stderr."""
        self.stderr = (self.stderr + data)[-_STDERR_TAIL:]


def run(
    target: str,
    request: dict[str, Any],
    limits: SandboxLimits,
    *,
    progress: Callable[[float], None] | None = None,
    check: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Call `target` ("package.module:function") with `request` in a limited child process and return its result.

    The function is called as `function(request, report)`, where `report(fraction)` reaches `progress`; request and
    result must be JSON data. `check` is called about ten times a second; what it raises (`Cancelled`, `LeaseLost`, …)
    kills the child's whole process group and goes through.

    Raises the `InputError`, `DecodeLimit`, `DiskFull` or `StorageError` that the function raised; `DecodeLimit` when
    the child ran into a limit; `OutOfMemory` when something else (the kernel, most likely) killed it; `CorruptAudio`
    when it crashed; `Unexpected` for anything else.
    """
    order = {"target": target, "request": request, "limits": asdict(limits)}
    deadline = time.monotonic() + limits.wall_seconds
    for start in _WAYS:
        talk = _Conversation(limits, progress)
        try:
            child = start(order)
        except NotStarted:
            continue
        code = _listen(child, talk, deadline, check)
        if code is not None:
            return _judge(code, talk)
    raise Unexpected("no child could be started")


def _listen(
    child: Running, talk: _Conversation, deadline: float, check: Callable[[], None] | None
) -> int | None:  # fmt: skip
    """Hear the child out; returns its exit code, None if it did not even begin."""
    try:
        while not child.begun(_POLL_SECONDS):
            _go_on(talk, deadline, check)
        _converse(child, talk, deadline, check)
        if not child.wait(_EXIT_SECONDS):
            raise DecodeLimit("it closed its pipes and did not end")
    finally:
        code = child.end()
    return code


def _converse(child: Running, talk: _Conversation, deadline: float, check: Callable[[], None] | None) -> None:
    """Read both pipes until the child has closed them, or has ended and left them to a process of its own."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, talk.heard)
        selector.register(child.stderr, selectors.EVENT_READ, talk.complained)
        while selector.get_map():
            _go_on(talk, deadline, check)
            ended = child.ended()  # asked first: all that it wrote before its end is then there to be read
            ready = selector.select(0 if ended else _POLL_SECONDS)
            if not ready and ended:
                return
            for key, _ in ready:
                if data := os.read(key.fd, _READ):
                    key.data(data)
                else:
                    selector.unregister(key.fileobj)


def _go_on(talk: _Conversation, deadline: float, check: Callable[[], None] | None) -> None:
    """Raise what `check` does, and `DecodeLimit` when the time is up."""
    if check is not None:
        check()
    if time.monotonic() > deadline:
        raise DecodeLimit(f"{talk.limits.wall_seconds:g} s on the clock")


def _judge(returncode: int, talk: _Conversation) -> dict[str, Any]:
    """The result, or the error that the child's end stands for."""
    if returncode == 0 and talk.error is not None:
        raise _reported(talk.error)
    if returncode == 0 and talk.result is not None:
        return talk.result
    if returncode == -signal.SIGXCPU:
        raise DecodeLimit(f"{talk.limits.cpu_seconds} s of processor time")
    if returncode == -signal.SIGKILL:
        raise OutOfMemory("the decoder was killed, most likely by the kernel for want of memory")
    tail = talk.stderr.decode("utf-8", "replace")
    if b"MemoryError" in talk.stderr:
        raise DecodeLimit(f"{talk.limits.memory_bytes} bytes of memory")
    if returncode < 0:
        name = signal.Signals(-returncode).name
        raise CorruptAudio(f"the decoder crashed with {name}", signal=name)
    raise Unexpected(f"the child ended with status {returncode}: {tail}")


def _reported(error: dict[str, Any]) -> IroncladError:
    """The child's error; one that a child has no business to report becomes `Unexpected`."""
    entry = CATALOGUE.get(error["code"])
    if entry is None or not issubclass(entry, _MAY_REPORT):
        return Unexpected(f"{error['code']}: {error['detail']}", **error["context"])
    return entry(error["detail"], **error["context"])
