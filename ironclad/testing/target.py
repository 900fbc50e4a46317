"""The engine that is put to the contract, and how it is run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ironclad import config
from ironclad.engines import choice, environments
from ironclad.engines.models import ModelStore
from ironclad.engines.separation import HostSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.engines.contract import EngineSpec
    from ironclad.engines.parameters import ParameterValue

_ANY_RATE = 44100


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One engine with one model on one device."""

    spec: EngineSpec
    model: str = ""
    """The default for an empty name."""
    device: str = "cpu"
    params: Mapping[str, ParameterValue] = field(default_factory=dict)
    """Parameters that differ from the defaults."""
    interpreter: Path | None = None
    """The Python that the host runs with; None: Ironclad's own, for engines without an environment of their own."""
    model_folder: Path | None = None
    settings: HostSettings = field(default_factory=HostSettings)

    @classmethod
    def here(cls, spec: EngineSpec, *, model: str = "", model_folder: Path | None = None) -> Self:
        """The engine as it can be imported in this process, run with the Python of this process.

        That is for development: neither the engine nor an environment of its own needs to be installed, but what it
        imports has to be here. It runs in a host process all the same.
        """
        return cls(spec=spec, model=model, interpreter=Path(sys.executable), model_folder=model_folder)

    @classmethod
    def installed(
        cls, name: str, *, model: str = "", device: str = "cpu", texts: Mapping[str, str] | None = None,
        here: bool = False,
    ) -> Self:  # fmt: skip
        """An installed engine as jobs would get it: its environment and models are those of the data folder.

        Args:
            name: the engine.
            model: its model; the default for an empty name.
            device: `cpu`, `cuda`, `cuda:1`, `mps`.
            texts: parameters, as typed on a command line.
            here: run it with the Python of this process, whatever environment it has.

        Raises `EngineMissing`, `EngineNotBuilt`, `ModelMissing`, `ModelMismatch`, `NotFound`, `BadRequest`.
        """
        layout = config.load().layout
        spec = choice.declared(layout, name)
        chosen = spec.model(model).name
        built = None if here else environments.required(layout, spec)
        python = Path(sys.executable) if here else None if built is None else built.interpreter
        folder = ModelStore(layout).required(spec, chosen)
        return cls(
            spec=spec, model=chosen, device=device, params=spec.parse(texts or {}), interpreter=python,
            model_folder=folder,
        )  # fmt: skip

    @property
    def rate(self) -> int:
        """Sample rate in Hz of the recordings that it is given."""
        return self.spec.sample_rate_of(self.model) or _ANY_RATE

    @property
    def stems(self) -> tuple[str, ...]:
        """What it makes."""
        return self.spec.stems_of(self.model)

    @property
    def label(self) -> str:
        """In words."""
        return f"{self.spec.name}/{self.spec.model(self.model).name} on {self.device}"
