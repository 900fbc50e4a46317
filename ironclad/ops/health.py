"""How a service is: a board of components, each ok, degraded or failed, with what to do about it."""

from __future__ import annotations

import contextlib
import enum
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Status(enum.StrEnum):
    """How a component is, best first."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works, worse than it should."""
    FAILED = "failed"
    """It does not work; the service is not ready."""


_ORDER = tuple(Status)


@dataclass(frozen=True, slots=True)
class Component:
    """One component's state."""

    name: str
    status: Status
    detail: str = ""
    remedy: str = ""
    """What the operator can do."""
    since: float = 0.0
    """When it came into this status, in seconds since the epoch."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "name": self.name, "status": self.status.value, "detail": self.detail, "remedy": self.remedy,
            "since": self.since,
        }  # fmt: skip


class HealthBoard:
    """The components of one service. Thread-safe.

    Liveness (restart me) follows only what is overdue in a `within` block; readiness (send me work) follows the
    components: a service whose database is away is not ready, but no restart would help it.

    Args:
        on_change: called with each component whose status changed, outside the lock, in the thread that reported it.
        clock: seconds since the epoch.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        on_change: Callable[[Component], None] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_change = on_change
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._components: dict[str, Component] = {}
        self._due: dict[str, float] = {}
        self._ready = False

    def report(self, name: str, status: Status, detail: str = "", remedy: str = "") -> None:
        """Say how a component is. `since` stays while the status stays."""
        with self._lock:
            before = self._components.get(name)
            changed = before is None or before.status is not status
            since = self._clock() if before is None or changed else before.since
            component = self._components[name] = Component(name, status, detail, remedy, since)
        if changed and self._on_change is not None:
            self._on_change(component)

    def ok(self, name: str, detail: str = "") -> None:
        """A component works."""
        self.report(name, Status.OK, detail)

    def degraded(self, name: str, detail: str, remedy: str = "") -> None:
        """A component works worse than it should."""
        self.report(name, Status.DEGRADED, detail, remedy)

    def failed(self, name: str, detail: str, remedy: str = "") -> None:
        """A component does not work."""
        self.report(name, Status.FAILED, detail, remedy)

    def forget(self, name: str) -> None:
        """A component is no longer there."""
        with self._lock:
            self._components.pop(name, None)

    @contextlib.contextmanager
    def within(self, name: str, seconds: float) -> Iterator[None]:
        """What happens inside must end in time; as long as it is overdue, the service counts as hung."""
        with self._lock:
            self._due[name] = self._monotonic() + seconds
        try:
            yield
        finally:
            with self._lock:
                self._due.pop(name, None)

    def set_ready(self, *, ready: bool) -> None:
        """Start-up is over (or stopping has begun)."""
        with self._lock:
            self._ready = ready

    @property
    def overdue(self) -> tuple[str, ...]:
        """What should have ended by now."""
        now = self._monotonic()
        with self._lock:
            return tuple(sorted(name for name, due in self._due.items() if due < now))

    @property
    def live(self) -> bool:
        """Whether the service is not hung."""
        return not self.overdue

    @property
    def ready(self) -> bool:
        """Whether the service has started, is not stopping and no component has failed."""
        return self._ready and self.worst is not Status.FAILED

    @property
    def worst(self) -> Status:
        """The worst status of all components."""
        return max((c.status for c in self.components()), key=_ORDER.index, default=Status.OK)

    def components(self) -> tuple[Component, ...]:
        """All components, in the order in which they first reported."""
        with self._lock:
            return tuple(self._components.values())
