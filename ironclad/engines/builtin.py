"""The plugin that ships with Ironclad: the engine that needs no model. Loaded like anybody's."""

from __future__ import annotations

from ironclad.engines.contract import EngineSpec, MemoryModel, ModelSpec, SharedEnvironment
from ironclad.engines.parameters import Parameter, ParameterKind
from ironclad.plugins.hookspecs import hookimpl

IRONCLAD_API = 1

_MIB = 1 << 20


@hookimpl
def ironclad_engines() -> list[EngineSpec]:
    """The centre engine."""
    return [
        EngineSpec(
            name="center",
            title="Stereo centre extraction (no model)",
            version="1",
            api_version=1,
            entry="ironclad.engines.center:CenterSeparator",
            stems=("vocals", "accompaniment"),
            models=(ModelSpec(name="none", title="No weights", licence="MIT"),),
            memory=MemoryModel(base=96 * _MIB),
            environment=SharedEnvironment(packages=("numpy",)),
            parameters=(
                Parameter(
                    name="sharpness", kind=ParameterKind.NUMBER, default=8.0, minimum=1.0, maximum=64.0,
                    help="Exponent of the mask: higher takes less of what is near the centre.",
                ),
                Parameter(
                    name="low_hz", kind=ParameterKind.NUMBER, default=220.0, minimum=0.0, maximum=1000.0, unit="Hz",
                    help="Everything below stays in the accompaniment: bass and kick drum.",
                ),
                Parameter(
                    name="high_hz", kind=ParameterKind.NUMBER, default=16000.0, minimum=1000.0, maximum=96000.0,
                    unit="Hz", help="Everything above stays in the accompaniment.",
                ),
                Parameter(
                    name="transients", kind=ParameterKind.NUMBER, default=1.0, minimum=0.0, maximum=10.0,
                    help="How firmly drum hits are kept in the accompaniment; 0 does not look for them.",
                ),
            ),
            quality="basic quality; install Demucs for real work",
            exact_sum=True,
        ),
    ]  # fmt: skip
