"""What the cockpit shows of this machine: engines, settings, the library's problems."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ironclad.cli.commands.config import shown
from ironclad.library.names import MAX_COMPONENT
from ironclad_tui.source import EngineView, SettingView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ironclad.config import Loaded
    from ironclad.jobs.listing import Published


def engines(default: str) -> tuple[EngineView, ...]:
    """Every engine, and every plugin that does not load."""
    from ironclad.engines.registry import installed_engines  # noqa: PLC0415 - imports every plugin: when asked for

    registry = installed_engines()
    found = [
        EngineView(spec.name, spec.name == default, registry.provider(spec.name).name, "loaded", "", spec.to_dict())
        for spec in registry
    ]
    broken = [
        EngineView(state.name, False, state.name, state.status.value, state.error, {})
        for state in registry.plugins()
        if state.error
    ]
    return (*found, *broken)


def settings(loaded: Loaded) -> tuple[SettingView, ...]:
    """Every setting with its value (secrets masked), origin and description."""
    described = _descriptions(type(loaded.settings))
    return tuple(
        SettingView(path, json.dumps(value, ensure_ascii=False), loaded.origin(path), _help(described, path))
        for path, value in _flat(shown(loaded))
    )


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _descriptions(model: Any, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        found[f"{prefix}{name}"] = field.description or ""
        if hasattr(field.annotation, "model_fields"):
            found |= _descriptions(field.annotation, f"{prefix}{name}.")
    return found


def _help(described: Mapping[str, str], path: str) -> str:
    """The description of a setting, or of the group that it is in."""
    while path and path not in described:
        path = path.rpartition(".")[0]
    return described.get(path, "")


def problems(files: Sequence[Published]) -> tuple[tuple[str, str, str, str], ...]:
    """What is wrong with the names of published files: severity, rule, server and message.

    Rules that need tags are `ironclad`'s linter's; a list on a screen reads no files.
    """
    found = []
    seen: dict[str, str] = {}
    for file in files:
        path = PurePosixPath(file.path)
        if too_long := [part for part in path.parts if len(part.encode()) > MAX_COMPONENT]:
            found.append(("warning", "long-name", "all", f"{file.path}: a name of {len(too_long[0].encode())} bytes"))
        folded = file.path.casefold()
        if folded in seen and seen[folded] != file.path:
            found.append(("error", "case-clash", "all", f"{file.path} and {seen[folded]} differ in letter case only"))
        seen[folded] = file.path
    return tuple(found)
