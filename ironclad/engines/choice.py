"""Which engine, model, device and work pool a job gets; one answer for every way in.

A job's model travels in its parameters, under the reserved name `model`: so a job with another model is another job
for the duplicate check too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ironclad.engines import environments, products
from ironclad.engines.contract import CPU_POOL, pool_of
from ironclad.engines.models import ModelStore
from ironclad.engines.registry import installed_engines
from ironclad.errors import EngineMissing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.engines.contract import EngineSpec
    from ironclad.layout import Layout
    from ironclad.worksections import EngineRule, EngineSettings

AUTO: Final = "auto"
"""The name that stands for the best engine that is installed."""
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

    def with_model(self, model: str) -> Engine:
        """The same with another model."""
        return replace(self, model=model)

    def key(self) -> dict[str, Any]:
        """What its samples depend on."""
        return self.spec.result_key(self.model, self.spec.resolve(self.parameters))


@dataclass(frozen=True, slots=True)
class Ready:
    """What a host needs to be started: everything is there and unchanged."""

    interpreter: Path | None
    folder: Path | None


def choose(
    settings: Settings, *, engine: str | None = None, model: str | None = None, stems: Sequence[str] | None = None
) -> Choice:
    """The engine of a new job: what was asked for, else what the settings say.

    `stems` are those wanted, for `auto`; the settings' by default. The settings' model and parameters belong to the
    settings' engine and to no other. Raises `EngineMissing`, `NotFound` for a model that the engine does not have,
    `BadRequest` for parameters.
    """
    name = engine or settings.engine.name
    if name == AUTO:
        spec = best(settings.layout, settings.output.stems if stems is None else stems)
        return _with(settings, spec, {}, model or "")
    own = name == settings.engine.name
    wanted = model if model is not None else settings.engine.model if own else ""
    return _with(settings, declared(settings.layout, name), settings.engine.parameters if own else {}, wanted)


def by_rule(settings: Settings, rule: EngineRule, stems: Sequence[str]) -> Choice:
    """The engine that a rule names. Raises as `choose`."""
    spec = best(settings.layout, stems) if rule.engine == AUTO else declared(settings.layout, rule.engine)
    return _with(settings, spec, rule.parameters, rule.model)


def _with(settings: Settings, spec: EngineSpec, parameters: Mapping[str, Any], model: str) -> Choice:
    spec.resolve(parameters)
    chosen = dict(parameters)
    if model:
        chosen[MODEL] = spec.model(model).name
    return Choice(spec.name, engine_pool(settings, spec), chosen, spec)


def best(layout: Layout, stems: Sequence[str]) -> EngineSpec:
    """The best engine that can be used now (environment and default model are here) and makes these stems.

    Engines with weights come before those without, then those with more of them, then by name. Raises `EngineMissing`
    if there is none.
    """
    wanted = [stem for stem in stems if stem != products.INSTRUMENTAL]
    found: list[tuple[int, str, EngineSpec]] = []
    for plugin in installed_engines():
        spec = ModelStore(layout).effective(plugin)
        if not products.makes(wanted, spec.stems_of()):
            continue
        try:
            environments.required(layout, spec)
        except EngineMissing:
            continue
        files = spec.model().files
        if files and ModelStore(layout).get(spec.name, spec.model().name) is None:
            continue
        size = sum(file.size for file in files)
        found.append((-size, spec.name, spec))
    if not found:
        raise EngineMissing(f"No engine that can be used here makes {', '.join(sorted(wanted)) or 'an instrumental'}.")
    return min(found, key=lambda entry: entry[:2])[2]


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
