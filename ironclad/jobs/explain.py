"""Why is a job in the state it is in? In words that need no knowledge of the code; the words are in `phrases`."""

from __future__ import annotations

import json
import shlex
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ironclad.errors import CATALOGUE, ErrorKind, Unexpected
from ironclad.jobs import control, pools, query
from ironclad.jobs.phrases import NOTES, STAGES, say
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.db.tables import Attempt, Job, JobEvent, StageRun
    from ironclad.layout import Layout

_LINES: Final = 8
_SOON_SECONDS: Final = 120.0
_TAIL: Final = 256 << 10
_TELLING: Final = frozenset({"traceback", "attempt_ended", "stalled", "engine_log", "host_log", "warning"})
_FAILED: Final = frozenset({JobState.FAILED, JobState.QUARANTINED, JobState.WAITING_RETRY})


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `ironclad jobs why` says."""

    job_uuid: UUID
    name: str
    state: str
    summary: str
    stage: str
    code: str | None
    cause: str
    """What happened; empty where nothing did."""
    tried: tuple[str, ...]
    """One line an attempt."""
    done: tuple[str, ...]
    """What Ironclad did about it."""
    todo: tuple[str, ...]
    """What an operator can do."""
    log: tuple[str, ...]
    """The lines of the job's log that matter."""
    links: tuple[str, ...] = ()
    """Pages of the documents that say more, below docs/."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {**asdict(self), "job_uuid": str(self.job_uuid)}


def explain(session: Session, layout: Layout, job_uuid: UUID) -> Explanation:
    """Explain a job. Raises `NotFound`."""
    detail = query.detail(session, job_uuid, events=500)
    job = detail.job
    state = JobState(job.state)
    error = job.error or _last_error(detail.events, job)
    code = (error or {}).get("code")
    published = sum(row.state == "published" for row in detail.artifacts)
    return Explanation(
        job_uuid=job_uuid,
        name=query.name_of(job),
        state=job.state,
        summary=_summary(job, state, published),
        stage=job.stage,
        code=code,
        cause=_cause(job, state, error),
        tried=tuple(_attempt(row, state) for row in detail.attempts),
        done=tuple(_done(job, state, layout, detail)),
        todo=tuple(_todo(session, job, state, error, detail.stages)),
        log=tuple(_log_lines(layout.job_log(job_uuid))) if error is not None else (),
        links=CATALOGUE.get(str(code), Unexpected).links if error is not None else (),
    )


def _doing(job: Job) -> str:
    if job.content_hash is None:
        return STAGES["claim"]
    return STAGES.get(job.stage, job.stage).format(engine=job.engine)


def _when(at: datetime | None) -> str:
    if at is None:
        return say("phrase.when_soon")
    seconds = (at - datetime.now(UTC)).total_seconds()
    if seconds <= 0:
        return say("phrase.when_now")
    if seconds < _SOON_SECONDS:
        return say("phrase.when_in", seconds=f"{seconds:.0f}")
    return say("phrase.when_at", time=f"{at.astimezone():%H:%M}")


def _summary(job: Job, state: JobState, published: int) -> str:
    if job.held and state in {JobState.QUEUED, JobState.WAITING_RETRY}:
        return say("phrase.held")
    count = say("phrase.count_one") if published == 1 else say("phrase.count", count=published)
    return say(
        f"state.{state.value}", attempt=job.attempt, doing=_doing(job), when=_when(job.not_before), count=count
    )  # fmt: skip


def _last_error(events: Sequence[JobEvent], job: Job) -> dict[str, Any] | None:
    """Of a job that is tried again just now: why the attempt before failed."""
    if JobState(job.state) not in {JobState.RUNNING, JobState.QUEUED}:
        return None
    found = (event.data.get("error") for event in reversed(events) if event.kind == "waiting_retry")
    return next((error for error in found if error), None)


def _cause(job: Job, state: JobState, error: dict[str, Any] | None) -> str:
    if error is None:
        return ""
    entry = CATALOGUE.get(str(error.get("code")), Unexpected)
    text = say("phrase.cause", what=error.get("what") or entry.what(), detail=error.get("detail") or "").strip()
    if state in _FAILED:
        return say("phrase.failed_while", doing=_doing(job)) + " " + text
    if state is JobState.SKIPPED and job.stage:
        return text + " " + say("phrase.skipped_while", doing=_doing(job))
    return text


def _attempt(row: Attempt, state: JobState) -> str:
    if row.error_code:
        entry = CATALOGUE.get(row.error_code, Unexpected)
        outcome = say("phrase.outcome_error", what=entry.what().rstrip("."), code=row.error_code)
    elif row.ended_at is None:
        outcome = say("phrase.outcome_running" if state is JobState.RUNNING else "phrase.outcome_done")
    else:
        outcome = say("phrase.outcome_handoff" if row.outcome == JobState.QUEUED else "phrase.outcome_done")
    at = "-" if row.started_at is None else f"{row.started_at.astimezone():%Y-%m-%d %H:%M:%S}"
    return say("phrase.attempt", number=row.attempt, when=at, worker=row.worker, outcome=outcome)


def _done(job: Job, state: JobState, layout: Layout, detail: query.JobDetail) -> list[str]:
    said = []
    if any(row.error_code == "E_WORKER_LOST" for row in detail.attempts):
        said.append(say("phrase.did_reap"))
    if len(detail.attempts) > 1:
        said.append(say("phrase.did_retry", count=len(detail.attempts)))
    reused = list(dict.fromkeys(row.stage for row in detail.stages if row.state == "reused"))
    if reused:
        said.append(say("phrase.did_reuse", stages=", ".join(reused)))
    for event in detail.events:
        if event.kind in NOTES and event.data:
            text = ", ".join(f"{key} {value}" for key, value in event.data.items())
            said.append(say("phrase.did_note", kind=NOTES[event.kind], text=text))
    if state is JobState.WAITING_RETRY:
        said.append(say("phrase.did_again", when=_when(job.not_before)))
    if state in {JobState.FAILED, JobState.QUARANTINED}:
        said.append(_where(job, layout))
        if not any(row.state == "published" for row in detail.artifacts):
            said.append(say("phrase.did_publish_nothing"))
    return said


def _where(job: Job, layout: Layout) -> str:
    folder = layout.error_of(job.job_uuid, job.error_code or Unexpected.code)
    if (folder / job.archive_name).exists():
        return say("phrase.did_file", folder=folder.name)
    if (layout.archive_of(job.job_uuid) / job.archive_name).exists():
        return say("phrase.did_keep", job=job.job_uuid)
    return say("phrase.did_left", path=job.source_path)


def _todo(
    session: Session, job: Job, state: JobState, error: dict[str, Any] | None, stages: Sequence[StageRun]
) -> list[str]:
    short = str(job.job_uuid)[-8:]
    if state is JobState.SUCCEEDED:
        return _after_success(stages)
    if state in {JobState.QUEUED, JobState.RECEIVED}:
        return _waiting(session, job, short)
    if error is None:
        return [say("phrase.do_nothing")] if state is JobState.RUNNING else []
    entry = CATALOGUE.get(str(error.get("code")), Unexpected)
    said = [str(error.get("hint") or entry.hint)]
    if state in {JobState.RUNNING, JobState.WAITING_RETRY}:
        return [*said, say("phrase.do_nothing")]
    if job.content_hash is None:
        said.append(say("phrase.do_submit", path=shlex.quote(job.source_path)))
    elif entry.kind is ErrorKind.INPUT:
        said.append(say("phrase.do_input"))
    elif state is not JobState.SKIPPED:
        said.append(say("phrase.do_retry", job=short))
        said.append(say("phrase.do_class", code=entry.code))
    if entry.kind is ErrorKind.ENGINE:
        said.append(say("phrase.do_replay", job=short))
    if entry.kind is ErrorKind.INTERNAL:
        said.append(say("phrase.do_report", job=short))
    return said


def _after_success(stages: Sequence[StageRun]) -> list[str]:
    for row in stages:
        lookup = row.data.get("lookup") if row.stage == "metadata" else None
        if isinstance(lookup, dict) and lookup.get("status") == "unavailable":
            return [say("phrase.pending_lookup"), say("phrase.do_lookup")]
    return []


def _waiting(session: Session, job: Job, short: str) -> list[str]:
    if job.held:
        return [say("phrase.wait_held", job=short)]
    fed = pools.fed(session)
    if fed is not None and job.pool not in fed:
        return [say("phrase.wait_pool", pool=job.pool, fed=", ".join(sorted(fed)))]
    reason = control.pause_reason(session, job.pool)
    return [say("phrase.wait_workers") if reason is None else say("phrase.wait_paused", reason=reason)]


def _log_lines(path: Path) -> list[str]:
    """The last lines that tell something about failures; a traceback by its last line."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            raw = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found: deque[str] = deque(maxlen=_LINES)
    for line in raw:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        event = str(entry.get("event"))
        if event not in _TELLING:
            continue
        said = str(entry.get("text") or entry.get("line") or entry.get("error") or entry.get("state") or "")
        if isinstance(entry.get("error"), dict):
            said = f"{entry['error'].get('code')} {entry['error'].get('detail') or ''}".strip()
        if event == "traceback":
            said = " | ".join(part.strip() for part in said.strip().splitlines()[-3:])
        found.append(f"{entry.get('at', '')} {event}: {said}")
    return list(found)
