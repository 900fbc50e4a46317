"""The protocol between Ironclad and an engine host: one JSON object a line on the host's standard input and output.

A request carries `op`, an event carries `event`; both carry the `id` of the request they belong to. The host speaks
first (`hello`). Fields that a reader does not know are ignored, so that fields can be added; everything else that is
not as written here is a `ProtocolError`. Audio never travels on the pipe: it lies in files of raw float32 samples,
little-endian, channels interleaved.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

PROTOCOL = 1
"""Version of the protocol: it changes when an older reader would misunderstand."""

MAX_LINE = 1 << 20
"""Longest line in bytes, newline included."""

EXIT_OUT_OF_MEMORY = 75
"""Exit status of a host that ran out of memory: the state of its heap is unknown, so it ends."""

KINDS = frozenset({"oom", "model", "input", "storage", "engine"})
"""What can be wrong: memory, the model, the recording, the disk, or the engine itself."""

_DIGEST_LENGTH = 64


class ProtocolError(ValueError):
    """A line that is not in the protocol."""


@dataclass(frozen=True)
class Message:
    """Base of requests and events: `tag` is the value of `op` or `event`."""

    tag: ClassVar[str]


# --- requests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load(Message):
    """Load a model on a device; `folder` holds its files ("" where it has none)."""

    tag: ClassVar[str] = "load"
    id: int
    model: str
    folder: str
    device: str


@dataclass(frozen=True)
class Separate(Message):
    """Separate the file `input` into `output`/STEM.f32, the stems in `stems` only.

    `resume` frames of each are in `output`/STEM.f32.part; an engine that cannot go on from there begins anew. With
    `keep` these files stay when the separation does not end well.
    """

    tag: ClassVar[str] = "separate"
    id: int
    input: str
    frames: int
    channels: int
    rate: int
    output: str
    stems: list[str]
    params: dict[str, Any] = field(default_factory=dict)
    resume: int = 0
    keep: bool = False


@dataclass(frozen=True)
class Cancel(Message):
    """Stop the separation `id`; one that has ended is fine."""

    tag: ClassVar[str] = "cancel"
    id: int


@dataclass(frozen=True)
class Ping(Message):
    """Ask for a sign of life; answered at once, during a separation too."""

    tag: ClassVar[str] = "ping"
    id: int


@dataclass(frozen=True)
class GetStats(Message):
    """Ask for resource use; answered at once, during a separation too."""

    tag: ClassVar[str] = "stats"
    id: int


@dataclass(frozen=True)
class Shutdown(Message):
    """Exit when the running separation has ended."""

    tag: ClassVar[str] = "shutdown"


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello(Message):
    """The host is up; the engine is imported at the first `load`."""

    tag: ClassVar[str] = "hello"
    protocol: int
    pid: int
    python: str
    numpy: str
    entry: str


@dataclass(frozen=True)
class Loaded(Message):
    """The model is ready."""

    tag: ClassVar[str] = "loaded"
    id: int
    seconds: float


@dataclass(frozen=True)
class Progress(Message):
    """`done` of `total` units of work; `written` frames of every stem are in the files and will not change."""

    tag: ClassVar[str] = "progress"
    id: int
    done: int
    total: int
    written: int


@dataclass(frozen=True)
class StemReport:
    """One finished file: frames per channel, absolute peak (1.0 is full scale), SHA-256 of its bytes."""

    file: str
    frames: int
    peak: float
    sha256: str


@dataclass(frozen=True)
class Done(Message):
    """The stems are complete, on disk, under their final names.

    `resumed` frames of them were there before. Memory in bytes, 0 where it is not known: resident now and at its peak
    in this separation, and the same on the device. `backend`: what ran the networks, where the engine tells.
    """

    tag: ClassVar[str] = "done"
    id: int
    seconds: float
    stems: dict[str, StemReport]
    resumed: int = 0
    rss: int = 0
    peak_rss: int = 0
    device_bytes: int = 0
    device_peak_bytes: int = 0
    backend: str = ""


@dataclass(frozen=True)
class CancelledEvent(Message):
    """The separation stopped because it was asked to."""

    tag: ClassVar[str] = "cancelled"
    id: int


@dataclass(frozen=True)
class Failure(Message):
    """The request failed; `code` is one of Ironclad's error codes or "". After a fatal one the host exits."""

    tag: ClassVar[str] = "error"
    id: int
    kind: str
    code: str
    message: str
    fatal: bool = False


