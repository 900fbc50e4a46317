"""The fronts' parts that the core needs, found by entry point: it imports none of them by name."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import PluginBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings
    from ironclad.jobs.executor import Executor

GROUP: Final = "ironclad.fronts"


def load(name: str) -> Any:
    """What an entry point of the group names. Raises `PluginBroken`."""
    found = list(metadata.entry_points(group=GROUP, name=name))
    if not found:
        raise PluginBroken(f"nothing provides {name}; install ironclad-audio again", front=name)
    try:
        return found[0].load()
    except Exception as exc:
        raise PluginBroken(f"{name}: {type(exc).__name__}: {exc}", front=name) from exc


def executor_of(settings: Settings) -> Callable[[], Executor]:
    """Makes the executor of an installation, each time for the server as it is reachable then."""
    provider = load("prefect-executor")

    def make() -> Executor:
        executor: Executor = provider.of(settings)
        return executor

    return make
