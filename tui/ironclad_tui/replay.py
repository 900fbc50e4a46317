"""The recorder: the same screens over recorded history, at a moment that the arrow keys move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ironclad.db.tables import Attempt, Job, JobEvent, StageRun
from ironclad.errors import BadRequest, NotFound, Paused
from ironclad.jobs import overview, recording
from ironclad.jobs.failures import FailureGroup
from ironclad.jobs.listing import Count, JobRow, Sort, key_of
from ironclad.jobs.pipeline import STAGES
from ironclad.jobs.query import JobDetail, PoolView
from ironclad.jobs.search import Filter, moment
from ironclad.jobs.states import JobState
from ironclad.ops.looking import ComponentHealth, DiskView, LogLine
from ironclad_tui.matching import holds
from ironclad_tui.source import Done, EngineView, Finding, LibraryView, MaintenanceView, SettingView

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from ironclad.audio.sketch import Sketch
    from ironclad.db.session import Database
    from ironclad.jobs.feed import Notice
    from ironclad.jobs.recording import JobMoment, RecordedEvent, Recording
    from ironclad.metadata.raster import Raster
    from ironclad.notify.query import MessageView

_EVENTS: Final = 20
_STEP_SECONDS: Final = 60.0


def recorded(path: Path) -> RecordedSource:
    """A recording from its file, at its end. Raises `BadRequest`."""
    try:
        with path.open(encoding="utf-8") as file:
            return RecordedSource(recording.read(file), None, path.name)
    except (OSError, UnicodeDecodeError) as exc:
        raise BadRequest(f"{path} cannot be read: {exc}") from exc


def at_time(database: Database, text: str) -> RecordedSource:
    """An installation's history at a time (`2h`, `2026-01-31T03:12`). Raises `BadRequest`."""
    try:
        at = moment(text)
    except (ValueError, OverflowError) as exc:
        raise BadRequest(f"{text!r} is no time; write 15m, 2h, 3d, or 2026-01-31T03:12.") from exc
    with database.session() as session:
        found = recording.load(session, datetime.now(UTC))
    return RecordedSource(found, at, "history")


def write(database: Database, path: Path) -> None:
    """Write an installation's history to a new file. Raises `BadRequest` if it is there already."""
    with database.session() as session:
        found = recording.load(session, datetime.now(UTC))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in recording.lines(found))
    except OSError as exc:
        raise BadRequest(f"{path} cannot be written: {exc}") from exc


