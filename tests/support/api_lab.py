"""The control API as its clients meet it: the real service on a real socket, in a thread of the test's process."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self, TypeVar

import blake3
import httpx

from ironclad.access import tokens
from ironclad.access.roles import Role
from ironclad.api.service import ApiService
from ironclad.db.tables import Artifact
from ironclad.jobs import control, submit
from ironclad.jobs.ids import uuid7
from ironclad.ops.service import ServiceRuntime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from uuid import UUID

    from ironclad.config import Settings
    from ironclad.db.session import Database

PATIENCE = 60.0
T = TypeVar("T")


class Served:
    """The service, started by `with`; its clients have the address and a deadline that no healthy answer needs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.runtime = ServiceRuntime("api", settings, heartbeat=False)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failure: BaseException | None = None

    def _run(self) -> None:
        try:
            with self.runtime:
                announce = self.runtime.ready

                def ready() -> None:
                    announce()
                    self._ready.set()

                self.runtime.ready = ready  # type: ignore[method-assign]  # heard here, too
                ApiService().run(self.runtime)
        except BaseException as exc:  # noqa: BLE001 - for the test
            self.failure = exc
        finally:
            self._ready.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        if self.failure is not None:
            raise self.failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """As SIGTERM does."""
        self.runtime.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        """Where it answers."""
        return str(self.runtime.facts["api"])

    def client(self, secret: str | None = None) -> httpx.Client:
        """A client with a token or without; close it."""
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False)


class Process:
    """`ironclad run api` as systemd starts it, in a process of its own. A context manager; killed at the end."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = {**environment, "IRONCLAD_API__PORT": "0", "PATH": "/usr/bin:/bin"}
        self.url = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ironclad.cli.main", "run", "api"], env=self._environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(lines,))
        self._reader.start()
        seen = []
        while not self.url:
            seen.append(line := lines.get(timeout=PATIENCE))
            assert line, "".join(seen)
            if '"api_listening"' in line:
                self.url = json.loads(line)["url"]
        return self

    def _read(self, lines: queue.Queue[str]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                lines.put(line)
        lines.put("")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)


class Halfway:
    """An upload by hand over a socket, which sends a part of what it announces."""

    def __init__(self, url: str, secret: str, announced: int, sent: int) -> None:
        address = url.removeprefix("http://").split(":")
        self.sock = socket.create_connection((address[0], int(address[1])), PATIENCE)
        head = (
            f"POST /v1/songs?name=a.flac HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
            f"Content-Length: {announced}\r\n\r\n"
        )
        self.sock.sendall(head.encode() + b"x" * sent)

    def answer(self) -> bytes:
        """All that comes until the server closes; with a reset, if it has not taken in all that was sent."""
        answer = b""
        with self.sock as sock, contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                answer += part
        return answer


def arrived(settings: Settings, least: int) -> Path:
    """Wait until so much of an upload is on disk; returns the file."""
    return until(
        lambda: next((path for path in settings.layout.uploads.glob(".*.part/*") if path.stat().st_size >= least), None)
    )


def until(look: Callable[[], T | None]) -> T:
    """Look until there is something: what happens in another process or thread gives no event to wait for."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        found = look()
        if found:
            return found
        pause.wait(0.02)
    raise AssertionError("not in time")


def token(database: Database, role: Role = Role.SUBMIT, user: str = "ana", label: str = "kitchen") -> str:
    """The secret of a new token."""
    with database.session() as session:
        return tokens.create(session, user_id=user, role=role, label=label)[1]


def job(database: Database, settings: Settings, user: str = "ana", *, settled: bool = False) -> UUID:
    """A job that waits in the queue, or was cancelled."""
    file = settings.layout.input / f"{secrets.token_hex(4)}.flac"
    file.write_bytes(file.name.encode())
    new = submit.NewJob(user_id=user, source=file, stat=file.stat(), relative_path=file.name)
    with database.session() as session:
        made = submit.receive(session, new, settings).job_uuid
        submit.claimed(session, made, file.name)
        if settled:
            control.cancel(session, made, actor="test")
    return made


def publish(
    database: Database, settings: Settings, of: UUID, name: str, data: bytes, *, state: str = "published"
) -> UUID:
    """A file in the library, with its row."""
    path = settings.layout.output / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    artifact = Artifact(
        artifact_uuid=uuid7(), job_uuid=of, attempt=1, kind="instrumental", path=str(path), size=len(data),
        blake3=blake3.blake3(data).hexdigest(), state=state, published_at=datetime.now(UTC),
    )  # fmt: skip
    with database.session() as session:
        session.add(artifact)
    return artifact.artifact_uuid
