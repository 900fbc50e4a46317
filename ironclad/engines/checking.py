"""Whether an engine works here, found out by trying: its code where it runs, and every byte of its models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ironclad.engines import choice, install
from ironclad.engines.models import ModelStore
from ironclad.errors import IroncladError

if TYPE_CHECKING:
    from ironclad.layout import Layout


def check(layout: Layout, name: str) -> dict[str, Any]:
    """`engine`, `python`, `devices`, `packages`, `models` (whole ones, by name) and `problems` (`model`, `error`).

    Takes seconds: it imports the engine. Raises `EngineMissing`, `EngineNotBuilt`, `EngineInstallFailed`.
    """
    spec = choice.declared(layout, name)
    report = install.check(layout, spec)
    store = ModelStore(layout)
    there: list[str] = []
    problems: list[dict[str, Any]] = []
    for stored in store.models(name):
        try:
            store.required(spec, stored.name)
            there.append(stored.name)
        except IroncladError as exc:
            problems.append({"model": stored.name, "error": exc.to_dict()})
    return {"engine": name, **report, "models": there, "problems": problems}
