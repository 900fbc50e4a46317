"""validate: is it audio, whole and within the limits? A full decode in the sandbox, nothing written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ironclad.audio.decode import examine, probe
from ironclad.audio.info import AudioInfo, AudioLimits
from ironclad.stages import room, viruses
from ironclad.stages.context import Stage, StageContext, StageResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import LimitSettings, Settings
    from ironclad.db.tables import Job


def limits(settings: LimitSettings) -> AudioLimits:
    """The decoder's limits from the settings."""
    return AudioLimits(
        max_bytes=settings.max_bytes, max_seconds=settings.max_seconds, max_decoded_bytes=settings.max_decoded_bytes,
        max_channels=settings.max_channels, min_sample_rate=settings.min_sample_rate,
        max_sample_rate=settings.max_sample_rate, allow_truncated=settings.allow_truncated,
        decode_seconds=settings.decode_seconds, decode_wall_seconds=settings.decode_wall_seconds,
        decode_memory_bytes=settings.decode_memory_bytes,
    )  # fmt: skip


def run(context: StageContext) -> StageResult:
    """Scan, probe, check for room on the disk, decode.

    Raises the `InputError` that fits, `ScannerUnavailable`, or `DiskFull`.
    """
    wanted = limits(context.settings.limits)
    scanned = viruses.demand(context)
    info: AudioInfo = probe(context.source, wanted, check=context.check)
    room.demand(context, info)
    decoded = examine(context.source, wanted, progress=context.fraction, check=context.check)
    return StageResult(
        data={"info": info.to_dict(), "decoded": decoded.to_dict(), **scanned},
        facts={"duration_seconds": decoded.frames / decoded.sample_rate},
    )


def parameters(_job: Job, settings: Settings) -> Mapping[str, Any]:
    """The limits decide what passes, and the scanner where there is one."""
    virus = {"virus": settings.virus.model_dump(mode="json", exclude={"seconds"})} if settings.virus.socket else {}
    return {**settings.limits.model_dump(mode="json"), **virus}


STAGE = Stage(name="validate", version=1, run=run, parameters=parameters)
