"""Moves the published library to the path template in force; database, files and receipts stay together."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad import durable
from ironclad.errors import IllegalTransition
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load, record
from ironclad.library.names import numbered
from ironclad.library.receipt import sidecar
from ironclad.library.refile import Move, plan_refile, refile
from ironclad.ops.library import known, preview

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.library.naming import PathTemplate
    from ironclad.ops.library.known import Known


_LONELY: Final = sa.text(
    "SELECT c.artifact_uuid, c.job_uuid, c.path, c.blake3, min(t.path) AS track FROM artifact c "
    "JOIN job j ON j.job_uuid = c.job_uuid AND j.state = 'succeeded' "
    "JOIN artifact t ON t.job_uuid = c.job_uuid AND 'cover:' || t.kind = c.kind AND t.state = 'published' "
    "WHERE c.state = 'published' AND starts_with(c.path, :root) AND starts_with(t.path, :root) "
    "AND NOT EXISTS (SELECT 1 FROM artifact n WHERE n.state = 'published' AND n.kind !~ '^(receipt|cover):' "
    "AND regexp_replace(n.path, '/[^/]*$', '') = regexp_replace(c.path, '/[^/]*$', '')) "
    "GROUP BY c.artifact_uuid ORDER BY c.path"
)
"""Covers in folders without a track of the library, and where the track is that each came with."""
_REASON: Final = "its album has moved to a folder that has a cover"
_DOUBLES: Final = 100
"""Numbered doubles of a name among which `mend` looks for a file."""


@dataclass(frozen=True, slots=True)
class Refiler:
    """Plans and carries out the moves of one installation's library."""

    database: Database
    settings: Settings
    actor: str
    check: Callable[[], None] | None = None

    @property
    def root(self) -> Path:
        """The library."""
        return self.settings.layout.output

    def plan(self, template: PathTemplate) -> list[Move]:
        """Every move that the template asks for; files of running jobs and of others stay where they are."""
        tracks = self._tracks()
        movable = [
            (PurePosixPath(path), one.name(self.settings))
            for path, one in tracks.items()
            if one.complete and one.job.state == JobState.SUCCEEDED.value and one.path.is_file()
        ]
        fixed = {path for path, _ in movable}
        others = [path for path in preview.existing(self.root) if path not in fixed]
        return plan_refile(movable, template, others)

    def apply(self, moves: Sequence[Move]) -> Iterator[Move]:
        """Carry out a plan: each move and its record under the job's lock. Yields what is done."""
        tracks = self._tracks()
        owners = {move.source: tracks[str(move.source)].job.job_uuid for move in moves}

        @contextlib.contextmanager
        def recorded(source: PurePosixPath, target: PurePosixPath) -> Iterator[None]:
            job = owners[source]
            with self.database.session() as session:
                _unlocked(session, job)
                yield
                self._record(session, job, source, target)
            owners[target] = owners.pop(source)

        yield from refile(self.root, moves, check=self.check, around=recorded)
        self._covers()

    # --- what is where ---

    def _tracks(self) -> dict[str, Known]:
        """The published files below the library, by their path below it."""
        with self.database.session() as session:
            return {
                one.path.relative_to(self.root).as_posix(): one
                for one in known.files(session)
                if one.path.is_relative_to(self.root)
            }

    def mend(self, template: PathTemplate) -> None:
        """A refile that was killed between a move and its record left a file where the record does not say: find it."""
        tracks = self._tracks()
        for path, one in tracks.items():
            if one.path.exists() or not one.complete:
                continue
            wanted = self.root / template.render(one.name(self.settings), one.path.suffix)
            doubles = (wanted.with_name(numbered(wanted.name, number)) for number in range(2, _DOUBLES))
            near = [wanted, *doubles, *one.path.parent.glob(f".refile-*{one.path.suffix}")]
            for found in near:
                below = found.relative_to(self.root)
                if below.as_posix() not in tracks and found.is_file() and durable.digest(found) == one.blake3:
                    source, target = PurePosixPath(path), PurePosixPath(below.as_posix())
                    with self.database.session() as session:
                        _unlocked(session, one.job.job_uuid)
                        if sidecar(one.path).exists() and not sidecar(found).exists():
                            durable.move(sidecar(one.path), sidecar(found))
                        self._record(session, one.job.job_uuid, source, target)
                    break

    def _record(self, session: Session, job_uuid: UUID, source: PurePosixPath, target: PurePosixPath) -> None:
        old, new = self.root / source, self.root / target
        for before, after in ((old, new), (sidecar(old), sidecar(new))):
            session.execute(
                sa.text(
                    "UPDATE artifact SET path = :after WHERE job_uuid = :job AND path = :before "
                    "AND state <> 'superseded'"
                ),
                {"job": job_uuid, "before": str(before), "after": str(after)},
            )
        attempt = load(session, job_uuid).attempt
        record(
            session, job_uuid, "refiled", actor=self.actor, attempt=attempt, **{"from": str(source), "to": str(target)}
        )

    # --- covers follow their albums ---

    def _covers(self) -> None:
        """A cover goes along when its folder has no track of the library any more, unless there is one already.

        Of all albums, not only of those that have moved now: an earlier refile may have been killed before this.
        """
        with self.database.session() as session:
            rows = session.execute(_LONELY, {"root": f"{self.root}/"}).all()
        for row in rows:
            path = Path(row.path)
            target = Path(row.track).parent / path.name
            if not target.parent.is_dir():
                continue
            with contextlib.suppress(IllegalTransition):  # its job runs again: it will see to it
                if path.is_file():
                    self._cover(row, path, target)
                else:
                    self._found(row, path, target)
            for folder in (path.parent, *path.parent.parents):
                if folder == self.root or not durable.remove_empty_folder(folder):
                    break

    def _found(self, row: Any, path: Path, target: Path) -> None:
        """A cover was moved, and its record was not: written down now."""
        with self.database.session() as session:
            _unlocked(session, row.job_uuid)
            if not path.exists() and target.is_file() and durable.digest(target) == row.blake3:
                self._place(session, row, target)

    @staticmethod
    def _place(session: Session, row: Any, target: Path) -> None:
        session.execute(
            sa.text(
                "UPDATE artifact SET path = :path WHERE artifact_uuid = :id AND NOT EXISTS (SELECT 1 FROM artifact o "
                "WHERE lower(o.path) = lower(:path) AND o.state <> 'superseded' AND o.artifact_uuid <> :id)"
            ),
            {"id": row.artifact_uuid, "path": str(target)},
        )

    def _cover(self, row: Any, path: Path, target: Path) -> None:
        with self.database.session() as session:
            _unlocked(session, row.job_uuid)
            taken = [file for file in target.parent.iterdir() if file.name.lower() in {"cover.jpg", "cover.png"}]
            if taken or target.parent == self.root:
                if durable.digest(path) != row.blake3:
                    return  # somebody has put his own there
                attempt = load(session, row.job_uuid).attempt
                record(
                    session, row.job_uuid, "removed", actor=self.actor, attempt=attempt, path=str(path), reason=_REASON
                )
                durable.remove(path, reason=_REASON)
                session.execute(
                    sa.text("UPDATE artifact SET state = 'superseded' WHERE artifact_uuid = :id"),
                    {"id": row.artifact_uuid},
                )
                return
            durable.move(path, target)
            self._place(session, row, target)


def _unlocked(session: Session, job_uuid: UUID) -> None:
    """Lock a job's row, so that nobody begins an attempt at it. Raises `IllegalTransition` if somebody did."""
    job = load(session, job_uuid, lock=True)
    if job.state != JobState.SUCCEEDED.value:
        raise IllegalTransition(f"Job {job_uuid} is {job.state}; its files were left where they are.")
