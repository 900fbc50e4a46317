"""The receipt of a finished file: what was measured, and how it was made."""

from __future__ import annotations

import math
from importlib import metadata
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import soundfile
import sqlalchemy as sa

from ironclad import __version__, durable
from ironclad.engines.products import KARAOKE, MIXTURE, VOCALS, words
from ironclad.library.receipt import Receipt
from ironclad.stages.stage import opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ironclad.audio.encode import Encoded
    from ironclad.audio.loudness import Loudness
    from ironclad.audio.pcm import PcmFile
    from ironclad.engines.products import Formula
    from ironclad.stages.context import StageContext

    Pair = tuple[NDArray[np.float64], NDArray[np.float64]]

_SILENT = 1e-7
"""A removed part whose energy is so little of the mixture's (-70 dB) leaves nothing that could be heard."""


def decibels(peak: float) -> float | None:
    """A linear peak (1.0 is full scale) in dB; None for silence."""
    return round(20 * math.log10(peak), 2) if peak > 0 else None


def build(
    context: StageContext, *, kind: str, made_frames: int, offset: int, gain: float, peak: float,
    source_lufs: float, output: Loudness, residual_db: float, encoded: Encoded, file: Path, formula: Formula,
) -> dict[str, Any]:  # fmt: skip
    """The receipt as JSON data, without times (see `timed`): the same inputs give the same receipt.

    Args:
        context: of the stage that made the file.
        kind: the deliverable.
        made_frames: its samples per channel at the source's rate.
        offset: by how many frames the decoded file comes later than the samples that were encoded.
        gain: linear factor that kept it from clipping; 1.0 is none.
        peak: its linear sample peak before the gain.
        source_lufs: integrated loudness of the mixture.
        output: loudness of the file's samples.
        residual_db: energy of mixture - sum of stems, relative to the mixture.
        encoded: what the encoder reported.
        file: the finished file, tags included.
        formula: what it was mixed from.
    """
    separated = context.outputs["separate"].data
    decoded = context.outputs["validate"].data["decoded"]
    job = context.job
    receipt = Receipt(
        job_uuid=str(job.job_uuid), trace_id=job.trace_id, kind=kind, source_blake3=job.content_hash,
        source_samples=decoded["frames"], source_sample_rate=decoded["sample_rate"],
        samples=encoded.frames, sample_rate=encoded.sample_rate, channels=encoded.channels,
        same_length=made_frames == decoded["frames"], offset_samples=offset, format=encoded.format,
        bytes=file.stat().st_size, blake3=durable.digest(file), gain_db=round(20 * math.log10(gain), 3),
        sample_peak_db=decibels(peak * gain), true_peak_db=decibels(output.true_peak),
        clipped_samples=encoded.clipped_samples, source_lufs=round(source_lufs, 2),
        lufs=round(output.integrated_lufs, 2), residual_db=round(residual_db, 2),
        bleed_db=bleed_db(context, kind, formula), recipe=words(formula),
        engine=separated["engine"], engine_version=separated["version"], model=separated["model"],
        model_digest=separated["model_digest"], parameters=separated["parameters"],
        device=separated.get("device", ""), backend=separated.get("backend", ""), steps=separated.get("steps", []),
        category=context.outputs["categorize"].data["category"], ironclad=__version__, versions=versions(),
    )  # fmt: skip
    return receipt.to_dict()


def versions() -> dict[str, str]:
    """Versions of the libraries that touch samples."""
    return {
        "numpy": np.__version__, "av": metadata.version("av"),
        "ffmpeg": ".".join(map(str, av.library_versions["libavcodec"])),
        "libsndfile": soundfile.__libsndfile_version__,
    }  # fmt: skip


def bleed_db(context: StageContext, kind: str, formula: Formula) -> float | None:
    """An estimate of what is left of the removed part in the output: 10·log10 of its share of the output's energy.

    In each second and channel, the part of the output that can be explained as a scaled copy of what was removed (its
    projection, <o, r>² / <r, r>). It is an upper estimate: what the two have in common by their nature counts too.
    None where nothing was removed, or was not to be removed (the karaoke mix).
    """
    if kind == KARAOKE:
        return None
    mixture = opened(context, "stage", context.outputs["stage"].data["engine"])
    stems = {
        name: opened(context, "separate", shape) for name, shape in context.outputs["separate"].data["stems"].items()
    }
    common = total = removed_energy = mixed_energy = 0.0
    for output, removed in _pairs(formula, stems, mixture):
        cross = np.einsum("ij,ij->j", output, removed)
        removed_power = np.einsum("ij,ij->j", removed, removed)
        common += float((cross**2 / np.maximum(removed_power, np.finfo(float).tiny)).sum())
        total += float(np.vdot(output, output))
        removed_energy += float(removed_power.sum())
        mixed = output + removed
        mixed_energy += float(np.vdot(mixed, mixed))
    if removed_energy <= _SILENT * mixed_energy or common <= 0 or total <= 0:
        return None
    return round(10 * math.log10(min(1.0, common / total)), 2)


def _pairs(formula: Formula, stems: Mapping[str, PcmFile], mixture: PcmFile) -> Iterator[Pair]:
    """Second by second: the samples of a product, and those that were taken away to get it."""
    if set(stems) <= set(formula) and list(stems) != [VOCALS]:
        return  # everything there is
    sources = {**stems, MIXTURE: mixture}
    window = mixture.sample_rate
    parts = [sources[name] for name in formula]
    for whole, *blocks in zip(mixture.blocks(window), *(part.blocks(window) for part in parts), strict=True):
        one = np.zeros(whole.shape, np.float64)
        for factor, block in zip(formula.values(), blocks, strict=True):
            one += factor * block
        yield one, whole.astype(np.float64) - one


def timed(context: StageContext, receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt with its times. Publishing the same bytes again keeps the times of the first time."""
    with context.database.session() as session:
        before = session.scalar(
            sa.text(
                "SELECT receipt FROM artifact WHERE job_uuid = :job AND kind = :kind AND receipt->>'blake3' = :blake3 "
                "AND receipt->>'finished_at' <> '' ORDER BY created_at LIMIT 1"
            ),
            {"job": context.job.job_uuid, "kind": receipt["kind"], "blake3": receipt["blake3"]},
        )
        if before is not None:
            return {**receipt, **{name: before[name] for name in ("started_at", "finished_at", "seconds")}}
        now = session.scalar(sa.text("SELECT ironclad_now()"))
        spent = session.execute(
            sa.text(
                "SELECT DISTINCT ON (stage) stage, extract(epoch FROM ended_at - started_at) AS seconds "
                "FROM stage_run WHERE job_uuid = :job AND state = 'done' ORDER BY stage, attempt DESC"
            ),
            {"job": context.job.job_uuid},
        )
        seconds = {row.stage: round(float(row.seconds), 3) for row in spent}
    started = context.job.started_at
    return {
        **receipt, "started_at": started.isoformat() if started else "",
        "finished_at": now.isoformat() if now else "", "seconds": seconds,
    }  # fmt: skip
