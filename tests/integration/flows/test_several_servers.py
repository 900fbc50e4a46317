"""Two Prefect servers on one database and one Redis: what one is told the other knows, and one may die.

Needs `redis-server` (Debian: redis-server) and the extra `redis`; skips without.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import psutil
import pytest

from ironclad_flows.server_service import server_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(400), pytest.mark.xdist_group("services"),
    pytest.mark.skipif(
        shutil.which("redis-server") is None or importlib.util.find_spec("prefect_redis") is None,
        reason="needs redis-server and prefect-redis",
    ),
]  # fmt: skip
PATIENCE = 240.0


class Port:
    """A free port that nobody else is given while a server starts: bound, though nobody listens. Close it."""

    def __init__(self) -> None:
        self._bound = socket.socket()
        self._bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server that takes it by its number
        self._bound.bind(("127.0.0.1", 0))
        self.number = int(self._bound.getsockname()[1])

    def close(self) -> None:
        self._bound.close()


def until(holds: Callable[[], object], what: str) -> None:
    """Ask what gives no event, with a deadline."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.2)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    port = Port()
    command = ["redis-server", "--port", port.number, "--bind", "127.0.0.1", "--dir", tmp_path, "--requirepass", "hush"]
    with (tmp_path / "redis.log").open("wb") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
    yield f"redis://:hush@127.0.0.1:{port.number}/0"
    process.terminate()
    process.wait(60)
    port.close()


class Server:
    """One of the two."""

    def __init__(self, folder: Path, database_url: str, redis: str) -> None:
        self.port = Port()
        folder.mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("IRON", "PREFECT"))}
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            server_command(), stdout=self.log, stderr=self.log,
            env={
                **environment, "IRONCLAD_DATA_DIR": str(folder), "IRONCLAD_DATABASE_URL": database_url,
                "IRONCLAD_PREFECT__PORT": str(self.port.number), "IRONCLAD_PREFECT__REDIS_URL": redis,
                "IRONCLAD_PREFECT__DATABASE": "postgresql",
            },
        )  # fmt: skip
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port.number}/api", timeout=60, trust_env=False)
        until(self.healthy, (folder / "log").read_text(errors="replace")[-2000:])

    def healthy(self) -> bool:
        assert self.process.poll() is None
        try:
            return self.client.get("/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def emit(self) -> str:
        """Tell it of an event; it is written to the database by whichever server reads the message."""
        event = {
            "id": str(uuid4()), "event": "ironclad.test", "occurred": datetime.now(UTC).isoformat(), "payload": {},
            "resource": {"prefect.resource.id": "ironclad.test"}, "related": [],
        }  # fmt: skip
        self.client.post("/events", json=[event]).raise_for_status()
        return str(event["id"])

    def knows(self, event: str) -> bool:
        asked = {"filter": {"id": {"id": [event]}}, "limit": 5}
        answer = self.client.post("/events/filter", json=asked).raise_for_status().json()
        return [one["id"] for one in answer["events"]] == [event]

    def end(self, number: signal.Signals) -> None:
        self.client.close()
        self.process.send_signal(number)
        self.process.wait(60)
        self.log.close()
        self.port.close()


def test_two_servers_are_one_and_one_may_die(tmp_path: Path, database_url: str, redis: str) -> None:
    first = Server(tmp_path / "first", database_url, redis)
    second = None
    try:
        second = Server(tmp_path / "second", database_url, redis)
        first.client.post("/work_pools/", json={"name": "cpu", "type": "process"}).raise_for_status()
        assert second.client.get("/work_pools/cpu").status_code == httpx.codes.OK
        told = [first.emit(), second.emit()]
        until(lambda: all(server.knows(event) for server in (first, second) for event in told), "events of both")
        for process in (first.process, second.process):
            assert "hush" not in " ".join(psutil.Process(process.pid).cmdline())
        first.end(signal.SIGKILL)
        after = second.emit()
        until(lambda: second.knows(after), "events after a server died")
        assert second.client.get("/work_pools/cpu").status_code == httpx.codes.OK
    finally:
        if first.process.poll() is None:
            first.end(signal.SIGTERM)
        if second is not None:
            second.end(signal.SIGTERM)
