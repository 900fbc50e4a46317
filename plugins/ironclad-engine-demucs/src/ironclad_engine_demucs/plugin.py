"""What Ironclad loads: the declaration, without torch."""

from __future__ import annotations

from typing import Final

from ironclad.engines.contract import EngineSpec, MemoryModel, ModelFile, ModelSpec, PrivateEnvironment
from ironclad.engines.parameters import Parameter, ParameterKind
from ironclad.plugins.hookspecs import hookimpl
from ironclad_engine_demucs import __version__
from ironclad_engine_demucs.bags import NAMES, files_of

IRONCLAD_API = 1

_MIB: Final = 1 << 20
_SEGMENT: Final = 500 * _MIB
"""What one segment of a transformer takes while it is worked on."""
_SECOND: Final = 48 * _MIB
"""What each second of a segment takes with the older networks, whose segments may be shorter."""
_SECONDS: Final = (44.0, 22.0, 11.0)
_PYTHON: Final = ">=3.11,<3.15"
_FOUR: Final = ("drums", "bass", "other", "vocals")
_LICENCE: Final = (
    "MIT code; the weights come with it, without a licence of their own, trained on MUSDB18-HQ (research use) and "
    "private songs"
)

LIGHT: Final = (
    "numpy==2.4.6",
    "openvino==2026.4.1",
    "onnxruntime==1.32.0",
    "PyYAML==6.0.3",
)
"""What graphs need."""

LOCK: Final = (
    "torch==2.13.0",
    "demucs==4.1.0",
    "einops==0.8.2",
    "julius==0.2.8",
    "tqdm==4.70.1",
    "onnx==1.23.2",
    *LIGHT,
)
"""What the engine imports, exactly; what these need in turn is theirs to say (CUDA's packages differ by machine).
demucs 4.1.0 imports NumPy without requiring it."""

_PARAMETERS: Final = (
    Parameter(
        name="shifts", kind=ParameterKind.INTEGER, default=0, minimum=0, maximum=20,
        help="Average so many separations of the song delayed by up to half a second: slightly better, N times slower.",
    ),
    Parameter(
        name="overlap", kind=ParameterKind.NUMBER, default=0.25, minimum=0.0, maximum=0.95,
        help="Share of a segment that the next one covers again.",
    ),
    Parameter(
        name="segment", kind=ParameterKind.NUMBER, default=0.0, minimum=0.0, maximum=120.0, unit="s",
        help="Length of a segment; 0 is the model's own. Transformer models take no longer one than their own.",
    ),
    Parameter(
        name="seed", kind=ParameterKind.INTEGER, default=0, minimum=0, maximum=2**31 - 1,
        help="Seed of the random delays; without shifts nothing is random.",
    ),
    Parameter(
        name="backend", kind=ParameterKind.CHOICE, default="auto", choices=("auto", *NAMES), affects_result=False,
        help="What runs the networks; auto: the fastest here that agrees with PyTorch on a reference second.",
    ),
    Parameter(
        name="batch", kind=ParameterKind.INTEGER, default=0, minimum=0, maximum=64, affects_result=False,
        help="Segments at a time; 0: one on the CPU, as many as fit in half of the free memory on a GPU.",
    ),
)  # fmt: skip


def _memory(base: int, seconds: tuple[float, ...] = ()) -> MemoryModel:
    """As measured with PyTorch; graphs run segments one by one, so that a batch costs them next to nothing.

    `seconds`: segments to step down to; transformers have none, because shorter ones are padded.
    """
    return MemoryModel(
        base=base * _MIB, per_segment_second=_SECOND if seconds else _SEGMENT,
        segment_parameter="segment" if seconds else "", segments=seconds,
        batch_parameter="batch", batches=(8, 4, 2, 1), cpu_batch=1, apart=("backend",),
    )  # fmt: skip


def _model(
    name: str, title: str, *, stems: tuple[str, ...] = (), quality: str = "", memory: MemoryModel | None = None
) -> ModelSpec:
    files = tuple(
        ModelFile(path=file.name, size=file.size, sha256=file.sha256, sources=(file.url,)) for file in files_of(name)
    )
    return ModelSpec(name=name, title=title, licence=_LICENCE, files=files, stems=stems, quality=quality, memory=memory)


@hookimpl
def ironclad_engines() -> list[EngineSpec]:
    """The Demucs engine."""
    return [
        EngineSpec(
            name="demucs",
            title="Demucs 4.1.0 (hybrid transformer): PyTorch, OpenVINO, ONNX Runtime",
            version=__version__,
            api_version=1,
            entry="ironclad_engine_demucs.separator:DemucsSeparator",
            stems=_FOUR,
            models=(
                _model("htdemucs", "Hybrid Transformer Demucs", quality="the best for its time"),
                _model(
                    "htdemucs_ft", "the same, one fine-tuned network a stem", memory=_memory(1900),
                    quality="four times slower; drums, bass and other gain most",
                ),
                _model(
                    "htdemucs_6s", "with guitar and piano", stems=(*_FOUR, "guitar", "piano"),
                    quality="experimental; the piano is weak",
                ),
                _model(
                    "hdemucs_mmi", "Hybrid Demucs v3, retrained", memory=_memory(1200, _SECONDS),
                    quality="before transformers",
                ),
                _model(
                    "mdx_extra", "four networks of the 2021 challenge", memory=_memory(1800, _SECONDS),
                    quality="trained with MUSDB's test songs too: do not compare it on them",
                ),
            ),
            memory=_memory(800),
            environment=PrivateEnvironment(
                name="pytorch", title="everything: all models, GPUs, converting", requirements=LOCK, python=_PYTHON,
                variants=(
                    PrivateEnvironment(
                        name="light", title="OpenVINO and ONNX Runtime for converted models on CPUs",
                        requirements=LIGHT, python=_PYTHON,
                    ),
                ),
            ),
            converter="ironclad_engine_demucs.export:convert",
            converter_variant="pytorch",
            sample_rate=44100,
            devices=("cuda", "mps", "cpu"),
            parameters=_PARAMETERS,
            quality="the reference for quality on ordinary machines; slower than real time on one core",
            custom_models=True,
        )
    ]  # fmt: skip
