"""The views of one job, as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ironclad.cli.text import ago, duration, size
from ironclad.errors import CATALOGUE
from ironclad.jobs.pipeline import STAGES
from ironclad_tui.screens.base import fields, heading
from ironclad_tui.screens.log import log_line
from ironclad_tui.text import STATES, Line, Span, bar, below, state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from ironclad.audio.sketch import Sketch
    from ironclad.db.tables import Job, StageRun
    from ironclad.jobs.query import JobDetail
    from ironclad.metadata.raster import Raster
    from ironclad.ops.looking import LogLine

_BAR: Final = 14
_PLAIN: Final = {
    "received": "It was found; its file is being taken in.",
    "queued": "It waits for a free worker.",
    "running": "A worker is at it.",
    "waiting_retry": "It failed in a way that may pass, and is tried again by itself.",
    "succeeded": "It is done.",
    "failed": "It failed for good; [r] tries again, [R] with another engine.",
    "cancelled": "Somebody cancelled it; [r] runs it after all.",
    "skipped": "There was nothing to do.",
    "quarantined": "It failed the same way too often; [r] tries again all the same.",
}


_LEVELS: Final = "▁▂▃▄▅▆▇█"
_QUIETEST_DB: Final = -80.0


def render(view: str, detail: JobDetail, log: Sequence[LogLine], now: datetime, root: str = "") -> list[Line]:
    """The lines of a view (the sound has its own: `sound`); paths are shown below `root`."""
    return VIEWS[view](detail, log, now, root)


def _why(detail: JobDetail, _: Sequence[LogLine], now: datetime, root: str) -> list[Line]:
    job = detail.job
    name = " - ".join(part for part in (job.artist, job.title) if part) or job.relative_path
    word = "cancelling" if job.cancel_requested else "held" if job.held else job.state
    lines = [heading(name), (Span(" "), state(word), Span(f"  {_reason(job, now)}"))]
    lines += _error(job)
    lines += [(), heading("Stages"), *_stages(detail, now), (), heading("Facts")]
    lines += fields(
        [
            ("Job", str(job.job_uuid)),
            ("User", job.user_id),
            ("Album", job.album),
            ("Source", below(root, job.source_path)),
            ("Size", size(job.source_size)),
            ("Length", None if job.duration_seconds is None else duration(job.duration_seconds)),
            ("Engine", f"{job.engine} on {job.engine_pool}"),
            ("Output", f"{', '.join(job.stems)} as {job.output_format}"),
            ("Attempt", f"{job.attempt}, {job.failures} failure{'' if job.failures == 1 else 's'}"),
            ("Worker", job.worker),
            ("Priority", str(job.priority)),
            ("Received", _when(job.created_at, now)),
            ("Started", _when(job.started_at, now)),
            ("Finished", _when(job.finished_at, now)),
            ("Trace", job.trace_id),
        ]
    )
    return lines


def _reason(job: Job, now: datetime) -> str:
    if job.held:
        return "It is held: [O] lets it go."
    if job.state == "waiting_retry":
        return f"{_PLAIN[job.state]} Next try {ago(job.not_before, now)}."
    return _PLAIN.get(job.state, "")


def _error(job: Job) -> list[Line]:
    if job.error_code is None:
        return []
    error: Mapping[str, Any] = job.error or {}
    entry = CATALOGUE.get(job.error_code)
    what = error.get("what") or (entry.what() if entry else "")
    hint = error.get("hint") or (entry.hint if entry else "")
    return [
        (),
        (Span(f" ✗ {job.error_code} ", "bad"), Span(str(what), "strong")),
        *fields([("Detail", error.get("detail")), ("What to do", Span(str(hint), "strong"))]),
    ]


def _stages(detail: JobDetail, now: datetime) -> list[Line]:
    """A line for each stage: its last run, how long it took, how often it ran."""
    lines: list[Line] = []
    longest = max((_seconds(run, now) for run in detail.stages), default=0.0) or 1.0
    for name in STAGES:
        runs = [run for run in detail.stages if run.stage == name]
        if not runs:
            lines.append((Span(f"   {name:<11}", "dim"), Span("· not yet", "dim")))
            continue
        last = runs[-1]
        seconds = _seconds(last, now)
        mark = state(last.state)
        shown = f"{last.progress:>4.0%}" if last.state == "running" else f"{duration(seconds):>12}"
        again = f"  attempt {last.attempt}" if last.attempt > 1 else ""
        lines.append(
            (
                Span(f"   {name:<11}", "strong"), Span(f"{mark.text:<11}", mark.tone), Span(f"{shown} "),
                Span(bar(last.progress if last.state == "running" else seconds / longest, _BAR), mark.tone),
                Span(again, "dim"), Span(f"  {last.error_code or last.message or ''}", "dim"),
            )
        )  # fmt: skip
    return lines


def _seconds(run: StageRun, now: datetime) -> float:
    if run.started_at is None:
        return 0.0
    return max(0.0, ((run.ended_at or now) - run.started_at).total_seconds())


def _when(at: datetime | None, now: datetime) -> str | None:
    return None if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC ({ago(at, now)})"


def _log(_detail: JobDetail, log: Sequence[LogLine], _now: datetime, _root: str) -> list[Line]:
    return [log_line(line) for line in log] or [(Span(" This job has no log on this machine (yet).", "dim"),)]


def _events(detail: JobDetail, _log: Sequence[LogLine], _now: datetime, _root: str) -> list[Line]:
    lines: list[Line] = []
    for event in detail.events:
        mark = STATES.get(event.kind) or Span(f"  {event.kind}")
        code = ((event.data or {}).get("error") or {}).get("code", "")
        at = "" if event.at is None else f"{event.at:%H:%M:%S}"
        lines.append(
            (
                Span(f" {at:<9}", "dim"), Span(f"{mark.text:<18}", mark.tone), Span(f"{event.stage or '':<11}"),
                Span(f"try {event.attempt}  "), Span(event.actor, "dim"), Span(f"  {code}", "bad"),
            )
        )  # fmt: skip
    return lines or [(Span(" No events.", "dim"),)]


def _files(detail: JobDetail, _log: Sequence[LogLine], _now: datetime, root: str) -> list[Line]:
    lines: list[Line] = [
        heading("Source"),
        (Span(f" {size(detail.job.source_size):>9}  "), Span(below(root, detail.job.source_path))),
        heading("Library"),
    ]
    for file in detail.artifacts:
        mark = state(file.state)
        kind = Span(f"{mark.text:<12} {file.kind:<14} ", mark.tone)
        lines.append((Span(f" {size(file.size):>9}  "), kind, Span(below(root, file.path))))
    if not detail.artifacts:
        lines.append((Span(" Nothing has been published.", "dim"),))
    return [*lines, (), (Span(f" All in {root}", "dim"),)] if root else lines


def _receipt(detail: JobDetail, _log: Sequence[LogLine], _now: datetime, root: str) -> list[Line]:
    lines: list[Line] = []
    for file in detail.artifacts:
        if file.receipt and file.state != "superseded":
            lines.append(heading(f"{file.kind}: {below(root, file.path)}"))
            lines += [_pair(name, value) for name, value in file.receipt.items() if value not in (None, "", [], {})]
            lines.append(())
    return lines[:-1] or [(Span(" There is no receipt: nothing has been published.", "dim"),)]


def _tags(detail: JobDetail, _log: Sequence[LogLine], _now: datetime, _root: str) -> list[Line]:
    """The tags as the metadata stage finished them, where each came from, and the pictures in words."""
    runs = [run.data for run in detail.stages if run.stage == "metadata" and run.state in {"done", "reused"}]
    reading = (runs[-1] or {}).get("reading") if runs else None
    if not isinstance(reading, dict):
        return [(Span(" The tags have not been read yet.", "dim"),)]
    origins = runs[-1].get("origins") or {}
    lines: list[Line] = [heading("Tags")]
    for name, value in (reading.get("tags") or {}).items():
        if name not in {"schema_version", "synced_lyrics", "extra"}:
            shown = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
            origin = f"  ({origins[name]})" if name in origins else ""
            lines.append((Span(f"   {name.replace('_', ' '):<22}", "dim"), Span(shown), Span(origin, "dim")))
    lines += [(), heading("Pictures")]
    for picture in reading.get("pictures") or []:
        size_ = f"{picture.get('width')} by {picture.get('height')} pixels"
        about = f"{picture.get('mime')}, {size_}, {picture.get('description') or 'no description'}"
        lines.append((Span(f"   {picture.get('file')}  ", "strong"), Span(about)))
    problems = reading.get("problems") or []
    lines += [
        (Span(f" ! {one.get('code')} ", "warn"), Span(f"{one.get('key')}: {one.get('detail')}")) for one in problems
    ]
    return lines if reading.get("pictures") or problems else [*lines, (Span("   none", "dim"),)]


def _pair(name: str, value: Any) -> Line:
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return (Span(f"   {name.replace('_', ' '):<22}", "dim"), Span(shown))


def art(picture: Raster, width: int) -> list[Line]:
    """A picture, two points a character; nothing where it does not fit."""
    if picture.width + 3 > width:
        return []
    lines: list[Line] = [()]
    for y in range(0, picture.height, 2):
        spans = [Span("   ")]
        low = min(y + 1, picture.height - 1)
        for x in range(picture.width):
            tone = "#{:02x}{:02x}{:02x}/#{:02x}{:02x}{:02x}".format(*picture.point(x, y), *picture.point(x, low))
            if spans[-1].tone == tone:
                spans[-1] = Span(spans[-1].text + "▀", tone)
            else:
                spans.append(Span("▀", tone))
        lines.append(tuple(spans))
    return lines


def sound(sketches: Sequence[tuple[str, Sketch]] | None) -> list[Line]:
    """Waveforms and spectra as characters; None while they are being made."""
    if sketches is None:
        return [(Span(" … decoding", "dim"),)]
    if not sketches:
        return [(Span(" Neither the original nor a published file is on this machine.", "dim"),)]
    lines: list[Line] = []
    for name, one in sketches:
        about = f"{duration(one.seconds)}, {one.frames:,} samples at {one.sample_rate} Hz, peak {max(one.peaks):.3f}"
        lines += [heading(name), (Span(f" {about}", "dim"),), (Span(f" {_blocks(one.peaks)}", "run"),)]
    lines += [(), heading("Spectrum, 31 Hz to 16 kHz, -80 to 0 dB")]
    lines += [(Span(f" {name:<13}", "dim"), Span(_blocks(_scaled(one.bands_db)), "run")) for name, one in sketches]
    first = sketches[0][1].bands_db
    for name, one in sketches[1:]:
        change = [after - before for before, after in zip(first, one.bands_db, strict=True)]
        band = min(range(len(change)), key=change.__getitem__)
        hertz = 31.25 * (16_000 / 31.25) ** ((band + 0.5) / len(change))
        lines.append((Span(f" {name}: changed most near {hertz:,.0f} Hz, by {change[band]:+.1f} dB"),))
    return lines


def _blocks(values: Sequence[float]) -> str:
    return "".join(_LEVELS[min(len(_LEVELS) - 1, max(0, int(value * len(_LEVELS))))] for value in values)


def _scaled(levels: Sequence[float]) -> list[float]:
    return [1 - level / _QUIETEST_DB for level in levels]


SOUND: Final = "sound"
TAGS: Final = "tags"
"""The views of which something is made on demand."""

VIEWS: Final[Mapping[str, Callable[[JobDetail, Sequence[LogLine], datetime, str], list[Line]]]] = {
    "why": _why,
    "log": _log,
    "events": _events,
    "files": _files,
    "receipt": _receipt,
    TAGS: _tags,
    SOUND: lambda *_: [],
}
"""Every view by its name, in the order of the tab key."""
