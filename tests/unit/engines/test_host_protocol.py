from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.engines.host import protocol
from ironclad.engines.host.protocol import ProtocolError, decode_event, decode_request, encode_event, encode_request

REPORT = protocol.StemReport("vocals.f32", 10, 0.5, "a" * 64)
REQUESTS = [
    protocol.Load(1, "m", "/models/m", "cuda:1"),
    protocol.Separate(2, "/in.f32", 10, 2, 44100, "/out", ["vocals"], {"sharpness": 8.0, "flag": True}),
    protocol.Cancel(2),
    protocol.Ping(3),
    protocol.GetStats(4),
    protocol.Shutdown(),
]
EVENTS = [
    protocol.Hello(1, 42, "3.11.7", "2.0", "a:b"),
    protocol.Loaded(1, 0.5),
    protocol.Progress(2, 1, 4, 1024),
    protocol.Done(2, 1.5, {"vocals": REPORT}),
    protocol.CancelledEvent(2),
    protocol.Failure(2, "oom", "", "no memory left\nat all", fatal=True),
    protocol.Pong(3),
    protocol.Stats(4, 1, 2, 0.5, 10.0, 3),
]


@pytest.mark.parametrize("message", REQUESTS, ids=lambda message: message.tag)
def test_requests_survive_the_wire(message: protocol.Message) -> None:
    line = encode_request(message)
    assert line.count(b"\n") == 1
    assert decode_request(line) == message


@pytest.mark.parametrize("message", EVENTS, ids=lambda message: message.tag)
def test_events_survive_the_wire(message: protocol.Message) -> None:
    line = encode_event(message)
    assert line.count(b"\n") == 1
    assert decode_event(line) == message


def test_every_message_is_tried_above() -> None:
    assert {type(message) for message in REQUESTS} == set(protocol.REQUESTS)
    assert {type(message) for message in EVENTS} == set(protocol.EVENTS)


def test_fields_of_a_newer_peer_are_ignored() -> None:
    data = {**json.loads(encode_event(EVENTS[2])), "eta": 5}
    assert decode_event(json.dumps(data).encode() + b"\n") == EVENTS[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"Loading weights: 12%\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b"[1]\n", "not a JSON object"),
        (b"{}\n", "unknown event None"),
        (b'{"event":["hello"]}\n', "unknown event"),
        (b'{"event":"surprise"}\n', "unknown event 'surprise'"),
        (b'{"event":"pong"}\n', "no 'id'"),
        (b'{"event":"pong","id":"1"}\n', "Pong.id must be int"),
        (b'{"event":"pong","id":true}\n', "Pong.id must be int"),
        (b'{"event":"pong","id":-1}\n', "Pong.id must be int"),
        (b'{"event":"loaded","id":1,"seconds":1e999}\n', "Loaded.seconds must be float"),
        (b'{"event":"loaded","id":1,"seconds":NaN}\n', "not JSON"),
        (b'{"event":"error","id":1,"kind":"mood","code":"","message":""}\n', "unknown kind"),
        (b'{"event":"error","id":1,"kind":"oom","code":"","message":"","fatal":1}\n', "Failure.fatal must be bool"),
        (b'{"event":"done","id":1,"seconds":1,"stems":[]}\n', "Done.stems must be dict"),
        (b'{"event":"done","id":1,"seconds":1,"stems":{"vocals":3}}\n', "Done.stems must be dict"),
        (b'{"event":"done","id":1,"seconds":1,"stems":{"vocals":{"file":"a"}}}\n', "StemReport has no 'frames'"),
        (
            b'{"event":"done","id":1,"seconds":1,"stems":{"v":{"file":"a","frames":1,"peak":1,"sha256":"Z"}}}\n',
            "not a digest",
        ),
        (b'{"event":"pong","id":1}', "does not end"),
        (b'{"event":"pong","id":1' + b" " * protocol.MAX_LINE + b"}\n", "longer than"),
    ],
)
def test_what_is_not_in_the_protocol_is_refused(line: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        decode_event(line)


def test_requests_are_checked_as_well() -> None:
    with pytest.raises(ProtocolError, match=r"Separate.stems must be list\[str\]"):
        decode_request(encode_request(REQUESTS[1]).replace(b'["vocals"]', b"[1]"))


@given(st.binary(max_size=200))
def test_no_garbage_raises_anything_else(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_event(garbage + b"\n")


def test_a_number_that_is_not_finite_is_never_sent() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_event(protocol.Loaded(1, float("nan")))


def test_the_host_imports_nothing_of_the_rest_of_ironclad() -> None:
    code = (
        "import sys, ironclad.engines.host.server, ironclad.engines.host.__main__; "
        "ours = {m for m in sys.modules if m.startswith('ironclad')}; "
        "print(sorted(m for m in ours if not m.startswith('ironclad.engines.host')))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['ironclad', 'ironclad.engines']"


def test_the_centre_engine_needs_the_hosts_api_only() -> None:
    code = (
        "import sys, ironclad.engines.center; "
        "print(sorted(m for m in sys.modules if m.startswith('ironclad')))"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    expected = [
        "ironclad",
        "ironclad.engines",
        "ironclad.engines.center",
        "ironclad.engines.host",
        "ironclad.engines.host.api",
    ]
    assert done.stdout.strip() == str(expected)
