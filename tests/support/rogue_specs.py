"""Declarations of the engines in `tests/integration/engines/rogues`, which misbehave in every way."""

from __future__ import annotations

from pathlib import Path

from ironclad.engines.contract import EngineSpec, MemoryModel, ModelSpec
from ironclad.engines.parameters import Parameter, ParameterKind

ROGUES = Path(__file__).parents[1] / "integration/engines/rogues"
WHAT = ("value", "memory", "torch", "disk", "exit", "mono", "impostor", "SIGSEGV", "SIGKILL", "SIGABRT", "lock",
        "fork", "session", "nan", "short", "long", "missing")  # fmt: skip


def rogue_spec(name: str) -> EngineSpec:
    return EngineSpec(
        name=name.lower(), title=name, version="1", api_version=1, entry=f"rogue_engines:{name}",
        stems=("vocals", "rest"), models=(ModelSpec(name="one", title="", licence="MIT"),), memory=MemoryModel(base=1),
        parameters=(
            Parameter(name="steps", kind=ParameterKind.INTEGER, default=4, minimum=1),
            Parameter(name="pause", kind=ParameterKind.NUMBER, default=0.0, minimum=0.0),
            Parameter(name="what", kind=ParameterKind.CHOICE, default="value", choices=WHAT),
        ),
    )  # fmt: skip


def budget_spec() -> EngineSpec:
    """An engine that can be stepped down: as `rogue_engines.Budget`."""
    memory = MemoryModel(
        base=100 * 10**6, per_segment_second=10**7, segment_parameter="segment", batch_parameter="batch"
    )
    return EngineSpec(
        name="budget", title="Budget", version="1", api_version=1, entry="rogue_engines:Budget",
        stems=("vocals", "accompaniment"), memory=memory,
        models=(
            ModelSpec(name="large", title="", licence="MIT", smaller="small"),
            ModelSpec(name="small", title="", licence="MIT"),
        ),
        parameters=(
            Parameter(name="segment", kind=ParameterKind.NUMBER, default=8.0, minimum=2.0),
            Parameter(name="batch", kind=ParameterKind.INTEGER, default=4, minimum=1, affects_result=False),
            Parameter(
                name="error", kind=ParameterKind.CHOICE, default="cuda", choices=("cuda", "memory", "limit", "exit"),
                affects_result=False,
            ),
        ),
    )  # fmt: skip
