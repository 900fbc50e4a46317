"""recombine: the stems wanted, combined, encoded, checked by decoding them again, tagged, each with its receipt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ironclad import durable
from ironclad.audio import compare
from ironclad.audio.decode import decode
from ironclad.audio.encode import Encoded, EncodeSpec, encode
from ironclad.audio.info import AudioInfo
from ironclad.audio.loudness import Loudness, measure
from ironclad.audio.pcm import PcmFile
from ironclad.audio.resample import resampled_frames
from ironclad.errors import BadRequest, OutputInvalid
from ironclad.stages import receipts, tagging
from ironclad.stages.context import Stage, StageContext, StageResult
from ironclad.stages.mixing import combine, fit
from ironclad.stages.stage import opened
from ironclad.stages.validate import limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.tables import Job

INSTRUMENTAL: Final = "instrumental"
_CEILING: Final = 0.9886  # -0.1 dBFS: the highest sample peak that is encoded without a gain
_MAX_LAG: Final = 4096  # frames; more than any codec's delay


@dataclass(frozen=True, slots=True)
class Made:
    """One deliverable before it is encoded."""

    kind: str
    pcm: PcmFile
    peak: float
    """Sample peak before the gain."""
    gain: float


def recipe(kind: str, stems: Mapping[str, PcmFile], mixture: PcmFile) -> list[tuple[PcmFile, float]]:
    """What a deliverable is the weighted sum of.

    The instrumental is the engine's own accompaniment, else mixture - vocals, else the sum of all stems that are not
    vocals. Raises `BadRequest` for a stem that the engine does not make.
    """
    if kind in stems:
        return [(stems[kind], 1.0)]
    if kind == INSTRUMENTAL:
        if "accompaniment" in stems:
            return [(stems["accompaniment"], 1.0)]
        if "vocals" in stems:
            return [(mixture, 1.0), (stems["vocals"], -1.0)]
        return [(stem, 1.0) for stem in stems.values()]
    raise BadRequest(f"There is no stem {kind}; there is {', '.join([INSTRUMENTAL, *stems])}.")


def _make(context: StageContext, kind: str, stems: Mapping[str, PcmFile], mixture: PcmFile) -> Made:
    parts = recipe(kind, stems, mixture)
    out = context.folder / f"{kind}.f32"
    pcm, peak = combine(parts, out, check=context.check)
    if peak <= _CEILING:
        return Made(kind, pcm, peak, 1.0)
    gain = _CEILING / peak  # clipping is prevented, and the receipt says by how much
    pcm, _peak = combine(parts, out, gain=gain, check=context.check)
    return Made(kind, pcm, peak, gain)


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
        offset = compare.lag(made.pcm, pcm, min(_MAX_LAG, max(1, made.pcm.frames // 4)))
        if offset != 0 and made.peak > compare_floor(encoded):
            raise OutputInvalid(f"{file.name} is shifted by {offset} frames.")
        return offset
    finally:
        durable.remove(again, reason="checked")


def compare_floor(_encoded: Encoded) -> float:
    """Below this sample peak a lossy codec leaves too little to align by (-60 dBFS)."""
    return 1e-3


def _deliver(context: StageContext, made: Made, info: AudioInfo, source: Loudness, residual: float) -> dict[str, Any]:
    job = context.job
    spec = EncodeSpec.for_source(info, job.output_format)
    file = context.folder / f"{made.kind}{spec.suffix}"
    loudness = measure(made.pcm, check=context.check)
    encoded = encode(made.pcm, file, spec, check=context.check)
    offset = _verified(context, made, file, encoded)
    losses = tagging.apply(context, file, made.kind, loudness)
    receipt = receipts.build(
        context, kind=made.kind, made_frames=made.pcm.frames, offset=offset, gain=made.gain, peak=made.peak,
        source=source, output=loudness, residual_db=residual, encoded=encoded, file=file,
    )  # fmt: skip
    durable.remove(made.pcm.path, reason="encoded")
    return {"kind": made.kind, "file": file.name, "receipt": receipt, "losses": losses}


def run(context: StageContext) -> StageResult:
    """Combine, encode, verify and tag every stem wanted."""
    mixture = opened(context, "stage", context.outputs["stage"].data["mixture"])
    separated = context.outputs["separate"].data
    info = AudioInfo.from_dict(context.outputs["validate"].data["info"])
    scratch = context.folder / "scratch"
    scratch.mkdir()
    stems = {
        name: fit(opened(context, "separate", shape), mixture, scratch, check=context.check)
        for name, shape in separated["stems"].items()
    }
    wanted = list(dict.fromkeys(context.job.stems)) or [INSTRUMENTAL]
    for kind in wanted:
        recipe(kind, stems, mixture)  # a stem that cannot be made is refused before any work
    context.fraction(0.1)
    residual = compare.residual_db(mixture, list(stems.values()))
    source = measure(mixture, check=context.check)
    files = []
    for index, kind in enumerate(wanted):
        context.progress(0.2 + 0.8 * index / len(wanted), kind)
        files.append(_deliver(context, _make(context, kind, stems, mixture), info, source, residual))
    durable.remove_tree(scratch, reason="combined")
    return StageResult(data={"files": files, "residual_db": residual})


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """Stems, format, and what the tags are derived by."""
    return {"stems": job.stems, "format": job.output_format, "tags": tagging.parameters(settings)}


STAGE = Stage(
    name="recombine", version=1, run=run, parameters=parameters, depends=("validate", "metadata", "stage", "separate")
)
