"""What the cockpit shows of this machine: engines, settings, the library's problems."""

from __future__ import annotations

import json
import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from ironclad.cli.commands.config import shown
from ironclad.errors import StorageError
from ironclad.library.names import MAX_COMPONENT
from ironclad_tui.source import EngineView, SettingView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ironclad.config import Loaded, Settings
    from ironclad.jobs.listing import Published
    from ironclad.jobs.query import JobDetail
    from ironclad.layout import Layout


_COVERS: Final = ("cover.jpg", "cover.png")


def engines(settings: Settings) -> tuple[EngineView, ...]:
    """Every engine with its environment and what the store has of its models, and every plugin that does not load."""
    from ironclad.engines import environments  # noqa: PLC0415 - imports every plugin: when asked for
    from ironclad.engines.models import ModelStore  # noqa: PLC0415 - likewise
    from ironclad.engines.registry import installed_engines  # noqa: PLC0415 - likewise

    registry, store = installed_engines(), ModelStore(settings.layout)
    found = []
    for declared in registry:
        spec = store.effective(declared)
        data = spec.to_dict()
        built = environments.current(settings.layout, spec.name) if environments.is_private(spec) else None
        data["environment"] = None if built is None else built.to_dict()
        for model in data["models"]:
            stored = store.get(spec.name, model["name"])
            model["stored"] = None if not spec.model(model["name"]).files else stored is not None
            model["official"] = stored is None or stored.official
        default = spec.name == settings.engine.name
        found.append(EngineView(spec.name, default, registry.provider(spec.name).name, "loaded", "", data))
    broken = [
        EngineView(state.name, False, state.name, state.status.value, state.error, {})
        for state in registry.plugins()
        if state.error
    ]
    return (*found, *broken)


def cover(layout: Layout, detail: JobDetail) -> Path | None:
    """Where a job's front cover is on this machine: as the metadata stage keeps it, else as it was published."""
    from ironclad.stages import metadata  # noqa: PLC0415 - the stages: only when somebody looks

    kept = layout.work_of(detail.job.job_uuid) / "metadata" / metadata.PICTURES
    runs = [run.data for run in detail.stages if run.stage == "metadata" and run.state in {"done", "reused"}]
    reading = (runs[-1] or {}).get("reading") or {} if runs else {}
    names = [str(picture.get("file")) for picture in reading.get("pictures") or []]
    files = [layout.output / file.path for file in detail.artifacts if file.state == "published"]
    published = [path for path in files if path.name in _COVERS]
    beside = [path.with_name(name) for path in files for name in _COVERS]  # another track of the album brought it
    paths = [*(kept / PurePosixPath(name).name for name in names), *published, *beside]
    return next((path for path in paths if path.is_file() and not path.is_symlink()), None)


def free_path(stem: str, suffix: str, folders: Sequence[Path]) -> Path:
    """A name that is not taken, in the first of the folders that can be written to. Raises `StorageError`."""
    for folder in folders:
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            names = (f"{stem}{number}{suffix}" for number in ("", *(f"-{i}" for i in range(2, 1000))))
            for name in names:
                if not (folder / name).exists():
                    return folder / name
    raise StorageError(f"Nothing can be written in {' or '.join(map(str, folders))}.")


def below(root: Path, path: Path) -> str:
    """A path as it is shown: from the data folder on, if it is in there."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


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