class RecordedSource:
    """A recording at a moment; nothing can be done in it.

    Args:
        found: the recording.
        at: the moment; the recording's end if none is given.
        name: of the recording.
    """

    read_only: Final = True
    root: Final = ""

    def __init__(self, found: Recording, at: datetime | None, name: str) -> None:
        self._recording = found
        self._name = name
        self._at = at or found.end or datetime.now(UTC)
        self._moment: tuple[datetime, dict[UUID, JobMoment]] | None = None

    @property
    def label(self) -> str:
        """The recording and the moment."""
        return f"{self._name} at {self._at:%Y-%m-%d %H:%M:%S} UTC"

    def now(self) -> datetime:
        """The moment."""
        return self._at

    def step(self, steps: int, *, minutes: bool = False) -> None:
        """Move by events, or by minutes."""
        if minutes:
            self._at += timedelta(seconds=_STEP_SECONDS * steps)
        else:
            for _ in range(abs(steps)):
                self._at = self._recording.beside(self._at, steps)

    def listen(self, stopping: threading.Event) -> Iterable[Notice | None]:
        """Nothing happens any more."""
        stopping.wait()
        return ()

    def _jobs(self) -> Mapping[UUID, JobMoment]:
        known = self._moment
        if known is None or known[0] != self._at:
            known = self._moment = (self._at, self._recording.moment(self._at))
        return known[1]

    # --- looking ---

    def glance(self) -> overview.Glance:
        """As it was."""
        at, jobs = self._at, self._jobs()
        states = {state.value: 0 for state in JobState}
        for one in jobs.values():
            states[one.state] = states.get(one.state, 0) + 1
        good, bad = [0] * overview.MINUTES, [0] * overview.MINUTES
        events = self._recording.until(at)
        for event in reversed(events):
            age = int((at - event.at).total_seconds() // 60)
            if age >= overview.MINUTES:
                break
            if event.state == JobState.SUCCEEDED:
                good[-1 - age] += 1
            elif event.state in {JobState.FAILED, JobState.QUARANTINED}:
                bad[-1 - age] += 1
        return overview.Glance(
            at=at, states=states, held=sum(one.held for one in jobs.values()), paused=False, disk_low=False,
            pools=self._pools(jobs), running=tuple(self._running(one) for one in _of(jobs, JobState.RUNNING)),
            services=(_HISTORY,), succeeded=tuple(good), failed=tuple(bad),
            events=tuple(self._event(event) for event in reversed(events[-_EVENTS:])),
        )  # fmt: skip

    def _pools(self, jobs: Mapping[UUID, JobMoment]) -> tuple[PoolView, ...]:
        names = sorted({one.job.pool for one in jobs.values()})
        running = {name: sum(one.job.pool == name for one in _of(jobs, JobState.RUNNING)) for name in names}
        waiting = {name: sum(one.job.pool == name for one in _of(jobs, JobState.QUEUED)) for name in names}
        return tuple(PoolView(name, running[name], False, running[name], 0, waiting[name], None) for name in names)

    def _running(self, one: JobMoment) -> overview.RunningJob:
        begun = one.attempt_at or one.job.created_at
        done = STAGES.index(one.stage) / len(STAGES) if one.stage in STAGES else 0.0
        return overview.RunningJob(
            job_uuid=one.job.job_uuid, name=one.job.name, user_id=one.job.user_id, pool=one.job.pool,
            worker=one.worker or "", engine=one.job.engine, attempt=one.attempt, stage=one.stage, stage_progress=0.0,
            message=None, progress=done, elapsed_seconds=(self._at - begun).total_seconds(), eta_seconds=None,
            cancelling=one.cancel_requested,
        )  # fmt: skip

    def _event(self, event: RecordedEvent) -> overview.Event:
        code = (event.data.get("error") or {}).get("code")
        name = self._recording.jobs[event.job_uuid].name
        return overview.Event(
            event.id, event.job_uuid, event.at, event.kind, event.state, event.stage, event.actor, name, code
        )

    def disk(self) -> DiskView:
        """Nobody recorded it."""
        return DiskView("", 0, 0, 0)

    def jobs(
        self, wanted: Filter, sort: Sort, *, after: tuple[Any, ...] | None = None, backwards: bool = False,
        limit: int = 100,
    ) -> tuple[JobRow, ...]:  # fmt: skip
        """A page."""
        found = self._matching(wanted, sort)
        keys = [key_of(row, sort) for row in found]
        if backwards:
            end = len(found) if after is None else keys.index(after) if after in keys else 0
            return tuple(found[max(0, end - limit) : end])
        begin = 0 if after is None else keys.index(after) + 1 if after in keys else len(found)
        return tuple(found[begin : begin + limit])

    def _matching(self, wanted: Filter, sort: Sort) -> list[JobRow]:
        found = [_row(one) for one in self._jobs().values()]
        found = [row for row in found if all(holds(row, term) for term in wanted.terms)]
        if sort is Sort.FINISHED:
            found = [row for row in found if row.finished_at is not None]
        key: Callable[[JobRow], Any] = lambda row: key_of(row, sort)  # noqa: E731 - an annotation mypy needs
        return sorted(found, key=key, reverse=sort in {Sort.NEWEST, Sort.FINISHED})

    def rows(self, job_uuids: tuple[UUID, ...]) -> tuple[JobRow, ...]:
        """Rows by id."""
        jobs = self._jobs()
        return tuple(_row(jobs[job]) for job in job_uuids if job in jobs)

    def count(self, wanted: Filter) -> Count:
        """How many match."""
        return Count(len(self._matching(wanted, Sort.NEWEST)))

    def job(self, job_uuid: UUID) -> JobDetail:
        """One job, from its events."""
        one = self._jobs().get(job_uuid)
        if one is None:
            raise NotFound(f"Job {job_uuid} was not there yet.")
        events = self._recording.of(job_uuid, self._at)
        return JobDetail(_job(one), _attempts(events), _stages(events), [_job_event(event) for event in events], [])

    def job_log(self, job_uuid: UUID) -> tuple[LogLine, ...]:  # noqa: ARG002 - logs are not recorded
        """Not recorded."""
        return ()

    def sketches(self, job_uuid: UUID) -> tuple[tuple[str, Sketch], ...]:  # noqa: ARG002 - sound is not recorded
        """Not recorded."""
        return ()

    def art(self, job_uuid: UUID) -> Raster | None:  # noqa: ARG002 - pictures are not recorded
        """Not recorded."""
        return None

    def bundle(self, job_uuid: UUID) -> str:  # noqa: ARG002 - refused
        """Refused."""
        _refuse()

    def failures(self) -> tuple[FailureGroup, ...]:
        """By cause."""
        groups: dict[tuple[str, str, str], list[JobMoment]] = {}
        for one in self._jobs().values():
            if one.state in {JobState.FAILED, JobState.QUARANTINED}:
                groups.setdefault(_cause(one), []).append(one)
        found = [_group(key, sorted(group, key=lambda o: str(o.finished_at))) for key, group in groups.items()]
        return tuple(sorted(found, key=lambda group: (-group.jobs, group.key)))

    def members(self, key: tuple[str, str, str]) -> tuple[UUID, ...]:
        """All jobs of a group."""
        jobs = self._jobs()
        failed = {JobState.FAILED.value, JobState.QUARANTINED.value}
        return tuple(job for job, one in jobs.items() if one.state in failed and _cause(one) == key)

    def health(self) -> tuple[ComponentHealth, ...]:
        """Not recorded."""
        return ()

    def letters(self) -> tuple[MessageView, ...]:
        """Not recorded."""
        return ()

    def engines(self) -> tuple[EngineView, ...]:
        """Not recorded."""
        return ()

    def check_engine(self, name: str) -> dict[str, Any]:  # noqa: ARG002 - refused
        """Refused."""
        _refuse()

    def library(self) -> LibraryView:
        """Not recorded."""
        return LibraryView((), ())

    def lint(self) -> tuple[int, tuple[tuple[str, str, str, str], ...]]:
        """Refused."""
        _refuse()

    def maintenance(self) -> MaintenanceView:
        """Not recorded."""
        return MaintenanceView(self.disk(), (), ())

    def prunable(self) -> tuple[Finding, ...]:
        """Refused."""
        _refuse()

    def orphans(self) -> tuple[Finding, ...]:
        """Refused."""
        _refuse()

    def settings(self) -> tuple[SettingView, ...]:
        """Not recorded."""
        return ()

    def log(self, service: str, level: str, job: str = "") -> tuple[LogLine, ...]:  # noqa: ARG002 - logs are not recorded
        """Not recorded."""
        return ()

    def log_services(self) -> tuple[str, ...]:
        """Not recorded."""
        return ()

    def act(self, action: str, job_uuids: Sequence[UUID], **options: Any) -> Done:  # noqa: ARG002 - refused
        """Refused: what happened has happened."""
        _refuse()

    def settle(self, action: str, letters: Sequence[UUID]) -> int:  # noqa: ARG002 - likewise
        """Refused."""
        _refuse()

    def pause(self, pool: str | None, *, paused: bool) -> None:  # noqa: ARG002 - likewise
        """Refused."""
        _refuse()

    def set_slots(self, pool: str, number: int | None) -> int | None:  # noqa: ARG002 - likewise
        """Refused."""
        _refuse()


def _refuse() -> NoReturn:
    raise Paused("This is a recording; what happened has happened.")


_HISTORY: Final = overview.Service("recording", "recording", "-", 0, None, None, None, late=False, data={})


def _of(jobs: Mapping[UUID, JobMoment], state: JobState) -> list[JobMoment]:
    return [one for one in jobs.values() if one.state == state]


def _cause(one: JobMoment) -> tuple[str, str, str]:
    error = one.error or {}
    return (
        str(error.get("code") or "E_UNEXPECTED"), one.stage, str((error.get("context") or {}).get("fingerprint") or ""),
    )  # fmt: skip


def _group(key: tuple[str, str, str], jobs: list[JobMoment]) -> FailureGroup:
    last = jobs[-1]
    detail = str((last.error or {}).get("detail") or "")[:300]
    return FailureGroup(*key, len(jobs), jobs[0].finished_at, last.finished_at, detail, last.job.job_uuid)


def _row(one: JobMoment) -> JobRow:
    job = one.job
    return JobRow(
        job_uuid=job.job_uuid, state=one.state, stage=one.stage, pool=job.pool, user_id=job.user_id,
        engine=job.engine, name=job.name, album=job.album, progress=0.0, held=one.held,
        cancel_requested=one.cancel_requested, error_code=(one.error or {}).get("code"), attempt=one.attempt,
        priority=0, duration_seconds=job.duration_seconds, created_at=job.created_at, started_at=one.started_at,
        finished_at=one.finished_at, not_before=None, worker=one.worker,
    )  # fmt: skip


def _job(one: JobMoment) -> Job:
    job, error = one.job, one.error
    return Job(
        job_uuid=job.job_uuid, user_id=job.user_id, trace_id=job.trace_id, state=one.state, stage=one.stage,
        pool=job.pool, source_path=job.name, source_path_raw=b"", source_size=job.source_size, source_mtime_ns=0,
        relative_path=job.name, ingest_mode="", archive_name="", engine=job.engine, output_format=job.output_format,
        stems=[], title=job.name, album=job.album, duration_seconds=job.duration_seconds, held=one.held,
        cancel_requested=one.cancel_requested, attempt=one.attempt, failures=0, priority=0, engine_pool=job.pool,
        error_code=(error or {}).get("code"), error=error, created_at=job.created_at, started_at=one.started_at,
        finished_at=one.finished_at, worker=one.worker, progress=0.0,
    )  # fmt: skip


def _job_event(event: RecordedEvent) -> JobEvent:
    return JobEvent(
        id=event.id, job_uuid=event.job_uuid, at=event.at, kind=event.kind, to_state=event.state,
        attempt=event.attempt, stage=event.stage, actor=event.actor, data=event.data,
    )  # fmt: skip


def _attempts(events: Sequence[RecordedEvent]) -> list[Attempt]:
    return [
        Attempt(
            job_uuid=event.job_uuid, attempt=event.attempt, worker=event.actor.partition(":")[2], pool="",
            first_stage=event.stage or "", started_at=event.at,
        )
        for event in events if event.state == JobState.RUNNING
    ]  # fmt: skip


def _stages(events: Sequence[RecordedEvent]) -> list[StageRun]:
    """Stage runs from their events; an attempt that ended leaves its last stage failed, unless it succeeded."""
    runs: dict[tuple[int, str], StageRun] = {}
    for event in events:
        key = (event.attempt, event.stage or "")
        if event.kind == "stage_started":
            runs[key] = StageRun(
                job_uuid=event.job_uuid, attempt=event.attempt, stage=event.stage or "", state="running",
                started_at=event.at, progress=0.0,
            )  # fmt: skip
        elif event.kind in {"stage_done", "stage_reused"} and key in runs:
            runs[key].state, runs[key].ended_at = event.kind.removeprefix("stage_"), event.at
        elif event.state is not None and event.state != JobState.RUNNING:
            for run in runs.values():
                if run.state == "running":
                    run.state, run.ended_at = "failed", event.at
    return list(runs.values())