@dataclass(frozen=True)
class Pong(Message):
    """Alive."""

    tag: ClassVar[str] = "pong"
    id: int


@dataclass(frozen=True)
class Stats(Message):
    """Resident and peak memory in bytes, processor and wall seconds since the start, separations finished."""

    tag: ClassVar[str] = "stats"
    id: int
    rss: int
    peak_rss: int
    cpu_seconds: float
    uptime_seconds: float
    jobs: int


REQUESTS = (Load, Separate, Cancel, Ping, GetStats, Shutdown)
EVENTS = (Hello, Loaded, Progress, Done, CancelledEvent, Failure, Pong, Stats)


def encode_request(message: Message) -> bytes:
    """One line for the host."""
    return _encode("op", message)


def encode_event(message: Message) -> bytes:
    """One line for the client."""
    return _encode("event", message)


def decode_request(line: bytes) -> Message:
    """The request in a line. Raises `ProtocolError`."""
    return _decode("op", line, {message.tag: message for message in REQUESTS})


def decode_event(line: bytes) -> Message:
    """The event in a line. Raises `ProtocolError`."""
    message = _decode("event", line, {event.tag: event for event in EVENTS})
    if isinstance(message, Failure) and message.kind not in KINDS:
        raise ProtocolError(f"unknown kind of error {message.kind!r}")
    return message


def _encode(key: str, message: Message) -> bytes:
    data = {key: message.tag, **dataclasses.asdict(message)}
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _decode(key: str, line: bytes, known: dict[str, type[Message]]) -> Message:
    if len(line) > MAX_LINE or not line.endswith(b"\n"):
        raise ProtocolError(f"a line is longer than {MAX_LINE} bytes or does not end: {line[:80]!r}")
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"not JSON: {line[:80]!r}") from exc
    if not isinstance(data, dict):
        raise ProtocolError(f"not a JSON object: {line[:80]!r}")
    tag = data.get(key)
    if not isinstance(tag, str) or tag not in known:
        raise ProtocolError(f"unknown {key} {tag!r}")
    message: Message = _build(known[tag], data)
    return message


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _build(cls: type[Any], data: dict[str, Any]) -> Any:
    """An instance from JSON data, every field checked against its declared type."""
    values = {}
    for spec in dataclasses.fields(cls):
        if spec.name in data:
            values[spec.name] = _checked(f"{cls.__name__}.{spec.name}", str(spec.type), data[spec.name])
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise ProtocolError(f"{cls.__name__} has no {spec.name!r}")
    if isinstance(values.get("sha256"), str) and not _is_digest(values["sha256"]):
        raise ProtocolError(f"{cls.__name__}.sha256 is not a digest")
    return cls(**values)


def _checked(name: str, declared: str, value: Any) -> Any:
    if declared == "dict[str, StemReport]" and isinstance(value, dict):
        return {stem: _build(StemReport, _checked(name, "dict[str, Any]", report)) for stem, report in value.items()}
    declared = "dict[str, Any]" if declared.startswith("dict") else declared
    if not _fits(declared, value):
        raise ProtocolError(f"{name} must be {declared}, not {str(value)[:80]!r}")
    return value


def _fits(declared: str, value: Any) -> bool:
    if declared == "int":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if declared == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
    if declared == "list[str]":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, {"str": str, "bool": bool, "dict[str, Any]": dict}[declared])


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST_LENGTH and all(digit in "0123456789abcdef" for digit in text)
