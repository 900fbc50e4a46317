"""The control API as its clients meet it: the real service on a real socket, in a thread of the test's process."""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

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
    from types import TracebackType
    from uuid import UUID

    from ironclad.config import Settings
    from ironclad.db.session import Database

PATIENCE = 60.0


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
