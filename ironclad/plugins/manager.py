"""Finding and loading plugins: a broken one is a state to look at, never the end of the others.

pluggy's own `load_setuptools_entrypoints` stops at the first plugin that fails to import, so the loop is ours: names
are listed without importing anything, each plugin is loaded and called alone, and what fails is recorded. Built-in
plugins come through the same entry-point group.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pluggy

from ironclad.errors import NotFound, PluginBroken
from ironclad.plugins import hookspecs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SWITCH = "IRONCLAD_LOAD_PLUGINS"
"""Environment variable: comma-separated names of the third-party plugins to load; set but empty loads none."""

_OURS = "ironclad-audio"


class PluginStatus(enum.StrEnum):
    """What became of a plugin."""

    FOUND = "found"
    """Listed, not imported yet."""
    LOADED = "loaded"
    BROKEN = "broken"
    DISABLED = "disabled"
    """Left out by the switch."""


@dataclass(frozen=True, slots=True)
class PluginState:
    """One plugin, as the operator sees it."""

    name: str
    distribution: str
    version: str
    status: PluginStatus = PluginStatus.FOUND
    error: str = ""
    """Why it is broken, in one line; empty otherwise."""

    @property
    def builtin(self) -> bool:
        """Whether it belongs to Ironclad itself."""
        return self.distribution == _OURS


def installed() -> Iterable[metadata.EntryPoint]:
    """The entry points of every installed plugin; imports none of them."""
    return metadata.entry_points(group=hookspecs.GROUP)


def selection(environ: Mapping[str, str] | None = None) -> frozenset[str] | None:
    """The names in `IRONCLAD_LOAD_PLUGINS`, or None (all plugins) when it is not set."""
    value = (os.environ if environ is None else environ).get(SWITCH)
    return None if value is None else frozenset(name.strip() for name in value.split(",") if name.strip())


def check_api(declared: object, subject: str) -> None:
    """Refuse what was written for another API version. Raises `PluginBroken`."""
    if declared is None:
        raise PluginBroken(f"{subject} does not state IRONCLAD_API (this Ironclad offers {hookspecs.API_VERSION})")
    if declared != hookspecs.API_VERSION:
        raise PluginBroken(
            f"{subject} is written for plugin API {declared!r}; this Ironclad offers {hookspecs.API_VERSION}",
        )


class PluginManager:
    """The plugins of one process. Not thread-safe while loading; build it once and pass it on.

    `select` names the third-party plugins to load (None: all). Built-in plugins always load, so that switching
    plugins off to find a culprit leaves a working Ironclad.
    """

    def __init__(
        self,
        select: frozenset[str] | None = None,
        entry_points: Callable[[], Iterable[metadata.EntryPoint]] = installed,
    ) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.GROUP)
        self._pluggy.add_hookspecs(hookspecs)
        self._entries: dict[str, metadata.EntryPoint] = {}
        self._states: dict[str, PluginState] = {}
        for entry in sorted(entry_points(), key=_builtin_first):
            state = _describe(entry)
            if entry.name in self._states:
                name, first = f"{entry.name} ({state.distribution})", self._states[entry.name]
                error = f"the name {entry.name!r} is taken by {first.distribution}"
                self._states[name] = replace(state, name=name, status=PluginStatus.BROKEN, error=error)
                continue
            if select is not None and entry.name not in select and not state.builtin:
                state = replace(state, status=PluginStatus.DISABLED)
            self._entries[entry.name] = entry
            self._states[entry.name] = state

    def states(self) -> tuple[PluginState, ...]:
        """Every plugin found, by name, with what became of it so far; imports nothing."""
        return tuple(sorted(self._states.values(), key=lambda state: state.name))

    def load(self, name: str) -> PluginState:
        """Import one plugin and register its hooks (once). Raises `NotFound`, or `PluginBroken` with the reason."""
        state = self._states.get(name)
        if state is None:
            raise NotFound(f"no plugin is called {name!r}", plugin=name)
        if state.status is PluginStatus.FOUND:
            try:
                self._register(self._entries[name])
            except (Exception, SystemExit) as exc:  # noqa: BLE001  # whatever a stranger's import may raise
                state = self._break(name, exc)
            else:
                state = self._states[name] = replace(state, status=PluginStatus.LOADED)
        if state.status is PluginStatus.BROKEN:
            raise PluginBroken(f"{name}: {state.error}", plugin=name, distribution=state.distribution)
        return state

    def load_all(self) -> tuple[PluginState, ...]:
        """Load every plugin that is not switched off; broken ones are in the answer, not raised."""
        for name, state in list(self._states.items()):
            if state.status is PluginStatus.FOUND:
                try:
                    self.load(name)
                except PluginBroken:
                    continue
        return self.states()

    def collect(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Call one hook of each loaded plugin alone: `[(plugin name, what it returned), …]`, built-ins first.

        A plugin that raises becomes broken and is left out; the others are called all the same.
        """
        answers: list[tuple[str, Any]] = []
        plugins = dict(self._pluggy.list_name_plugin())
        for name in self._entries:
            plugin = plugins.get(name)
            if plugin is None or not hasattr(plugin, hook):
                continue
            caller = self._pluggy.subset_hook_caller(hook, [other for other in plugins.values() if other is not plugin])
            try:
                answers.extend((name, answer) for answer in caller(**arguments))
            except (Exception, SystemExit) as exc:  # noqa: BLE001  # as above
                self.mark_broken(name, exc)
        return answers

    def mark_broken(self, name: str, exc: BaseException) -> None:
        """Record that a loaded plugin failed; none of its hooks is called again."""
        self._break(name, exc)

    def _register(self, entry: metadata.EntryPoint) -> None:
        plugin = entry.load()
        check_api(getattr(plugin, "IRONCLAD_API", None), f"plugin {entry.name!r}")
        self._pluggy.register(plugin, name=entry.name)
        known = {name for name in dir(hookspecs) if name.startswith("ironclad_")}
        mine = {caller.name for caller in self._pluggy.get_hookcallers(plugin) or []}
        if unknown := sorted(mine - known):
            raise PluginBroken(f"it implements hooks that this Ironclad does not have: {', '.join(unknown)}")

    def _break(self, name: str, exc: BaseException) -> PluginState:
        if self._pluggy.has_plugin(name):
            self._pluggy.unregister(name=name)
        reason = exc.detail if isinstance(exc, PluginBroken) else f"{type(exc).__name__}: {exc}"
        state = replace(self._states[name], status=PluginStatus.BROKEN, error=" ".join(reason.split())[:500])
        self._states[name] = state
        return state


def _builtin_first(entry: metadata.EntryPoint) -> tuple[bool, str, str]:
    distribution = entry.dist.name if entry.dist else ""
    return distribution != _OURS, entry.name, distribution


def _describe(entry: metadata.EntryPoint) -> PluginState:
    if entry.dist is None:
        return PluginState(entry.name, "unknown", "")
    return PluginState(entry.name, entry.dist.name, entry.dist.version)
