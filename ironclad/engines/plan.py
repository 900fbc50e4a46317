"""How a host is started, as plain data: whoever keeps hosts for others needs neither plugins nor settings of theirs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ironclad.engines import environments
from ironclad.engines.contract import PrivateEnvironment
from ironclad.engines.separation import HostSettings
from ironclad.errors import EngineMissing, EngineProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.engines.contract import EngineSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """A host to be: what it runs, with which model, on which device. Equal plans may share a warm host."""

    engine: str
    model: str
    device: str
    command: tuple[str, ...]
    """The program and its first arguments, `--entry` included."""
    model_folder: str = ""
    fingerprint: str = ""
    """Of code and weights (the environment is in `command`): a host of before a change is not used after it."""
    weights: str = ""
    """Digest of the model that is meant (`ModelSpec.digest`): its files may be replaced before they are loaded."""
    settings: HostSettings = field(default_factory=HostSettings)

    @property
    def label(self) -> str:
        """In words."""
        return f"{self.engine}/{self.model} on {self.device}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        data = asdict(self)
        data["settings"]["search_path"] = [str(folder) for folder in self.settings.search_path]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """A plan out of JSON data. Raises `EngineProtocol` for anything else."""
        try:
            settings = dict(data["settings"])
            settings["search_path"] = tuple(Path(folder) for folder in settings["search_path"])
            names = {spec.name for spec in fields(cls)} & set(data) - {"command", "settings"}
            values = {name: data[name] for name in names}
            texts = all(isinstance(value, str) for value in (*values.values(), *data["command"]))
            made = cls(**values, command=tuple(data["command"]), settings=HostSettings(**settings))
        except (KeyError, TypeError, ValueError) as exc:
            raise EngineProtocol(f"not a plan for a host: {exc}") from exc
        if not texts:
            raise EngineProtocol("not a plan for a host: text is expected")
        return made

    def argv(self, parent: int) -> list[str]:
        """The whole command line of a host that dies with the process `parent`."""
        words = [*self.command, "--parent", str(parent), "--memory-bytes", str(self.settings.memory_bytes)]
        for folder in self.settings.search_path:
            words += ["--path", str(folder)]
        return words


def plan(
    spec: EngineSpec, *, model: str = "", device: str = "cpu", settings: HostSettings | None = None,
    interpreter: Path | None = None, model_folder: Path | None = None,
) -> HostPlan:  # fmt: skip
    """The plan for an engine's host.

    Args:
        spec: the engine.
        model: its model; the default for an empty name.
        device: `cpu`, `cuda`, `cuda:1`, `mps`.
        settings: threads, limits and patience.
        interpreter: the Python of a private environment.
        model_folder: the folder of the model's files.

    Raises `EngineMissing` if the engine needs an environment and has none, `NotFound` for the model.
    """
    private = isinstance(spec.environment, PrivateEnvironment)
    if interpreter is None and private:
        raise EngineMissing(f"The environment of engine {spec.name} is not built.", engine=spec.name)
    command = [sys.executable, "-I", "-m", "ironclad.engines.host", "--entry", spec.entry]
    if interpreter is not None:
        command = environments.command(spec, interpreter)
    chosen = spec.model(model)
    return HostPlan(
        engine=spec.name, model=chosen.name, device=device, command=tuple(command),
        model_folder=str(model_folder or ""), settings=settings or HostSettings(),
        fingerprint=json.dumps([spec.version, chosen.digest]), weights=chosen.digest if chosen.files else "",
    )  # fmt: skip
