"""Which engine, model, device and work pool a job gets; one answer for every way in.

A job's model travels in its parameters, under the reserved name `model`: so a job with another model is another job
for the duplicate check too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ironclad.engines import environments
from ironclad.engines.contract import CPU_POOL, pool_of
from ironclad.engines.models import ModelStore
from ironclad.engines.registry import installed_engines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ironclad.config import EngineSettings, Settings
    from ironclad.engines.contract import EngineSpec
    from ironclad.layout import Layout

MODEL: Final = "model"
"""The reserved parameter that names a job's model."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a new job is given."""

    engine: str
    pool: str
    parameters: dict[str, Any]
    """The engine's that differ from its defaults, and the model."""
    spec: EngineSpec


@dataclass(frozen=True, slots=True)
class Engine:
    """A job's engine: its declaration, with what the model store holds, its model and parameters."""

    spec: EngineSpec
    model: str
    parameters: dict[str, Any]

    @property
    def sample_rate(self) -> int | None:
        """Hz that it takes; None: any."""
        return self.spec.sample_rate_of(self.model)

    def key(self) -> dict[str, Any]:
        """What its samples depend on."""
        return self.spec.result_key(self.model, self.spec.resolve(self.parameters))


@dataclass(frozen=True, slots=True)
class Ready:
    """What a host needs to be started: everything is there and unchanged."""

    interpreter: Path | None
    folder: Path | None


def choose(settings: Settings, *, engine: str | None = None, model: str | None = None) -> Choice:
    """The engine of a new job: what was asked for, else what the settings say.

    The settings' model and parameters belong to the settings' engine and to no other. Raises `EngineMissing`,
    `NotFound` for a model that the engine does not have, `BadRequest` for parameters.
    """
    name = engine or settings.engine.name
    own = name == settings.engine.name
    spec = declared(settings.layout, name)
    parameters: dict[str, Any] = dict(settings.engine.parameters) if own else {}
    wanted = model if model is not None else settings.engine.model if own else ""
    spec.resolve(parameters)
    if wanted:
        parameters[MODEL] = spec.model(wanted).name
    return Choice(name, engine_pool(settings, spec), parameters, spec)


def engine_pool(settings: Settings, spec: EngineSpec) -> str:
    """The work pool of an engine under these settings.

    A device that is set decides, if the engine can use it; else the engine's best pool among those that are set.
    """
    kind = settings.engine.device.partition(":")[0]
    if kind in spec.devices:
        return pool_of(kind)
    pools = [name for name in spec.pools if name in settings.pools] or list(spec.pools)
    return pools[0]


def device(settings: EngineSettings, spec: EngineSpec, pool: str, *, here: tuple[str, ...] = ()) -> str:
    """The device for a job of this pool (its engine's, `Job.engine_pool`).

    `here` are the kinds of device that the engine found on this machine. There is no falling back to the CPU: where
    the GPU is missing, the engine says so.
    """
    if settings.device.partition(":")[0] in spec.devices:
        return settings.device
    if pool == CPU_POOL:
        return "cpu"
    kinds = [kind for kind in spec.devices if pool_of(kind) == pool]
    return next((kind for kind in kinds if kind in here), kinds[0] if kinds else "cpu")


def declared(layout: Layout, name: str) -> EngineSpec:
    """An engine with the models that are in the store. Raises `EngineMissing`."""
    return ModelStore(layout).effective(installed_engines().get(name))


def of_job(layout: Layout, name: str, parameters: Mapping[str, Any]) -> Engine:
    """A job's engine. Raises `EngineMissing`, `NotFound` for its model."""
    spec = declared(layout, name)
    rest = {key: value for key, value in parameters.items() if key != MODEL}
    return Engine(spec, spec.model(str(parameters.get(MODEL, ""))).name, rest)


def ready(layout: Layout, engine: Engine) -> Ready:
    """Everything for a host. Raises `EngineNotBuilt`, `ModelMissing`, `ModelMismatch`, each with what to do."""
    built = environments.required(layout, engine.spec)
    folder = ModelStore(layout).required(engine.spec, engine.model)
    return Ready(None if built is None else built.interpreter, folder)
