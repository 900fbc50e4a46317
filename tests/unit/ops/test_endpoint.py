from __future__ import annotations

import http.client
import json
import socket
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from ironclad.errors import PortInUse
from ironclad.ops.endpoint import Endpoint, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUICK = 0.3
PATIENT = 60.0


def fails() -> Reply:
    raise ZeroDivisionError("a bug")


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    paths: dict[str, Callable[[], Reply]] = {
        "/health": lambda: Reply(HTTPStatus.SERVICE_UNAVAILABLE, b'{"ready": false}'),
        "/metrics": lambda: Reply(HTTPStatus.OK, b"text", "text/plain"),
        "/bug": fails,
    }
    endpoint = Endpoint("127.0.0.1", 0, paths, seconds=PATIENT)
    yield endpoint
    endpoint.close()


def patience(endpoint: Endpoint, seconds: float) -> None:
    """What clients are given from now on. Short only for those who shall be dropped: a good one may be slow, too."""
    endpoint._server.seconds = seconds


def ask(endpoint: Endpoint, method: str, path: str) -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=60)
    connection.request(method, path)
    reply = connection.getresponse()
    answer = reply.status, reply.read(), reply.getheader("Content-Type")
    connection.close()
    return answer


def raw(endpoint: Endpoint, data: bytes) -> bytes:
    """What comes back until the server closes."""
    with socket.create_connection((endpoint.host, endpoint.port), timeout=60) as client:
        client.sendall(data)
        answer = b""
        try:
            while more := client.recv(4096):
                answer += more
        except ConnectionResetError:
            pass
        return answer


def test_answers(endpoint: Endpoint) -> None:
    assert ask(endpoint, "GET", "/health?verbose=1") == (503, b'{"ready": false}', "application/json")
    assert ask(endpoint, "GET", "/metrics") == (200, b"text", "text/plain")
    assert ask(endpoint, "HEAD", "/metrics") == (200, b"", "text/plain")
    assert ask(endpoint, "GET", "/etc/passwd")[0] == HTTPStatus.NOT_FOUND


def test_other_methods_are_refused(endpoint: Endpoint) -> None:
    assert ask(endpoint, "POST", "/health")[0] == HTTPStatus.NOT_IMPLEMENTED


def test_a_bug_in_a_path_is_an_error_answer_and_the_endpoint_goes_on(endpoint: Endpoint) -> None:
    status, body, _ = ask(endpoint, "GET", "/bug")
    assert (status, json.loads(body)) == (500, {"error": "ZeroDivisionError"})
    assert ask(endpoint, "GET", "/metrics")[0] == HTTPStatus.OK


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: x", b"GET /" + b"x" * 20_000])
def test_a_client_that_sends_too_little_or_too_much_is_dropped(endpoint: Endpoint, data: bytes) -> None:
    patience(endpoint, QUICK)
    assert raw(endpoint, data) == b""
    patience(endpoint, PATIENT)
    assert ask(endpoint, "GET", "/metrics")[0] == HTTPStatus.OK


def test_slow_clients_do_not_keep_others_out_for_ever(endpoint: Endpoint) -> None:
    patience(endpoint, QUICK)
    idle = [socket.create_connection((endpoint.host, endpoint.port)) for _ in range(8)]
    for client in idle:  # each is dropped after its time
        client.settimeout(60)
        assert client.recv(1) == b""
        client.close()
    patience(endpoint, PATIENT)
    assert ask(endpoint, "GET", "/metrics")[0] == HTTPStatus.OK


def test_more_clients_than_slots_are_turned_away_at_once() -> None:
    inside, go_on = threading.Semaphore(0), threading.Event()

    def wait() -> Reply:
        inside.release()
        go_on.wait(60)
        return Reply(HTTPStatus.OK, b"")

    endpoint = Endpoint("127.0.0.1", 0, {"/": wait}, seconds=PATIENT)
    clients = [socket.create_connection((endpoint.host, endpoint.port)) for _ in range(8)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert inside.acquire(timeout=60)
    assert raw(endpoint, b"GET / HTTP/1.0\r\n\r\n") == b""
    go_on.set()
    for client in clients:
        assert client.recv(100).startswith(b"HTTP/1.0 200")
        client.close()
    endpoint.close()


def test_clients_for_whom_no_thread_could_be_started_take_no_slot(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for _ in range(20):  # more than there are slots
            with socket.create_connection(("127.0.0.1", endpoint.port), timeout=PATIENT) as client:
                assert client.recv(1) == b""
    assert ask(endpoint, "GET", "/metrics")[0] == HTTPStatus.OK


def test_a_taken_port_has_its_own_error(endpoint: Endpoint) -> None:
    with pytest.raises(PortInUse) as error:
        Endpoint("127.0.0.1", endpoint.port, {})
    assert error.value.context["port"] == endpoint.port


def test_it_answers_on_a_socket_that_it_is_given_and_leaves_that_to_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as owner:
        endpoint = Endpoint("192.0.2.1", 1, {"/": lambda: Reply(HTTPStatus.OK, b"here")}, listening=owner.dup())
        assert (endpoint.host, endpoint.port) == owner.getsockname()
        assert ask(endpoint, "GET", "/")[1] == b"here"
        endpoint.close()
        with socket.create_connection(owner.getsockname(), timeout=60) as late:
            second = Endpoint("192.0.2.1", 1, {"/": lambda: Reply(HTTPStatus.OK, b"next")}, listening=owner.dup())
            late.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert late.makefile("rb").read().endswith(b"next"), "who comes between two is answered by the next"
            second.close()


def test_a_closed_endpoint_frees_its_port() -> None:
    first = Endpoint("127.0.0.1", 0, {})
    first.close()
    second = Endpoint("127.0.0.1", first.port, {})
    second.close()
