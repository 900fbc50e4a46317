"""Every engine that the loaded plugins bring, by name."""

from __future__ import annotations

import difflib
import functools
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ironclad.engines.contract import EngineSpec
from ironclad.errors import EngineMissing, PluginBroken
from ironclad.plugins.manager import PluginManager, PluginState, PluginStatus, check_api, selection

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOK = "ironclad_engines"


class EngineRegistry:
    """The engines of one process. Immutable once built; a plugin that breaks the contract is marked broken."""

    def __init__(self, plugins: PluginManager) -> None:
        self._plugins = plugins
        self._engines: dict[str, EngineSpec] = {}
        self._providers: dict[str, str] = {}
        plugins.load_all()
        for plugin, answer in plugins.collect(HOOK):
            try:
                for spec in _specs(plugin, answer):
                    self._add(plugin, spec)
            except PluginBroken as exc:
                plugins.mark_broken(plugin, exc)
                for name in [name for name, provider in self._providers.items() if provider == plugin]:
                    del self._engines[name], self._providers[name]

    def __iter__(self) -> Iterator[EngineSpec]:
        """The engines in the order of their names."""
        return iter(self._engines[name] for name in sorted(self._engines))

    def __len__(self) -> int:
        return len(self._engines)

    def get(self, name: str) -> EngineSpec:
        """The engine of a name. Raises `EngineMissing` with close matches and what is there."""
        if spec := self._engines.get(name):
            return spec
        close = difflib.get_close_matches(name, self._engines, n=1)
        there = ", ".join(sorted(self._engines)) or "none"
        hint = f" Did you mean {close[0]}?" if close else ""
        raise EngineMissing(f"There is no engine {name!r}.{hint} Installed: {there}.", engine=name)

    def provider(self, name: str) -> PluginState:
        """The plugin that brings an engine. Raises `EngineMissing`."""
        plugin = self._providers[self.get(name).name]
        return next(state for state in self._plugins.states() if state.name == plugin)

    def plugins(self) -> tuple[PluginState, ...]:
        """Every plugin found and what became of it, broken ones included."""
        return self._plugins.states()

    def _add(self, plugin: str, spec: EngineSpec) -> None:
        check_api(spec.api_version, f"engine {spec.name!r}")
        if taken := self._providers.get(spec.name):
            raise PluginBroken(f"the engine name {spec.name!r} is taken by plugin {taken!r}")
        self._engines[spec.name] = spec
        self._providers[spec.name] = plugin


def installed_engines(select: frozenset[str] | None = None) -> EngineRegistry:
    """The engines of every installed plugin, as `IRONCLAD_LOAD_PLUGINS` (which goes first) and `select` allow.

    Asked several times for each song, so one that is whole is kept until something is installed or removed.
    """
    switch = selection()
    registry = _registry(_installation(), select if switch is None else switch)
    if any(state.status is PluginStatus.BROKEN for state in registry.plugins()):
        _registry.cache_clear()  # it may be mended in a way that no folder shows
    return registry


def _installation() -> tuple[tuple[str, int], ...]:
    """What an installed or removed distribution changes: the folders of the search path."""
    found = []
    for entry in sys.path:
        with suppress(OSError):
            found.append((entry, Path(entry).stat().st_mtime_ns))
    return tuple(found)


@functools.lru_cache(maxsize=2)
def _registry(_where: tuple[tuple[str, int], ...], select: frozenset[str] | None) -> EngineRegistry:
    return EngineRegistry(PluginManager(select))


def _specs(plugin: str, answer: object) -> list[EngineSpec]:
    specs = answer if isinstance(answer, list | tuple) else [answer]
    for spec in specs:
        if not isinstance(spec, EngineSpec):
            raise PluginBroken(f"{HOOK} of {plugin!r} returned a {type(spec).__name__}, not a list of EngineSpec")
    return list(specs)
