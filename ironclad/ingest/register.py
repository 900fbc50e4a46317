"""What one root's watcher keeps in mind: files under observation, files that are jobs, and what to write down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad.errors import SourceUnreadable
from ironclad.ingest import observations
from ironclad.ingest.observations import CLAIMED, GONE, GROWING, REFUSED, Noted
from ironclad.ingest.stability import Print, Tracker
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    import os
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.ingest.claim import Outcome

UNREADABLE = SourceUnreadable.code


class Register:
    """The memory of one root. Paths are below the root; times are seconds of a monotonic clock.

    Args:
        root: the root's name in the database.
        stability: the quiet time, in seconds.
        keeps: whether claimed files stay in the root (modes copy and link).
    """

    def __init__(self, root: str, stability: float, *, keeps: bool) -> None:
        self.tracker = Tracker(stability)
        self._root = root
        self._keeps = keeps
        self._jobs: dict[str, str] = {}  # the key of each file that is there and is a job, or was refused
        self._inherited: dict[str, Print] = {}  # what an earlier run observed and nobody has seen since
        self._unreadable: set[str] = set()
        self._dirty: set[str] = set()
        self._notes: dict[str, Noted] = {}

    def load(self, session: Session) -> None:
        """Read what an earlier run knew of files that stay: without it, they would be looked at again and again."""
        statuses = [REFUSED, *([CLAIMED] if self._keeps else [])]
        for known in observations.remembered(session, self._root, statuses):
            self._jobs[known.path] = known.source_key
            if known.reason == UNREADABLE:
                self._unreadable.add(known.path)
        for known in observations.remembered(session, self._root, [GROWING]):
            self._inherited[known.path] = Print(known.source_key, known.size, known.mtime_ns)

    @property
    def to_write(self) -> bool:
        """Whether there is something to write down."""
        return bool(self._dirty or self._notes)

    @property
    def known_paths(self) -> list[str]:
        """All files that should be there."""
        return [*self.tracker.paths(), *self._jobs, *self._inherited]

    @property
    def unreadable(self) -> list[str]:
        """Files that were refused because they could not be read."""
        return list(self._unreadable)

    def knows(self, path: str) -> bool:
        """Whether the file was heard of before."""
        return path in self.tracker or path in self._jobs or path in self._inherited

    def is_job(self, path: str, status: os.stat_result) -> bool:
        """Whether this very version of the file is a job, or was refused."""
        return self._is_job(path, Print.of(status))

    def observe(self, path: str, status: os.stat_result, now: float, *, quiet: float = 0.0, stir: bool = False) -> None:
        """The file is there, as `status` says. `stir`: and something happened to it just now."""
        found = Print.of(status)
        self._inherited.pop(path, None)
        if self._is_job(path, found):
            return
        if self.tracker.see(path, found, now, quiet=quiet):
            self._dirty.add(path)
        elif stir:
            self.tracker.stir(path, now)
            self._dirty.add(path)

    def renamed(self, path: str, status: os.stat_result, now: float, *, old: str | None, finished: bool) -> None:
        """The file got this name just now.

        Args:
            path: the new name.
            status: the file's status.
            now: the time.
            old: its name before, in this root; None if it was elsewhere.
            finished: the old name says that the rename was its writer's last step.
        """
        found = Print.of(status)
        if old is not None and self._jobs.get(old) == found.key:
            self._jobs[path] = self._jobs.pop(old)
        elif old is not None and old in self.tracker:
            self.tracker.rename(old, path, found, now)
            self._note_gone(old, found, f"it was renamed to {path}")
        elif self._is_job(path, found):
            return
        elif finished:
            self.tracker.complete(path, found, now)
        else:
            self.tracker.see(path, found, now)
        self._dirty.add(path)

    def gone(self, path: str) -> None:
        """The file is not there any more."""
        growing = self.tracker.get(path)
        found = self._inherited.pop(path, None) if growing is None else growing.print
        self.forget_job(path)
        self.tracker.forget(path)
        if found is not None:
            self._note_gone(path, found, "it went away before it was complete")

    def hold(self, path: str, until: float, reason: str) -> None:
        """The file is quiet but cannot be taken now."""
        self.tracker.hold(path, until, reason)
        self._dirty.add(path)

    def handed(self, path: str, found: Print) -> None:
        """The file is a job now (the database knows), whose claim is on its way."""
        self.tracker.forget(path)
        self._dirty.discard(path)
        self._notes.pop(path, None)
        self._jobs[path] = found.key

    def refused(self, path: str, found: Print, job_uuid: UUID, code: str) -> None:
        """The file stays where it is, and its job has failed."""
        if self._jobs.get(path) == found.key:
            self._notes[path] = Noted(path, found, REFUSED, code, job_uuid)
        if code == UNREADABLE:
            self._unreadable.add(path)

    def settled(self, path: str, found: Print, outcome: Outcome) -> None:
        """A claim has ended."""
        if outcome.state is JobState.FAILED and outcome.error is not None:
            self.refused(path, found, outcome.job_uuid, outcome.error.code)
        elif outcome.state is JobState.RECEIVED and outcome.error is not None:
            self._notes[path] = Noted(path, found, CLAIMED, str(outcome.error), outcome.job_uuid)
        elif outcome.changed or (outcome.state is not JobState.RECEIVED and not self._keeps):
            self.forget_job(path)

    def forget_job(self, path: str) -> None:
        """If a file is there under this name, it is a new one."""
        self._jobs.pop(path, None)
        self._unreadable.discard(path)

    def flush(self, session: Session, now: float) -> None:
        """Write down what has changed; call `written` once that is committed."""
        notes = dict(self._notes)
        for path in self._dirty:
            growing = self.tracker.get(path)
            if growing is not None:
                age = max(0.0, now - growing.changed_at)
                notes[path] = Noted(path, growing.print, GROWING, growing.reason, age_seconds=age)
        observations.note(session, self._root, list(notes.values()))

    def written(self) -> None:
        """What `flush` wrote is safe."""
        self._dirty.clear()
        self._notes.clear()

    def _is_job(self, path: str, found: Print) -> bool:
        key = self._jobs.get(path)
        if key is None:
            return False
        if key != found.key:
            self.forget_job(path)
            return False
        return True

    def _note_gone(self, path: str, found: Print, reason: str) -> None:
        self._dirty.discard(path)
        self._notes[path] = Noted(path, found, GONE, reason)
