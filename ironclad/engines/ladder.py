"""What to try when memory runs out: shorter segments, fewer of them, the CPU, a smaller model, as allowed.

Nothing is stepped down in silence: each rung that was taken is in the stage's record and in the receipt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ironclad.engines.contract import EngineSpec
    from ironclad.engines.parameters import Parameter, ParameterValue


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to separate a recording."""

    model: str
    device: str
    values: Mapping[str, ParameterValue]
    """All parameters."""
    step: str = ""
    """What was changed against the one before: segment, batch, cpu, model; empty for what was asked for."""

    def change(self, before: Rung) -> dict[str, Any]:
        """The step in words and data, for the record."""
        pairs: dict[str, tuple[Any, Any]] = {
            "model": (before.model, self.model),
            "device": (before.device, self.device),
        }
        pairs |= {name: (before.values.get(name), value) for name, value in self.values.items()}
        changed = {name: {"from": old, "to": new} for name, (old, new) in pairs.items() if old != new}
        return {"step": self.step, "changed": changed}


def rungs(spec: EngineSpec, first: Rung, allowed: Sequence[str], stems: Collection[str] = ()) -> Iterator[Rung]:
    """What was asked for, then less and less memory.

    Segments, then batches are made smaller, down to what the engine declares (or its parameters allow); then the same
    on the CPU; then the same with the model that the engine declares as the smaller one, if it makes `stems` at the
    same sample rate. `allowed` says which of `segment`, `batch`, `cpu`, `model` may be used, in which order the two
    latter.
    """
    places = [first]
    for step in allowed:
        if step == "cpu" and places[-1].device != "cpu" and "cpu" in spec.devices:
            places.append(replace(places[-1], device="cpu", step="cpu"))
        elif step == "model":
            places += _smaller_models(spec, places[-1], stems)
    for place in places:
        yield place
        at = place
        memory = spec.model(place.model).memory or spec.memory
        for step, name, declared, own in (
            ("segment", memory.segment_parameter, memory.segments, 0),
            ("batch", memory.batch_parameter, memory.batches, memory.cpu_batch if place.device == "cpu" else 0),
        ):
            if step not in allowed or not name:
                continue
            for value in _less(spec, name, float(at.values[name]) or own, declared):
                at = replace(at, values={**at.values, name: value}, step=step)
                yield at


def _smaller_models(spec: EngineSpec, place: Rung, stems: Collection[str]) -> list[Rung]:
    found: list[Rung] = []
    name, seen = spec.model(place.model).smaller, {place.model}
    while name and name not in seen:
        seen.add(name)
        fits = spec.sample_rate_of(name) == spec.sample_rate_of(place.model) and set(stems) <= set(spec.stems_of(name))
        if fits:
            found.append(replace(place, model=name, step="model"))
        name = spec.model(name).smaller
    return found


def _less(spec: EngineSpec, name: str, value: float, declared: Sequence[float]) -> Iterator[ParameterValue]:
    """Smaller values of a parameter, the largest first; 0 (the engine's own choice) counts as the largest."""
    parameter = next(one for one in spec.parameters if one.name == name)
    now = value or float("inf")
    if declared:
        yield from (_typed(parameter, one) for one in sorted(declared, reverse=True) if one < now)
        return
    least = max(float(parameter.minimum or 0), 1.0)
    while now != float("inf") and now / 2 >= least:
        now /= 2
        if isinstance(parameter.default, int):
            now = float(int(now))
        yield _typed(parameter, now)


def _typed(parameter: Parameter, value: float) -> ParameterValue:
    return int(value) if isinstance(parameter.default, int) else float(value)
