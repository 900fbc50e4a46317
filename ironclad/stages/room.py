"""Room on the disk: a job that would fill it does not begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad import durable
from ironclad.errors import DiskFull

if TYPE_CHECKING:
    from ironclad.audio.info import AudioInfo
    from ironclad.stages.context import StageContext

_COPIES = 6.0
"""The mixture, an engine's input, two stems, the instrumental, and the encoded files, each as float PCM at most."""


def needed(info: AudioInfo, stems: int) -> int:
    """Bytes that a job needs below work/ and output/ at its worst."""
    seconds = info.duration or 0.0
    one = seconds * info.sample_rate * max(2, info.channels) * 4
    return int(one * (_COPIES + max(0, stems - 2)))


def demand(context: StageContext, info: AudioInfo) -> None:
    """Raise `DiskFull` (the job waits and is tried again) unless there is room above the floor."""
    want = needed(info, len(context.job.stems)) + context.settings.disk.min_free_bytes
    for folder in (context.layout.work, context.layout.output):
        free = durable.free_bytes(folder)
        if free < want:
            raise DiskFull(
                f"{folder.name}/ has {free / 1e6:,.0f} MB free; this job and the floor need {want / 1e6:,.0f} MB.",
                free=free, needed=want,
            )  # fmt: skip
