"""Recorded history: what happened to the jobs, in a file, and how everything was at any moment of it.

A recording is JSON lines: a head, a line for each job with what never changes of it, then every event in order. It
holds names and paths of music, so it is as private as the database.
"""

from __future__ import annotations

import bisect
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import sqlalchemy as sa

from ironclad.db import jsonb
from ironclad.errors import BadRequest
from ironclad.jobs.states import SETTLED, JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlmodel import Session

FORMAT: Final = "ironclad-recording"
VERSION: Final = 1
_NAME_LIMIT: Final = 300
_CHUNK: Final = 5000

_JOBS = sa.text(
    "SELECT job_uuid, user_id, engine, pool, left(artist, :length) AS artist, left(title, :length) AS title, "
    "left(album, :length) AS album, right(relative_path, :length) AS path, duration_seconds, created_at, "
    "source_size, output_format, trace_id FROM job WHERE created_at <= :until ORDER BY job_uuid"
)
_EVENTS = sa.text(
    "SELECT id, job_uuid, at, kind, to_state, attempt, stage, actor, data FROM job_event "
    "WHERE at <= :until ORDER BY at, id"
)


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """What never changes of a job."""

    job_uuid: UUID
    user_id: str
    engine: str
    pool: str
    name: str
    album: str | None
    duration_seconds: float | None
    created_at: datetime
    source_size: int = 0
    output_format: str = "auto"
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event."""

    id: int
    job_uuid: UUID
    at: datetime
    kind: str
    state: str | None
    attempt: int
    stage: str | None
    actor: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class JobMoment:
    """A job at one moment."""

    job: RecordedJob
    state: str
    stage: str
    attempt: int = 0
    held: bool = False
    cancel_requested: bool = False
    error: dict[str, Any] | None = None
    started_at: datetime | None = None
    attempt_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None


class Recording:
    """Jobs and their events.

    Args:
        jobs: every job.
        events: every event; put in order of time here.
    """

    def __init__(self, jobs: Iterable[RecordedJob], events: Iterable[RecordedEvent]) -> None:
        self.jobs = {job.job_uuid: job for job in jobs}
        self.events = sorted((e for e in events if e.job_uuid in self.jobs), key=lambda event: (event.at, event.id))
        self._times = [event.at for event in self.events]

    @property
    def begin(self) -> datetime | None:
        """The first event's time."""
        return self._times[0] if self._times else None

    @property
    def end(self) -> datetime | None:
        """The last event's time."""
        return self._times[-1] if self._times else None

    def until(self, at: datetime) -> list[RecordedEvent]:
        """The events up to a moment, oldest first."""
        return self.events[: bisect.bisect_right(self._times, at)]

    def of(self, job_uuid: UUID, at: datetime) -> list[RecordedEvent]:
        """One job's events up to a moment."""
        return [event for event in self.until(at) if event.job_uuid == job_uuid]

    def beside(self, at: datetime, step: int) -> datetime:
        """The time of the event before (-1) or after (1) a moment; the moment itself if there is none."""
        if step < 0:
            index = bisect.bisect_left(self._times, at) - 1
            return self._times[index] if index >= 0 else at
        index = bisect.bisect_right(self._times, at)
        return self._times[index] if index < len(self._times) else at

    def moment(self, at: datetime) -> dict[UUID, JobMoment]:
        """Every job that was there, as it was."""
        found: dict[UUID, JobMoment] = {}
        for event in self.until(at):
            one = found.get(event.job_uuid)
            if one is None:
                job = self.jobs[event.job_uuid]
                one = found[event.job_uuid] = JobMoment(job, event.state or JobState.RECEIVED.value, "validate")
            _apply(one, event)
        return found


def _apply(one: JobMoment, event: RecordedEvent) -> None:
    """What an event changes."""
    one.attempt = event.attempt
    one.stage = event.stage or one.stage
    match event.kind:
        case "held":
            one.held = True
        case "released":
            one.held = False
        case "cancel_requested":
            one.cancel_requested = True
        case "retried" | "replayed":
            one.stage = str(event.data.get("first_stage") or one.stage)
    if event.state is None:
        return
    one.state = event.state
    running = event.state == JobState.RUNNING
    one.worker = event.actor.partition(":")[2] if running else None
    if running:
        one.started_at = one.started_at or event.at
        one.attempt_at = event.at
        one.error = None
    elif "error" in event.data:
        one.error = event.data["error"]
    if not running:
        one.cancel_requested = False
    one.finished_at = event.at if event.state in SETTLED else None


def load(session: Session, until: datetime) -> Recording:
    """Everything that happened up to a time, from the database."""
    jobs = [
        RecordedJob(
            row.job_uuid, row.user_id, row.engine, row.pool,
            " - ".join(part for part in (row.artist, row.title) if part) or row.path, row.album,
            row.duration_seconds, row.created_at, row.source_size, row.output_format, row.trace_id,
        )
        for row in session.execute(_JOBS, {"until": until, "length": _NAME_LIMIT})
    ]  # fmt: skip
    return Recording(jobs, _events(session, until))


def _events(session: Session, until: datetime) -> Iterator[RecordedEvent]:
    for row in session.execute(_EVENTS, {"until": until}).yield_per(_CHUNK):
        yield RecordedEvent(*row)


def lines(recording: Recording) -> Iterator[str]:
    """The recording as JSON lines."""
    yield jsonb.dumps({"format": FORMAT, "version": VERSION, "jobs": len(recording.jobs)})
    for job in recording.jobs.values():
        yield jsonb.dumps({**asdict(job), "job_uuid": str(job.job_uuid), "created_at": job.created_at.isoformat()})
    for event in recording.events:
        yield jsonb.dumps({**asdict(event), "job_uuid": str(event.job_uuid), "at": event.at.isoformat()})


def read(text: Iterable[str]) -> Recording:
    """A recording from its lines. Raises `BadRequest` that names the line that is wrong."""
    jobs: list[RecordedJob] = []
    events: list[RecordedEvent] = []
    number = 0
    try:
        for number, line in enumerate(text, 1):
            data = json.loads(line)
            if number == 1:
                _check_head(data)
            elif "kind" in data:
                events.append(
                    RecordedEvent(
                        **{**data, "job_uuid": UUID(data["job_uuid"]), "at": datetime.fromisoformat(data["at"])}
                    )
                )
            else:
                created = datetime.fromisoformat(data["created_at"])
                jobs.append(RecordedJob(**{**data, "job_uuid": UUID(data["job_uuid"]), "created_at": created}))
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise BadRequest(f"Line {number} of the recording is broken: {exc}") from exc
    if number == 0:
        raise BadRequest("The recording is empty.")
    return Recording(jobs, events)


def _check_head(data: Any) -> None:
    if data.get("format") != FORMAT:
        raise ValueError(f"this is not a recording ({FORMAT})")
    if data.get("version") != VERSION:
        raise ValueError(f"it has version {data.get('version')}, this Ironclad reads {VERSION}")
