"""recombine: the products wanted, combined, encoded, checked by decoding them again, tagged, each with its receipt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ironclad import durable
from ironclad.audio import compare
from ironclad.audio.decode import decode
from ironclad.audio.encode import Encoded, EncodeSpec, encode
from ironclad.audio.info import AudioInfo
from ironclad.audio.loudness import integrated_lufs, measure
from ironclad.audio.pcm import PcmFile
from ironclad.audio.resample import resampled_frames
from ironclad.config import RecombineSettings
from ironclad.engines import products
from ironclad.errors import OutputInvalid
from ironclad.jobs import pipeline
from ironclad.stages import receipts, tagging
from ironclad.stages.context import Stage, StageContext, StageResult
from ironclad.stages.mixing import combine, fit, sample_peak
from ironclad.stages.stage import opened
from ironclad.stages.validate import limits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.tables import Job

_CEILING: Final = 10 ** (-0.1 / 20)  # -0.1 dBFS: the highest sample peak that is encoded without a gain
_TRUE_CEILING: Final = 10 ** (-1 / 20)  # -1 dBTP, as EBU R 128 has it (and its Tech 3344 for lossy codecs)
_MAX_LAG: Final = 4096  # frames; more than any codec's delay
_HIGH_PASSED: Final = {"opus": 0.01}
"""Opus takes away what is below 3 Hz, which shifts the phase of a deep bass by many frames (at 480 Hz: by a tenth)."""


@dataclass(frozen=True, slots=True)
class Made:
    """One deliverable before it is encoded."""

    kind: str
    pcm: PcmFile
    peak: float
    """Sample peak before the gain."""
    gain: float
    formula: products.Formula


def mixing(job: Job, settings: Settings) -> RecombineSettings:
    """How a job's products are made: as it asks, else as the settings say."""
    asked = job.options.get(pipeline.MIXING, {})
    return RecombineSettings.model_validate({**settings.recombine.model_dump(), **asked})


def formula(kind: str, made: Sequence[str], mix: RecombineSettings) -> products.Formula:
    """What a product is the weighted sum of. Raises `BadRequest` for one that these stems do not give."""
    return products.formula(kind, made, method=mix.instrumental, vocals=10 ** (mix.karaoke_db / 20))


@dataclass(frozen=True, slots=True)
class _Desk:
    """The stems at the source's rate and the mixture: what products are mixed from."""

    context: StageContext
    sources: Mapping[str, PcmFile]

    def parts(self, formula: products.Formula) -> list[tuple[PcmFile, float]]:
        return [(self.sources[name], factor) for name, factor in formula.items()]

    def gain(self, formulas: Collection[products.Formula], peak: str) -> float:
        """The one factor that keeps every product from clipping; 1.0 where none is needed.

        One for all, so that the files of a song keep their levels and can be played against each other.
        """
        highest, ceiling = (self._true_peak, _TRUE_CEILING) if peak == "true" else (self._sample_peak, _CEILING)
        loudest = max(highest(formula) for formula in formulas)
        return 1.0 if loudest <= ceiling else ceiling / loudest

    def _sample_peak(self, formula: products.Formula) -> float:
        return sample_peak(self.parts(formula), check=self.context.check)

    def _true_peak(self, formula: products.Formula) -> float:
        scratch = self.context.folder / "scratch" / "peak.f32"
        pcm, peak = combine(self.parts(formula), scratch, check=self.context.check)
        return max(peak, measure(pcm, check=self.context.check).true_peak)

    def make(self, kind: str, formula: products.Formula, gain: float) -> Made:
        out = self.context.folder / f"{kind}.f32"
        pcm, peak = combine(self.parts(formula), out, gain=gain, check=self.context.check)
        return Made(kind, pcm, peak / gain, gain, formula)


