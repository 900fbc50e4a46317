"""What happened to a file, and why: the answer of `ironclad why FILE`."""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import sqlalchemy as sa

from ironclad.db.tables import Job
from ironclad.errors import CATALOGUE, IroncladError
from ironclad.ingest import observations
from ironclad.ingest.places import absolute, foreign_folders, health, place_of
from ironclad.ingest.rules import OTHER_PLACE, Rules
from ironclad.jobs.states import JobState
from ironclad.jobs.submit import display, source_key

if TYPE_CHECKING:
    from pathlib import Path

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.ingest.observations import Known
    from ironclad.ingest.places import Place, RootHealth


_NEVER_SEEN: Final = "There is no such file, and Ironclad has never seen one."


class Verdict(enum.StrEnum):
    """What happened to a file, in one word."""

    GROWING = "growing"
    """It is there, and is watched until it stops changing."""
    WAITING = "waiting"
    """It is complete, and something keeps it from being taken."""
    UNSEEN = "unseen"
    """It is there, and the watcher has not seen it yet."""
    IGNORED = "ignored"
    CLAIMED = "claimed"
    """It is (or was) a job."""
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    """It is a failed job that never got the file."""
    GONE = "gone"
    """It was watched, and went away before it was complete."""
    OUTSIDE = "outside"
    """It is below no watch root."""
    UNKNOWN = "unknown"
    """Its watch root cannot be reached."""
    MISSING = "missing"
    """There is no such file, and never was as far as Ironclad knows."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer."""

    path: str
    verdict: Verdict
    sentence: str
    hint: str = ""
    job_uuid: UUID | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "path": self.path,
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "hint": self.hint,
            "job_uuid": None if self.job_uuid is None else str(self.job_uuid),
            **self.details,
        }


def why(database: Database, settings: Settings, path: Path) -> Explanation:
    """Say what happened to a file, dropped or claimed. Raises `DatabaseUnavailable`.

    A path below `archive/` is explained by its job. If another file has the name of an earlier one now, the answer is
    about the one that is there.
    """
    path = absolute(path)
    with database.session() as session:
        archived = _archived(session, settings, path)
        if archived is not None:
            return _of_job(path, archived)
        place = place_of(settings.watch_roots, path)
        job = _newest_job(session, path, place)
        if place is None:
            if job is not None:
                return _of_job(path, job)
            if not os.path.lexists(path):
                return Explanation(display(path), Verdict.MISSING, _NEVER_SEEN, "Check the name.")
            roots = ", ".join(str(root.path) for root in settings.watch_roots)
            return Explanation(
                display(path), Verdict.OUTSIDE, "It is below no watch root, so nobody looks for it.",
                f"Watched are: {roots}. Drop it there, or use `ironclad submit`.",
            )  # fmt: skip
        return _Watched(session, settings, path, place, job).explain()


