"""`PrefectExecutor` against a server that misbehaves: a real HTTP server on loopback, no Prefect."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from ironclad.errors import PrefectRefused, PrefectUnavailable
from ironclad.jobs.executor import FlowRequest, RunState
from ironclad_flows import executor as executor_module
from ironclad_flows.executor import PrefectExecutor
from ironclad_flows.wake import WakeSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass
class Script:
    """What the server answers, in order; the last answer is repeated."""

    answers: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    pause: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    def next(self) -> tuple[int, bytes]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def script() -> Script:
    return Script([(200, b"{}")])


@pytest.fixture
def executor(script: Script) -> Iterator[PrefectExecutor]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.requests.append((self.command, self.path))
            script.over.wait(script.pause)
            status, body = script.next()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with PrefectExecutor(f"http://127.0.0.1:{server.server_port}/api") as executor:
            yield executor
        script.over.set()
        server.shutdown()
        thread.join()


def run(state: str) -> bytes:
    return json.dumps({"id": "r1", "state": {"type": state}}).encode()


@pytest.mark.parametrize("status", [400, 401, 409, 422, 429, 500, 502])
def test_an_error_status_is_prefect_unavailable_with_its_text(
    executor: PrefectExecutor, script: Script, status: int
) -> None:
    script.answers = [(status, b"because")]
    with pytest.raises(PrefectUnavailable, match=rf"{status} because"):
        executor.state("r1")


def wanted() -> FlowRequest:
    return FlowRequest(
        job_uuid=uuid.uuid4(), attempt=1, stage="validate", pool="cpu", key="k", name="Ana - Blue", tags=("user:ana",)
    )


DEPLOYED = [(200, b"{}"), (200, b"{}"), (200, b'{"id": "f"}'), (200, b'{"id": "d"}')]
"""The answers to: is there the pool, update it, the flow, the deployment."""


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_a_refused_run_is_the_jobs_affair(executor: PrefectExecutor, script: Script, status: int) -> None:
    script.answers = [*DEPLOYED, (status, b"because")]
    with pytest.raises(PrefectRefused, match=rf"{status} because"):
        executor.submit(wanted())
    assert [path.rsplit("/", 1)[1] for _, path in script.requests][-2:] == ["create_flow_run"] * 2


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500])
def test_what_is_not_about_the_run_is_not(executor: PrefectExecutor, script: Script, status: int) -> None:
    script.answers = [*DEPLOYED, (status, b"because")]
    with pytest.raises(PrefectUnavailable, match=rf"{status} because") as raised:
        executor.submit(wanted())
    assert not isinstance(raised.value, PrefectRefused)
    assert len(script.requests) == len(DEPLOYED) + 1


def test_a_name_that_is_not_taken_costs_the_job_its_name_only(executor: PrefectExecutor, script: Script) -> None:
    script.answers = [*DEPLOYED, (422, b"name"), (201, b'{"id": "r1"}')]
    assert executor.submit(wanted()) == "r1"


@pytest.mark.parametrize("body", [b"<html>", b"{", b"\xff\xfe"])
def test_an_answer_that_is_no_json_is_prefect_unavailable(
    executor: PrefectExecutor, script: Script, body: bytes
) -> None:
    script.answers = [(200, body)]
    with pytest.raises(PrefectUnavailable):
        executor.state("r1")


def test_a_busy_database_is_asked_again(executor: PrefectExecutor, script: Script) -> None:
    script.answers = [(503, b"busy"), (503, b"busy"), (200, run("RUNNING"))]
    assert executor.state("r1") is RunState.RUNNING
    assert len(script.requests) == 3


def test_a_database_that_stays_busy_is_prefect_unavailable(
    executor: PrefectExecutor, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(executor_module, "_LAST_PAUSE", 0.01)
    script.answers = [(503, b"busy")]
    with pytest.raises(PrefectUnavailable, match="503 busy"):
        executor.state("r1")
    assert len(script.requests) == 5


def test_a_server_that_does_not_answer_is_given_up(
    executor: PrefectExecutor, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "_REQUEST_SECONDS", 0.05)
    script.pause = 60.0
    with pytest.raises(PrefectUnavailable, match="ReadTimeout"):
        executor.state("r1")


def test_all_requests_of_a_call_share_one_deadline(
    executor: PrefectExecutor, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "CALL_SECONDS", 0.2)
    script.pause = 0.06
    script.answers = [(200, b'{"id": "x"}')]
    with pytest.raises(PrefectUnavailable):
        executor.prepare({f"pool{number}": 1 for number in range(20)})
    assert len(script.requests) < 20


def test_a_dispatched_run_wakes_the_workers_of_its_pool(
    script: Script, executor: PrefectExecutor, tmp_path: Path
) -> None:
    script.answers = [(200, json.dumps({"id": "d1", "state": {"type": "SCHEDULED"}}).encode())]
    listening = WakeSocket(tmp_path, "cpu")
    executor._run_dir = tmp_path
    executor.submit(FlowRequest(uuid.uuid4(), 1, "validate", "cpu", "key", "A - B"))
    assert listening._socket.recv(1) == b""
    listening.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda executor: executor.cancel("gone"),
        lambda executor: executor.abandon("gone", "why"),
    ],
)
def test_ending_what_is_gone_is_fine(
    executor: PrefectExecutor, script: Script, call: Callable[[PrefectExecutor], None]
) -> None:
    script.answers = [(404, b"{}")]
    call(executor)


def test_the_executor_imports_neither_prefect_nor_sqlalchemy() -> None:
    code = (
        "import sys; import ironclad_flows.executor; "
        "print([m for m in ('prefect', 'sqlalchemy', 'pydantic', 'anyio._backends') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
