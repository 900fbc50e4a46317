"""What every endpoint works with; one for each application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from ironclad.api.closing import Closing
    from ironclad.api.hub import Hub
    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.ops.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Context:
    """The installation, and the service around the application."""

    settings: Settings
    database: Database
    metrics: Metrics
    closing: Closing
    hub: Hub


def of(request: HTTPConnection) -> Context:
    """The context of a request's application."""
    return cast("Context", request.app.state.context)