def _verified(context: StageContext, made: Made, file: Path, encoded: Encoded) -> int:
    """Decode what was encoded; returns its offset in frames. Raises `OutputInvalid` unless length and offset fit."""
    again = context.folder / "verify.f32"
    try:
        decoded = decode(file, again, limits(context.settings.limits), check=context.check)
        expected = resampled_frames(made.pcm.frames, made.pcm.sample_rate, decoded.sample_rate)
        if decoded.frames != expected or decoded.channels != made.pcm.channels:
            raise OutputInvalid(
                f"{file.name} decodes to {decoded.frames} frames of {decoded.channels} channels; "
                f"{expected} of {made.pcm.channels} were expected."
            )
        if decoded.sample_rate != made.pcm.sample_rate:
            return 0  # another rate was asked for (Opus): the length is the check
        pcm = PcmFile(again, decoded.frames, decoded.channels, decoded.sample_rate)
        above = _HIGH_PASSED.get(encoded.format, 0.0)
        offset = compare.lag(made.pcm, pcm, min(_MAX_LAG, max(1, made.pcm.frames // 4)), above=above)
        if offset != 0 and made.peak > compare_floor(encoded):
            raise OutputInvalid(f"{file.name} is shifted by {offset} frames.")
        return offset
    finally:
        durable.remove(again, reason="checked")


def compare_floor(_encoded: Encoded) -> float:
    """Below this sample peak a lossy codec leaves too little to align by (-60 dBFS)."""
    return 1e-3


def _deliver(
    context: StageContext, made: Made, info: AudioInfo, *, source: Future[float], residual: float, aside: Executor
) -> dict[str, Any]:  # fmt: skip
    job = context.job
    spec = EncodeSpec.for_source(info, job.output_format)
    file = context.folder / f"{made.kind}{spec.suffix}"
    measured = aside.submit(measure, made.pcm, check=context.check)
    encoded = encode(made.pcm, file, spec, check=context.check)
    offset = _verified(context, made, file, encoded)
    loudness = measured.result()
    losses = tagging.apply(context, file, made.kind, loudness)
    receipt = receipts.build(
        context, kind=made.kind, made_frames=made.pcm.frames, offset=offset, gain=made.gain, peak=made.peak,
        source_lufs=source.result(), output=loudness, residual_db=residual, encoded=encoded, file=file,
        formula=made.formula,
    )  # fmt: skip
    durable.remove(made.pcm.path, reason="encoded")
    return {"kind": made.kind, "file": file.name, "receipt": receipt, "losses": losses}


def run(context: StageContext) -> StageResult:
    """Combine, encode, verify and tag every product wanted."""
    mixture = opened(context, "stage", context.outputs["stage"].data["mixture"])
    separated = context.outputs["separate"].data
    info = AudioInfo.from_dict(context.outputs["validate"].data["info"])
    scratch = context.folder / "scratch"
    scratch.mkdir()
    stems = {
        name: fit(opened(context, "separate", shape), mixture, scratch, check=context.check)
        for name, shape in separated["stems"].items()
    }
    mix = mixing(context.job, context.settings)
    wanted = list(dict.fromkeys(context.job.stems)) or [products.INSTRUMENTAL]
    # What cannot be made is refused before any work.
    formulas = {kind: formula(kind, list(stems), mix) for kind in wanted}
    context.fraction(0.1)
    # FFmpeg measures loudness without holding the interpreter: beside the rest, where a core is free.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loudness") as aside:
        source = aside.submit(integrated_lufs, mixture, check=context.check)
        residual = compare.residual_db(mixture, list(stems.values()))
        desk = _Desk(context, {**stems, products.MIXTURE: mixture})
        gain = desk.gain(formulas.values(), mix.peak)
        files = []
        for index, kind in enumerate(wanted):
            context.progress(0.2 + 0.8 * index / len(wanted), kind)
            made = desk.make(kind, formulas[kind], gain)
            files.append(_deliver(context, made, info, source=source, residual=residual, aside=aside))
    durable.remove_tree(scratch, reason="combined")
    return StageResult(data={"files": files, "residual_db": residual})


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """Products, how they are mixed, format, and what the tags are derived by."""
    mix = mixing(job, settings).model_dump()
    return {"stems": job.stems, "mix": mix, "format": job.output_format, "tags": tagging.parameters(job, settings)}


STAGE = Stage(
    name="recombine", version=2, run=run, parameters=parameters, depends=("validate", "metadata", "stage", "separate")
)
