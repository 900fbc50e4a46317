"""A supervisor in a thread, with its events in a queue."""

from __future__ import annotations

import queue
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import processes
from ironclad.config import load
from ironclad.ops.plan import Unit
from ironclad.ops.supervisor import ServiceEvent, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.config import Settings
    from ironclad.ops.child import UnitState

TINY = str(Path(__file__).with_name("tiny_service.py"))
PATIENCE = 60.0


def tiny(
    name: str, mode: str, file: Path | None = None, *, watchdog_seconds: float = 0.0, **options: Any
) -> Unit:  # fmt: skip
    """Not watched unless asked for: most modes say nothing once they are ready, however long a test takes."""
    command = (sys.executable, TINY, mode, *([str(file)] if file else []))
    return Unit(name, command, watchdog_seconds=watchdog_seconds, environment={"TINY_NAME": name}, **options)


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll something that gives no event, with a deadline."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return processes.identity(pid) is None


class Up:
    """A running supervisor."""

    def __init__(self, settings: Settings, units: tuple[Unit, ...], **options: Any) -> None:
        self.events: queue.Queue[ServiceEvent] = queue.Queue()
        self.seen: list[ServiceEvent] = []
        self.unseen: list[ServiceEvent] = []
        self._also = options.pop("on_event", lambda _event: None)
        self.supervisor = Supervisor(settings, self._heard, units=units, **options)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _heard(self, event: ServiceEvent) -> None:
        self.events.put(event)
        self._also(event)

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except BaseException as exc:  # noqa: BLE001 - the test looks at it
            self.error = exc

    def wait(self, name: str, state: UnitState) -> ServiceEvent:
        """The unit's next event with this state; its earlier ones are passed over, those of others are not."""
        deadline = time.monotonic() + PATIENCE
        while True:
            mine = [event for event in self.unseen if event.name == name]
            found = next((event for event in mine if event.state is state), None)
            for event in mine[: mine.index(found) + 1] if found else mine:
                self.unseen.remove(event)
            if found is not None:
                return found
            try:
                event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"{name} did not become {state}; seen: {self.seen}")
            self.seen.append(event)
            self.unseen.append(event)

    def end(self) -> None:
        self.supervisor.kill()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def stop(self) -> None:
        self.supervisor.stop()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def plain_settings(tmp_path: Path) -> Settings:
    """Settings of an installation that needs no database."""
    settings = load(
        environ={
            "IRONCLAD_DATA_DIR": str(tmp_path / "data"),
            "IRONCLAD_SERVICES__BASE_PORT": "0",
            "IRONCLAD_SERVICES__STOP_SECONDS": "60",
            "IRONCLAD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        }
    )
    settings.layout.create()
    return settings


@pytest.fixture
def up(plain_settings: Settings) -> Iterator[Callable[..., Up]]:
    """Starts supervisors and ends them."""
    started: list[Up] = []

    def start(*units: Unit, **options: Any) -> Up:
        started.append(Up(options.pop("settings", plain_settings), units, **options))
        return started[-1]

    yield start
    for one in started:
        if one.thread.is_alive():
            one.end()


@pytest.fixture(name="tiny")
def tiny_fixture() -> Callable[..., Unit]:
    """Makes units out of `tiny_service.py`."""
    return tiny


@pytest.fixture(name="until")
def until_fixture() -> Callable[[Callable[[], bool], str], None]:
    """Waits for what gives no event."""
    return until
