"""Private environments of engines: where they are, whether they fit, and how a host is started in one.

A virtual environment cannot be moved, so each is built where it stays, `engines/NAME/LOCK.N/`, and comes into force
when `engines/NAME/current.json` names it: one atomic write. The environment before it is kept until the next
installation, for hosts that run in it.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ironclad import durable
from ironclad.engines.contract import PrivateEnvironment
from ironclad.engines.host import launch
from ironclad.errors import EngineNotBuilt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.engines.contract import EngineSpec
    from ironclad.layout import Layout

POINTER: Final = "current.json"
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment in force."""

    engine: str
    folder: Path
    digest: str
    """Of the lock that it was built from."""
    python: str
    packages: Mapping[str, str]
    devices: tuple[str, ...]
    """Kinds of device that the engine could use when it was installed."""
    installed_at: str
    variant: str = ""
    """Which of the engine's environments it is, where there is a choice."""

    @property
    def interpreter(self) -> Path:
        """Its Python."""
        return self.folder / "bin" / "python"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            "engine": self.engine, "folder": str(self.folder), "digest": self.digest, "python": self.python,
            "packages": dict(self.packages), "devices": list(self.devices), "installed_at": self.installed_at,
            "variant": self.variant,
        }  # fmt: skip


def home(layout: Layout, engine: str) -> Path:
    """The folder of an engine's environments."""
    return layout.engines / engine


def is_private(spec: EngineSpec) -> bool:
    """Whether the engine needs an environment of its own."""
    return isinstance(spec.environment, PrivateEnvironment)


def current(layout: Layout, engine: str) -> Environment | None:
    """The environment in force, None if there is none (or its record is of no use)."""
    base = home(layout, engine)
    try:
        data = json.loads((base / POINTER).read_text(encoding="utf-8"))
        if data["schema"] != _SCHEMA or Path(data["folder"]).name != data["folder"]:
            return None
        return Environment(
            engine, base / data["folder"], str(data["digest"]), str(data["python"]), dict(data["packages"]),
            tuple(data["devices"]), str(data["installed_at"]), str(data.get("variant", "")),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def enforce(layout: Layout, environment: Environment) -> None:
    """Make an environment the one in force, in one step."""
    data = {**environment.to_dict(), "schema": _SCHEMA, "folder": environment.folder.name}
    durable.write_atomic(home(layout, environment.engine) / POINTER, json.dumps(data, indent=1).encode())


def required(layout: Layout, spec: EngineSpec) -> Environment | None:
    """The environment to run an engine in; None: Ironclad's own.

    Raises `EngineNotBuilt` with the command that builds it if it is missing, gone, or from another lock.
    """
    if not isinstance(spec.environment, PrivateEnvironment):
        return None
    found, command = current(layout, spec.name), f"Run `ironclad engines install {spec.name}`."
    if found is None:
        raise EngineNotBuilt(f"Engine {spec.name} has no environment. {command}", engine=spec.name)
    if not found.interpreter.is_file():
        raise EngineNotBuilt(f"The environment of engine {spec.name} is gone. {command}", engine=spec.name)
    if found.digest not in {one.digest for one in spec.environment.choices}:
        raise EngineNotBuilt(f"The environment of engine {spec.name} is outdated. {command}", engine=spec.name)
    return found


def command(spec: EngineSpec, interpreter: Path, entry: str = "") -> list[str]:
    """How a host starts with this interpreter: Ironclad's and the plugin's packages are lent to it, nothing else.

    `entry` is what it runs, if not the engine itself.

    An engine whose code is not here is not lent; the host looks for it in its environment.
    """
    words = [str(interpreter), "-I", launch.__file__]
    for name in dict.fromkeys(("ironclad", spec.entry.partition(":")[0].partition(".")[0])):
        found = importlib.util.find_spec(name)
        if found is None:
            continue
        folders = list(found.submodule_search_locations or ())
        where = folders[0] if folders else found.origin
        words += ["--package", f"{name}={where}"]
    return [*words, "--entry", entry or spec.entry]
