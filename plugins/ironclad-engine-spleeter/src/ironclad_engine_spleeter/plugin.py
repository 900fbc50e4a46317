"""What Ironclad loads: the declaration, without ONNX Runtime and TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ironclad.engines.contract import EngineSpec, MemoryModel, ModelFile, ModelSpec, PrivateEnvironment
from ironclad.engines.parameters import Parameter, ParameterKind
from ironclad.plugins.hookspecs import hookimpl
from ironclad_engine_spleeter import __version__
from ironclad_engine_spleeter.recipes import BACKENDS, BINS, RATE, RECIPES

if TYPE_CHECKING:
    from collections.abc import Sequence

IRONCLAD_API = 1

_MIB: Final = 1 << 20
_LICENCE: Final = "MIT, code and weights"
_TITLES: Final = {
    "2stems": "vocals and accompaniment",
    "4stems": "vocals, drums, bass and the rest",
    "5stems": "vocals, piano, drums, bass and the rest",
}

LOCK: Final = ("numpy==2.4.6", "onnxruntime==1.32.0", "onnx==1.23.2")
"""What the engine imports, exactly; onnx is for converting."""

REFERENCE: Final = ("spleeter==2.4.2", "tensorflow==2.12.1", "numpy==1.24.3")

_PARAMETERS: Final = (
    Parameter(
        name="bandwidth", kind=ParameterKind.CHOICE, default="11kHz", choices=tuple(BINS),
        help="Up to where stems are separated; above, there is nothing in any of them.",
    ),
    Parameter(
        name="wiener", kind=ParameterKind.BOOLEAN, default=False,
        help="Multichannel Wiener filter: fewer artefacts in space, for twice the time.",
    ),
    Parameter(
        name="backend", kind=ParameterKind.CHOICE, default="auto", choices=("auto", *BACKENDS), affects_result=False,
        help="What runs the networks: what is installed.",
    ),
)  # fmt: skip


def _memory(stems: Sequence[str]) -> MemoryModel:
    """What the networks work in, which they share, and each one's weights and estimate. Measured: docs/engines.md."""
    return MemoryModel(base=(260 + 70 * len(stems)) * _MIB)


@hookimpl
def ironclad_engines() -> list[EngineSpec]:
    """The Spleeter engine."""
    return [
        EngineSpec(
            name="spleeter",
            title="Spleeter 2.4.2 (U-Nets): ONNX Runtime, TensorFlow",
            version=__version__,
            api_version=1,
            entry="ironclad_engine_spleeter.separator:SpleeterSeparator",
            stems=RECIPES["2stems"].stems,
            models=tuple(
                ModelSpec(
                    name=recipe.name, title=_TITLES[recipe.name], licence=_LICENCE, stems=recipe.stems,
                    files=(
                        ModelFile(path=recipe.archive, size=recipe.size, sha256=recipe.sha256, sources=(recipe.url,)),
                    ),
                    memory=_memory(recipe.stems),
                )
                for recipe in RECIPES.values()
            ),
            memory=_memory(RECIPES["2stems"].stems),
            environment=PrivateEnvironment(
                name="onnx", title="ONNX Runtime: constant memory, a third of TensorFlow's time",
                requirements=LOCK, python=">=3.11,<3.15",
                variants=(
                    PrivateEnvironment(
                        name="tensorflow", title="spleeter itself, the reference: 1.4 GB of memory a minute",
                        requirements=REFERENCE, python=">=3.11,<3.12",
                        memory=MemoryModel(base=900 * _MIB, per_second=24 * _MIB),
                    ),
                ),
            ),
            converter="ironclad_engine_spleeter.convert:convert",
            converter_variant="onnx",
            sample_rate=RATE,
            parameters=_PARAMETERS,
            quality="many times faster than real time; less clean than Demucs, and nothing above 11 or 16 kHz",
        )
    ]  # fmt: skip
