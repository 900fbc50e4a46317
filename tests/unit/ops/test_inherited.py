"""Sockets that a service manager hands over, as a process started by one finds them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

TELL = """
import json, os
from ironclad.ops import inherited
found = inherited.sockets()
print(json.dumps({
    "found": {
        name: [one.getsockname()[1], os.get_inheritable(one.fileno()), one.fileno()] for name, one in found.items()
    },
    "left": sorted(name for name in os.environ if name.startswith("LISTEN_")),
    "again": len(inherited.sockets()),
}))
"""


def told(*descriptors: int, names: str, pid: str = "$$") -> dict[str, object]:
    """What a process says that has these descriptors from 3 on, and the variables that go with them."""
    moves = " ".join(f"{3 + index}<&{fd}" for index, fd in enumerate(descriptors))
    line = f'LISTEN_PID={pid} LISTEN_FDS={len(descriptors)} LISTEN_FDNAMES={names} exec "$0" -c "$1" {moves}'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, TELL], pass_fds=descriptors, capture_output=True, check=True, timeout=60
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_sockets_have_their_names_and_go_no_further() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        answer = told(first.fileno(), second.fileno(), names="health:other")
        ports = first.getsockname()[1], second.getsockname()[1]
    assert answer["found"] == {"health": [ports[0], False, 3], "other": [ports[1], False, 4]}
    assert (answer["left"], answer["again"]) == ([], 0)


def test_what_was_meant_for_another_process_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert told(sock.fileno(), names="health", pid="1")["found"] == {}


@pytest.mark.parametrize("count", ["", "two", "-1"])
def test_nonsense_is_no_socket(count: str) -> None:
    line = f'LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES=health exec "$0" -c "$1"'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, TELL], capture_output=True, check=True, timeout=60
    )  # fmt: skip
    assert json.loads(done.stdout)["found"] == {}


def test_a_descriptor_of_another_kind_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        answer = told(2, sock.fileno(), names="health:other")
        assert answer["found"] == {"other": [sock.getsockname()[1], False, 4]}
