"""stage: the recording as float32 PCM: at its own rate for the mix, and as the engine wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ironclad.audio.decode import Decoded, decode
from ironclad.audio.downmix import to_channels
from ironclad.audio.pcm import PcmFile
from ironclad.audio.resample import resample
from ironclad.engines import choice
from ironclad.errors import OutputInvalid
from ironclad.stages.context import Stage, StageContext, StageResult
from ironclad.stages.validate import limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import Settings
    from ironclad.db.tables import Job

MIXTURE = "mixture.f32"
ENGINE_INPUT = "engine.f32"
_STEREO = 2


def run(context: StageContext) -> StageResult:
    """Decode; mix down to stereo where there are more channels; resample where the engine asks for its own rate."""
    job = context.job
    engine = choice.of_job(context.settings.layout, job.engine, job.parameters)
    raw = context.folder / "decoded.f32"
    decoded = decode(
        context.source, raw, limits(context.settings.limits),
        progress=lambda value: context.fraction(value * 0.6), check=context.check,
    )  # fmt: skip
    expected = Decoded.from_dict(context.outputs["validate"].data["decoded"])
    if decoded.blake3 != expected.blake3:
        raise OutputInvalid("The file decodes differently than when it was validated.")
    mixture = PcmFile(raw, decoded.frames, decoded.channels, decoded.sample_rate)
    target = context.folder / MIXTURE
    if decoded.channels > _STEREO:
        mixture = to_channels(mixture, target, _STEREO, check=context.check)
        raw.unlink()
    else:
        raw.rename(target)
        mixture = PcmFile(target, decoded.frames, decoded.channels, decoded.sample_rate)
    shaped = _for_engine(context, mixture, engine.sample_rate or mixture.sample_rate, engine.spec.channels)
    return StageResult(data={"mixture": _shape(mixture), "engine": _shape(shaped)})


def _for_engine(context: StageContext, mixture: PcmFile, rate: int, channels: int) -> PcmFile:
    """The mixture in the engine's rate and channels; the mixture itself where it fits already."""
    shaped = mixture
    if rate != mixture.sample_rate:
        shaped = resample(
            mixture, context.folder / "resampled.f32", rate,
            progress=lambda value: context.fraction(0.6 + value * 0.3), check=context.check,
        )  # fmt: skip
    if channels != shaped.channels:
        before = shaped
        shaped = to_channels(shaped, context.folder / ENGINE_INPUT, channels, check=context.check)
        if before is not mixture:
            before.path.unlink()
    return shaped


def _shape(pcm: PcmFile) -> dict[str, Any]:
    return {"file": pcm.path.name, "frames": pcm.frames, "channels": pcm.channels, "sample_rate": pcm.sample_rate}


def opened(context: StageContext, stage: str, shape: Mapping[str, Any]) -> PcmFile:
    """A PCM file that a stage described in its marker, checked for size."""
    pcm = PcmFile(
        context.outputs[stage].folder / shape["file"], shape["frames"], shape["channels"], shape["sample_rate"]
    )
    pcm.verify()
    return pcm


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """The engine decides rate and channels; the limits decide what a truncated file gives."""
    engine = choice.of_job(settings.layout, job.engine, job.parameters)
    return {
        "rate": engine.sample_rate, "channels": engine.spec.channels,
        "allow_truncated": settings.limits.allow_truncated,
    }  # fmt: skip


STAGE = Stage(name="stage", version=1, run=run, parameters=parameters, depends=("validate",))
