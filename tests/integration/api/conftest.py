from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from api_lab import Served

from ironclad.config import Settings, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def api_settings(environment: dict[str, str]) -> Callable[..., Settings]:
    """`api_settings(stop_seconds=…)`: a test's settings with the API on a free port."""

    def make(**api: Any) -> Settings:
        settings = load({"api": {"port": 0, **api}}, environ=environment)
        settings.layout.create()
        return settings

    return make


@pytest.fixture
def served(api_settings: Callable[..., Settings]) -> Iterator[Served]:
    """The API, running."""
    with Served(api_settings()) as served:
        yield served
