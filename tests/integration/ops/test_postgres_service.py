"""The embedded server's own service: started, stopped under others' feet, and missed when it dies."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from ironclad.config import load
from ironclad.db.embedded import EmbeddedServer
from ironclad.errors import ConfigError, DatabaseUnavailable
from ironclad.ops.service import ServiceRuntime
from ironclad.ops.services import registry
from ironclad.ops.services.postgres_service import PostgresService

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings

PATIENCE = 60.0


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    """Settings without a database URL, as the embedded server needs them."""
    return load(environ={"IRONCLAD_DATA_DIR": str(tmp_path / "data"), "IRONCLAD_SERVICES__BASE_PORT": "0"})


class Running:
    """The service in a thread, with what became of it."""

    def __init__(self, settings: Settings) -> None:
        self.server = EmbeddedServer(settings.layout.postgres)
        self.runtime = ServiceRuntime("postgres", settings, heartbeat=False)
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.runtime.ready = self.ready.set  # type: ignore[method-assign] # an event to wait for
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            with self.runtime:
                PostgresService().run(self.runtime)
        except Exception as exc:  # noqa: BLE001 - whatever it is, a test asserts on it
            self.error = exc
        finally:
            self.ended.set()

    def answers(self) -> bool:
        try:
            with psycopg.connect(host=str(self.server.socket_folder), user="ironclad", dbname="ironclad"):
                return True
        except psycopg.OperationalError:
            return False


def test_it_is_ready_when_the_server_answers_and_takes_it_along_when_it_stops(alone: Settings) -> None:
    running = Running(alone)
    assert running.ready.wait(PATIENCE)
    assert running.answers()
    running.server.hold()  # as any other service would
    running.runtime.stop()
    assert running.ended.wait(PATIENCE)
    assert running.error is None
    assert not running.answers()
    assert running.server.pid() is None
    running.server.release()


def test_a_server_that_dies_ends_the_service_with_an_error_that_starts_it_again(alone: Settings) -> None:
    running = Running(alone)
    assert running.ready.wait(PATIENCE)
    pid = running.server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert running.ended.wait(PATIENCE)
    assert isinstance(running.error, DatabaseUnavailable)


def test_it_refuses_where_a_server_is_named(settings: Settings) -> None:
    with ServiceRuntime("postgres", settings, heartbeat=False) as runtime, pytest.raises(ConfigError, match="yours"):
        registry.load("postgres", settings).run(runtime)
