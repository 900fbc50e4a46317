"""What the paths of an endpoint answer: liveness, readiness, details, metrics."""

from __future__ import annotations

import json
import os
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import ironclad
from ironclad.ops.endpoint import Reply
from ironclad.ops.health import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ironclad.ops.health import HealthBoard
    from ironclad.ops.metrics import Metrics

_UP = {Status.OK: 1.0, Status.DEGRADED: 0.5, Status.FAILED: 0.0}


class Reports:
    """The answers of one service.

    Args:
        service: its name.
        board: its health.
        metrics: its registry.
        details: more for `/health`, asked for at each request.
    """

    def __init__(
        self, service: str, board: HealthBoard, metrics: Metrics, details: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self._service = service
        self._board = board
        self._metrics = metrics
        self._details = details
        self._started = time.monotonic()
        metrics.on_scrape(self._refresh)

    def paths(self) -> dict[str, Callable[[], Reply]]:
        """For an `Endpoint`."""
        return {
            "/health/live": self.live,
            "/health/ready": self.ready,
            "/health": self.health,
            "/metrics": self.metrics,
        }

    def live(self) -> Reply:
        """200 unless the service hangs."""
        overdue = self._board.overdue
        return _json(not overdue, {"live": not overdue, "overdue": list(overdue)})

    def ready(self) -> Reply:
        """200 when it does its work."""
        ready = self._board.ready
        return _json(ready, {"ready": ready, "status": self._board.worst.value})

    def health(self) -> Reply:
        """Everything about it; the status code is that of readiness."""
        board = self._board
        data = {
            "service": self._service,
            "version": ironclad.__version__,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._started, 3),
            "status": board.worst.value,
            "live": board.live,
            "ready": board.ready,
            "components": [component.to_dict() for component in board.components()],
            **self._details(),
        }
        return _json(board.ready, data)

    def metrics(self) -> Reply:
        """Prometheus's text format."""
        from ironclad.ops.metrics import CONTENT_TYPE  # noqa: PLC0415 - imported already by whoever made `metrics`

        return Reply(HTTPStatus.OK, self._metrics.render(), CONTENT_TYPE)

    def _refresh(self) -> None:
        self._metrics.gauge("ironclad_service_ready").set(float(self._board.ready))
        for component in self._board.components():
            self._metrics.gauge("ironclad_component_up").labels(component.name).set(_UP[component.status])


def _json(good: bool, data: Mapping[str, Any]) -> Reply:  # noqa: FBT001 - private, and read aloud it is clear
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return Reply(status, json.dumps(data).encode() + b"\n")
