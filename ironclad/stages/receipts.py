"""The receipt of a finished file: what was measured, and how it was made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ironclad import __version__, durable

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.audio.encode import Encoded
    from ironclad.audio.loudness import Loudness
    from ironclad.stages.context import StageContext

SCHEMA = 1


def decibels(peak: float) -> float | None:
    """A linear peak (1.0 is full scale) in dB; None for silence."""
    return round(20 * math.log10(peak), 2) if peak > 0 else None


def build(
    context: StageContext, *, kind: str, made_frames: int, offset: int, gain: float, peak: float,
    source: Loudness, output: Loudness, residual_db: float, encoded: Encoded, file: Path,
) -> dict[str, Any]:  # fmt: skip
    """The receipt as JSON data.

    Args:
        context: of the stage that made the file.
        kind: the deliverable.
        made_frames: its samples per channel at the source's rate.
        offset: by how many frames the decoded file comes later than the samples that were encoded.
        gain: linear factor that kept it from clipping; 1.0 is none.
        peak: its linear sample peak before the gain.
        source: loudness of the mixture.
        output: loudness of the file's samples.
        residual_db: energy of mixture - sum of stems, relative to the mixture.
        encoded: what the encoder reported.
        file: the finished file, tags included.
    """
    separated = context.outputs["separate"].data
    decoded = context.outputs["validate"].data["decoded"]
    job = context.job
    return {
        "schema_version": SCHEMA, "ironclad": __version__, "job_uuid": str(job.job_uuid), "trace_id": job.trace_id,
        "kind": kind, "source_blake3": job.content_hash,
        "source_samples": decoded["frames"], "source_sample_rate": decoded["sample_rate"],
        "samples": encoded.frames, "sample_rate": encoded.sample_rate, "channels": encoded.channels,
        "same_length": made_frames == decoded["frames"], "offset_samples": offset,
        "format": encoded.format, "bytes": file.stat().st_size, "blake3": durable.digest(file),
        "gain_db": round(20 * math.log10(gain), 3), "sample_peak_db": decibels(peak * gain),
        "true_peak_db": decibels(output.true_peak), "clipped_samples": encoded.clipped_samples,
        "source_lufs": round(source.integrated_lufs, 2), "lufs": round(output.integrated_lufs, 2),
        "residual_db": round(residual_db, 2), "engine": separated["engine"], "engine_version": separated["version"],
        "model": separated["model"], "model_digest": separated["model_digest"],
        "parameters": separated["parameters"], "category": context.outputs["categorize"].data["category"],
    }  # fmt: skip