class _Watched:
    """A path below a watch root."""

    def __init__(self, session: Session, settings: Settings, path: Path, place: Place, job: Job | None) -> None:
        self._settings = settings
        self._path = path
        self._place = place
        self._job = job
        root = str(absolute(place.root.path))
        self._known = observations.of_file(session, root, place.below_root)
        self._state = observations.root_state(session, root)
        self._folder = absolute(place.root.path).resolve()
        self._file = self._folder / place.below_root
        self._health: RootHealth = health(self._folder, self._state.get("device"))

    def explain(self) -> Explanation:
        if not self._health.known:
            if self._job is not None:
                return self._claimed(self._job)
            return self._say(
                Verdict.UNKNOWN, f"{self._health.sentence} Nothing is concluded from that.",
                f"Check the mount of {self._folder}; the watcher goes on by itself once it is back.",
            )  # fmt: skip
        try:
            status = self._file.lstat()
        except OSError:
            return self._absent()
        if self._job is not None and self._is_the_job(self._job, status):
            return self._claimed(self._job)
        return self._ignored(status) or self._present(status)

    def _is_the_job(self, job: Job, status: os.stat_result) -> bool:
        """Whether the file that is there is the one that became the job."""
        key = source_key(status)
        if job.source_key is not None:
            return job.source_key == key
        return self._known is not None and self._known.job_uuid == job.job_uuid and self._known.source_key == key

    def _claimed(self, job: Job) -> Explanation:
        return _of_job(self._path, job, self._known.reason if self._known is not None else None)

    def _say(self, verdict: Verdict, sentence: str, hint: str = "", **details: Any) -> Explanation:
        shared = {"watch_root": str(self._place.root.path), "user": self._place.user_id}
        return Explanation(display(self._path), verdict, sentence, hint, details={**shared, **details})

    def _absent(self) -> Explanation:
        if self._job is not None:
            return self._claimed(self._job)
        if self._known is not None:
            reason = self._known.reason or "it went away before it was complete"
            return self._say(
                Verdict.GONE, f"It is not there any more: {reason}.", "Drop it again.",
                last_size=self._known.size, since=self._known.changed_at.isoformat(),
            )  # fmt: skip
        return self._say(Verdict.MISSING, _NEVER_SEEN, "Check the name.")

    def _ignored(self, status: os.stat_result) -> Explanation | None:
        rules = Rules(self._settings.ingest)
        below = self._place.below_root
        foreign = foreign_folders(self._settings, self._place.root)
        rule = OTHER_PLACE if any(below.startswith(f"{one}/") or below == one for one in foreign) else None
        rule = rule or rules.path(below) or rules.entry(self._folder, self._file, status)
        if rule is None or rule.refuses is not None:
            return None
        hint = "Rename or move the file if it shall be processed." if rule is not OTHER_PLACE else ""
        return self._say(Verdict.IGNORED, rule.sentence, hint, rule=rule.name)

    def _present(self, status: os.stat_result) -> Explanation:
        known = self._known
        stability = self._settings.ingest.stability_seconds
        details = {"size": status.st_size, "watched_by": self._state.get("how", "nobody")}
        if known is None or known.status != observations.GROWING:
            return self._say(
                Verdict.UNSEEN, "It is there, but the watcher has not seen it yet.",
                f"If a watcher runs, it takes the file {stability:g} s after the last change; "
                f"it lists everything again every {self._settings.ingest.rescan_seconds:g} s.", **details,
            )  # fmt: skip
        seen = max(0.0, (known.now - known.first_seen_at).total_seconds())
        quiet = self._quiet_seconds(known, status)
        details |= {"watched_seconds": round(seen, 1), "quiet_seconds": round(quiet, 1)}
        if known.reason is not None and quiet > 0:
            return self._say(Verdict.WAITING, f"It is quiet but cannot be taken: {known.reason}", **details)
        left = max(0.0, stability - quiet)
        details["taken_in_seconds"] = round(left, 1)
        return self._say(
            Verdict.GROWING,
            f"It is still growing or has just stopped: {status.st_size} bytes, watched for {seen:.0f} s, "
            f"quiet for {quiet:.1f} s; it is taken in {left:.1f} s if it stays so.", **details,
        )  # fmt: skip

    def _quiet_seconds(self, known: Known, status: os.stat_result) -> float:
        if (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
            return max(0.0, (known.now - known.changed_at).total_seconds())
        return max(0.0, min(time.time() - status.st_mtime, self._settings.ingest.stability_seconds))


def _archived(session: Session, settings: Settings, path: Path) -> Job | None:
    """The job of a path below archive/."""
    archive = settings.layout.archive
    if not path.is_relative_to(archive) or path == archive:
        return None
    try:
        return session.get(Job, UUID(path.relative_to(archive).parts[0]))
    except ValueError:
        return None


def _newest_job(session: Session, path: Path, place: Place | None) -> Job | None:
    """The newest job that was made of a file of this name."""
    names = {os.fsencode(path)}
    if place is not None:
        names.add(os.fsencode(absolute(place.root.path) / place.below_root))
    found = session.scalar(
        sa.text("SELECT job_uuid FROM job WHERE source_path_raw = ANY(:names) ORDER BY job_uuid DESC LIMIT 1"),
        {"names": list(names)},
    )
    return None if found is None else session.get(Job, found)


def _of_job(path: Path, job: Job, obstacle: str | None = None) -> Explanation:
    error = job.error or {}
    details = {
        "state": job.state, "stage": job.stage, "attempt": job.attempt, "code": job.error_code, "user": job.user_id,
        "source": job.source_path,
    }  # fmt: skip
    entry: type[IroncladError] | None = CATALOGUE.get(job.error_code or "")
    hint = str(error.get("hint") or (entry.hint if entry else ""))
    reason = " ".join(str(part) for part in (error.get("what"), error.get("detail")) if part)
    verdict, sentence = Verdict.CLAIMED, f"It is job {job.job_uuid}, {_progress(job)}."
    if job.state == JobState.SKIPPED and job.error_code == "E_DUPLICATE":
        other = (error.get("context") or {}).get("job")
        verdict = Verdict.DUPLICATE
        sentence = f"It has the same bytes as job {other}, so job {job.job_uuid} was skipped."
        details["duplicate_of"] = other
    elif job.state == JobState.FAILED and job.content_hash is None:
        verdict, sentence = Verdict.REFUSED, f"It was refused ({job.error_code}): {reason}"
    elif job.state == JobState.RECEIVED and obstacle:
        verdict, sentence = Verdict.WAITING, f"It is job {job.job_uuid}, but its claim has to wait: {obstacle}"
    elif job.state in {JobState.FAILED, JobState.SKIPPED, JobState.QUARANTINED, JobState.WAITING_RETRY}:
        sentence = f"It is job {job.job_uuid}, {_progress(job)} ({job.error_code}): {reason}"
    return Explanation(display(path), verdict, sentence, hint, job.job_uuid, details)


_WORDS = {
    JobState.RECEIVED: "which is being moved into the archive",
    JobState.QUEUED: "which waits for a worker",
    JobState.RUNNING: "which runs",
    JobState.WAITING_RETRY: "which is tried again later",
    JobState.SUCCEEDED: "which has succeeded",
    JobState.FAILED: "which has failed",
    JobState.CANCELLED: "which was cancelled",
    JobState.SKIPPED: "which was skipped",
    JobState.QUARANTINED: "which failed the same way too often",
}


def _progress(job: Job) -> str:
    state = JobState(job.state)
    stage = f" at stage {job.stage}" if state in {JobState.RUNNING, JobState.FAILED} else ""
    return _WORDS[state] + stage
