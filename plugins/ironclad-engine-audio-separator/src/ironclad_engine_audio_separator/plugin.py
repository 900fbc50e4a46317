"""What Ironclad loads: the declaration, without PyTorch and audio-separator."""

from __future__ import annotations

from typing import Final

from ironclad.engines.contract import EngineSpec, MemoryModel, ModelFile, ModelSpec, PrivateEnvironment
from ironclad.engines.parameters import Parameter, ParameterKind
from ironclad.plugins.hookspecs import hookimpl
from ironclad_engine_audio_separator import __version__

IRONCLAD_API = 1

_MIB: Final = 1 << 20
_LICENCE: Final = "unknown: whoever published the weights decides; ask there before you use them"
_TWO: Final = ("vocals", "instrumental")
_FOUR: Final = ("drums", "bass", "other", "vocals")

LOCK: Final = (
    "audio-separator==0.47.1",
    "torch==2.13.0",
    "onnxruntime==1.32.0",
    "librosa==0.11.0",
    "soundfile==0.14.0",
    "numpy==2.4.6",
    "PyYAML==6.0.3",
)
"""What the engine imports, exactly. audio-separator 0.47.1 imports ONNX Runtime without requiring it, and wants no
PyTorch in particular."""

_NONE: Final = (ModelFile(path="weights", size=0, sha256="0" * 64),)
"""No weights' digest is known to this plugin: they are imported with `--pin`, which pins what the operator has."""

_PARAMETERS: Final = (
    Parameter(
        name="overlap", kind=ParameterKind.NUMBER, default=0.0, minimum=0.0, maximum=0.95,
        help="Share of a segment that the next one covers again, cross-faded; 0 is the model's own. Not for VR models.",
    ),
    Parameter(
        name="denoise", kind=ParameterKind.BOOLEAN, default=False,
        help="MDX-Net models: average the separations of the song and of the song turned over, for twice the time.",
    ),
    Parameter(
        name="aggression", kind=ParameterKind.INTEGER, default=5, minimum=-100, maximum=100,
        help="VR models: how much is taken away.",
    ),
)  # fmt: skip


def _model(name: str, title: str, stems: tuple[str, ...] = _TWO, memory: MemoryModel | None = None) -> ModelSpec:
    return ModelSpec(name=name, title=title, licence=_LICENCE, files=_NONE, stems=stems, memory=memory)


@hookimpl
def ironclad_engines() -> list[EngineSpec]:
    """The engine; its models are whatever the operator imports."""
    return [
        EngineSpec(
            name="audio-separator",
            title="audio-separator 0.47.1: MDX-Net, MDX23C, RoFormer, VR",
            version=__version__,
            api_version=1,
            entry="ironclad_engine_audio_separator.separator:ArchitectureSeparator",
            stems=_TWO,
            models=(
                _model("roformer", "BS- or Mel-Band RoFormer: vocals and the rest (.ckpt and .yaml)"),
                _model("roformer-4stems", "the same with four stems", _FOUR),
                _model("mdx23c", "TFC-TDF v3 (.ckpt and .yaml)"),
                _model("mdx23c-4stems", "the same with four stems", _FOUR),
                _model("mdx-net", "MDX-Net (.onnx and .json)"),
                _model(
                    "vr", "VR architecture (.pth and .json): reads whole songs",
                    memory=MemoryModel(base=1500 * _MIB, per_second=12 * _MIB),
                ),
            ),
            memory=MemoryModel(base=3500 * _MIB),
            environment=PrivateEnvironment(requirements=LOCK, python=">=3.11,<3.14"),
            sample_rate=44100,
            devices=("cuda", "mps", "cpu"),
            parameters=_PARAMETERS,
            quality="depends on the model; the best published ones are RoFormers, which are slow without a GPU",
            custom_models=True,
        )
    ]  # fmt: skip
