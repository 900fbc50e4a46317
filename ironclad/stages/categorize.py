"""categorize: music, speech, silence, too short, or an instrumental already? Reads the tags to know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ironclad.errors import AlreadyInstrumental, IroncladError, SilentAudio, SpeechAudio, TooShort
from ironclad.jobs.states import JobState
from ironclad.metadata.read import read
from ironclad.stages.context import Stage, StageContext, StageResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.config import Settings
    from ironclad.db.tables import Job
    from ironclad.metadata.model import TrackTags

_SILENT = 0.995
_SPEECH = 0.8
# In brackets, or as the last words: "Song (Instrumental)", "Song [Karaoke Version]", "Song - Instrumental".
_INSTRUMENTAL = re.compile(
    r"[(\[][^)\]]*\b(instrumental|karaoke|off vocal)\b[^)\]]*[)\]]|[-\u2013:]\s*(instrumental|karaoke)( version)?\s*$",
    re.IGNORECASE,
)
_OURS = "IRONCLAD_JOB"


def says_instrumental(tags: TrackTags) -> str | None:
    """Why the tags say that there is nothing to remove; None if they do not."""
    if any(key.upper() == _OURS for key in tags.extra):
        return "it was made by Ironclad"
    titles = (tags.title,) if isinstance(tags.title, str) else (tags.title or ())
    for title in titles:
        if _INSTRUMENTAL.search(title):
            return f"its title is {title!r}"
    if any(language.lower() == "zxx" for language in tags.languages):
        return "its language is zxx (no words)"
    return None


def _verdict(context: StageContext, tags: TrackTags) -> tuple[str, IroncladError | None]:
    decoded = context.outputs["validate"].data["decoded"]
    seconds = decoded["frames"] / decoded["sample_rate"]
    settings = context.settings
    if seconds < settings.limits.min_seconds:
        return "too short", TooShort(f"It is {seconds:.2f} s long.")
    if decoded["silence_fraction"] >= _SILENT:
        return "silence", SilentAudio()
    reason = says_instrumental(tags)
    if reason is not None:
        return "instrumental", AlreadyInstrumental(f"Because {reason}.") if settings.output.skip_instrumentals else None
    if decoded["speech_score"] >= _SPEECH:
        return "speech", SpeechAudio() if settings.output.skip_speech else None
    return "music", None


def run(context: StageContext) -> StageResult:
    """Read tags and pictures into the stage's folder and decide what the recording is."""
    pictures = context.folder / "pictures"
    pictures.mkdir()
    reading = read(context.source, pictures, check=context.check)
    category, error = _verdict(context, reading.tags)
    if context.job.options.get("force"):
        error = None
    return StageResult(
        data={"category": category, "reading": reading.to_dict()},
        settle=None if error is None else JobState.SKIPPED,
        error=error,
    )


def parameters(job: Job, settings: Settings) -> Mapping[str, Any]:
    """What decides whether a recording is skipped."""
    return {
        "force": bool(job.options.get("force")), "min_seconds": settings.limits.min_seconds,
        "skip_instrumentals": settings.output.skip_instrumentals, "skip_speech": settings.output.skip_speech,
    }  # fmt: skip


STAGE = Stage(name="categorize", version=1, run=run, parameters=parameters, depends=("validate",))
