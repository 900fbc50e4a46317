"""From complete files to jobs: rows by the batch, then the claims side by side."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ironclad import log
from ironclad.errors import DatabaseUnavailable, IroncladError
from ironclad.ingest import claim, observations
from ironclad.ingest.observations import CLAIMED, REFUSED, Noted
from ironclad.ingest.stability import Print
from ironclad.jobs import submit
from ironclad.jobs.states import JobState
from ironclad.jobs.submit import NewJob

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.ingest.claim import Outcome
    from ironclad.ingest.places import Place

_CLAIMS_AT_A_TIME = 4  # so that hashing a few large files does not keep the small ones waiting
_BATCH = 200
_PATIENCE_SECONDS = 1.0  # after that, claims go on beside: a root on a mount that hangs stops nothing but itself


@dataclass(frozen=True, slots=True)
class Candidate:
    """A complete file, or (with `error`) one that is refused visibly."""

    place: Place
    status: os.stat_result
    error: IroncladError | None = None

    @property
    def path(self) -> str:
        """The path below the root."""
        return self.place.below_root


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a candidate: a job (a new one, or the one that it was already), or nothing yet."""

    candidate: Candidate
    job_uuid: UUID | None
    problem: str = ""


class _Settled(Exception):
    """Of these files, no rows are wanted."""

    def __init__(self, received: Sequence[Received]) -> None:
        super().__init__()
        self.received = received


class Intake:
    """Makes jobs of complete files, for all roots.

    Args:
        database: where jobs are.
        settings: the installation.
        engine_pool: the work pool of the settings' engine.
    """

    def __init__(self, database: Database, settings: Settings, engine_pool: str = "cpu") -> None:
        self._database = database
        self._settings = settings
        self._engine_pool = engine_pool
        self._pool = ThreadPoolExecutor(_CLAIMS_AT_A_TIME, thread_name_prefix="claim")
        self._turn = threading.Condition()
        self._receiving = 0
        self._begun = 0.0

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """Look at files and make rows of them in here: claims that have not begun yet let that go first.

        A look is many short system calls, and after each of them a thread waits for the interpreter's lock behind all
        that compute: beside four claims, a thousand files would wait a second longer for their rows.
        """
        with self._turn:
            if not self._receiving:
                self._begun = time.monotonic()
            self._receiving += 1
        try:
            yield
        finally:
            with self._turn:
                self._receiving -= 1
                self._turn.notify_all()

    def receive(self, root: str, candidates: Sequence[Candidate]) -> list[Received]:
        """Insert the rows of many files, a few transactions in all.

        Raises `DatabaseUnavailable`; what was committed before is found again (`AlreadyReceived`) by the next call.
        """
        received: list[Received] = []
        for start in range(0, len(candidates), _BATCH):
            batch = candidates[start : start + _BATCH]
            try:
                received += self._receive(root, batch)
            except DatabaseUnavailable:
                raise
            except Exception:  # noqa: BLE001 - whatever one file's row provokes must not keep the others back
                received += [self._receive_alone(root, candidate) for candidate in batch]
        return received

    def _receive(self, root: str, batch: Sequence[Candidate]) -> list[Received]:
        try:
            return self._insert(root, batch)
        except _Settled as settled:
            known = {one.candidate.path: one for one in settled.received}
            rest = [candidate for candidate in batch if candidate.path not in known]
            known.update((one.candidate.path, one) for one in (self._receive(root, rest) if rest else ()))
            return [known[candidate.path] for candidate in batch]

    def _insert(self, root: str, batch: Sequence[Candidate]) -> list[Received]:
        """Insert the rows, or none of them and raise `_Settled`."""
        with self._database.session() as session:
            new = [self._new(root, candidate) for candidate in batch]
            jobs = submit.receive_many(session, new, self._settings)
            self._ensure_ours(session, root, [
                (candidate, one) for candidate, one, (_, is_new) in zip(batch, new, jobs, strict=True) if is_new
            ])  # fmt: skip
            received = []
            notes = []
            for candidate, (job_uuid, is_new) in zip(batch, jobs, strict=True):
                problem = "" if job_uuid else "An earlier claim of it is about to end."
                received.append(Received(candidate, job_uuid, problem))
                if job_uuid is None:
                    continue
                error = candidate.error
                if error is not None and is_new:
                    claim.refuse_row(session, job_uuid, error)
                found = Print.of(candidate.status)
                notes.append(
                    Noted(candidate.path, found, REFUSED if error else CLAIMED, error.code if error else None, job_uuid)
                )
            observations.note(session, root, notes)
        return received

    def _ensure_ours(self, session: Session, root: str, inserted: Sequence[tuple[Candidate, NewJob]]) -> None:
        """Raise `_Settled` if another watcher was done with a file between our look at it and our row.

        A file's key is only unique while its claim is going on. Since the row is in now, no other claim can begin; one
        that had ended before has taken the file away, or has noted why it was refused.
        """
        settled = []
        for candidate, new in inserted:
            if candidate.error is None:
                if not claim.is_there(new):
                    settled.append(Received(candidate, None, "It went away, or changed, in this moment."))
                continue
            known = observations.of_file(session, root, candidate.path)
            if known is not None and known.status == REFUSED and known.source_key == submit.source_key(new.stat):
                settled.append(Received(candidate, known.job_uuid))
        if settled:
            raise _Settled(settled)

    def _new(self, root: str, candidate: Candidate) -> NewJob:
        place = candidate.place
        return NewJob(
            user_id=place.user_id, source=Path(root, place.below_root), relative_path=place.relative_path,
            stat=candidate.status, watch_root=root, ingest_mode=place.root.mode,
            engine_pool=self._engine_pool,
        )  # fmt: skip

    def _receive_alone(self, root: str, candidate: Candidate) -> Received:
        try:
            return self._receive(root, [candidate])[0]
        except DatabaseUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001 - reported with the file, which is tried again
            log.get(root=root, path=candidate.path).error("ingest_receive_failed", error=repr(exc))
            return Received(candidate, None, f"No job could be made of it: {exc!r}")

    def finish(self, job_uuid: UUID, done: Callable[[Outcome], None]) -> None:
        """Claim a received file in the pool; `done` is called there with the outcome."""
        self._pool.submit(self._finish, job_uuid, done)

    def _finish(self, job_uuid: UUID, done: Callable[[Outcome], None]) -> None:
        with self._turn:
            left = self._begun + _PATIENCE_SECONDS - time.monotonic()
            self._turn.wait_for(lambda: not self._receiving, max(0.0, left))
        try:
            outcome = claim.finish(self._database, self._settings, job_uuid)
        except IroncladError as exc:
            outcome = claim.Outcome(job_uuid, JobState.RECEIVED, exc)
        except Exception as exc:  # noqa: BLE001 - the row stays in `received`, from where it is tried again
            log.get(job_uuid=str(job_uuid)).error("ingest_claim_failed", error=repr(exc))
            outcome = claim.Outcome(job_uuid, JobState.RECEIVED)
        done(outcome)

    def close(self) -> None:
        """Finish the claims that have begun; the others are for the next start."""
        self._pool.shutdown(wait=True, cancel_futures=True)
