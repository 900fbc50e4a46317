"""Other forms of a model's weights, made on this machine: `ironclad models convert`.

An engine may have runtimes that cannot read the published files. Its converter (`EngineSpec.converter`) runs in the
engine's own environment, in a process of its own, on files that were verified right before; what it writes is pinned in
the model store like everything else there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ironclad.engines import environments, steps
from ironclad.engines.child import clean_environment
from ironclad.engines.contract import PrivateEnvironment
from ironclad.engines.models import ModelStore
from ironclad.errors import BadRequest, EngineNotBuilt, ModelBroken, ModelMissing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.engines.contract import EngineSpec
    from ironclad.engines.environments import Environment
    from ironclad.engines.models import StoredModel
    from ironclad.layout import Layout

_SECONDS: Final = 3600.0


def convert(
    layout: Layout, spec: EngineSpec, model: str, *, say: Callable[[str], None] = lambda _line: None
) -> StoredModel:
    """Convert a model that is in the store; `say` gets the converter's lines.

    Raises `BadRequest` (nothing to convert), `ModelMissing`, `ModelMismatch`, `EngineNotBuilt` with the command that
    installs what the converter needs, `ModelBroken` with what the converter said.
    """
    if not spec.converter:
        raise BadRequest(f"Engine {spec.name} has nothing to convert.", engine=spec.name)
    built = _environment(layout, spec)
    store = ModelStore(layout)
    effective = store.effective(spec)
    name = effective.model(model).name
    folder = store.required(spec, name, converted=False)  # reads every byte
    stored = store.get(spec.name, name)
    if folder is None or stored is None:
        raise ModelMissing(f"{name} of engine {spec.name} has no files", engine=spec.name, model=name)
    start = environments.command(spec, built.interpreter, spec.converter)

    def write(target: Path) -> None:
        _run([*start, "--convert", name, str(folder), str(target)], say, spec.name, name)

    return store.add_converted(stored, write)


def _environment(layout: Layout, spec: EngineSpec) -> Environment:
    built = environments.required(layout, spec)
    if built is None or not isinstance(spec.environment, PrivateEnvironment):
        raise BadRequest(f"Engine {spec.name} has no environment to convert in.", engine=spec.name)
    wanted = spec.environment.variant(spec.converter_variant or built.variant)
    if built.digest != wanted.digest:
        raise EngineNotBuilt(
            f"Converting needs the {wanted.name} environment of engine {spec.name}. Run `ironclad engines install "
            f"{spec.name} --variant {wanted.name}`; afterwards the one of now can be put back.", engine=spec.name,
        )  # fmt: skip
    return built


def _run(command: list[str], say: Callable[[str], None], engine: str, model: str) -> None:
    environ = clean_environment(os.environ, os.cpu_count() or 1)
    ended = steps.run(command, environ, say, seconds=_SECONDS, errors_only=True)
    if ended.status != 0:
        reason = ended.lines[-1].strip() if ended.lines else f"exit status {ended.status}"
        raise ModelBroken(f"{model} cannot be converted: {reason[:500]}", engine=engine, model=model)
