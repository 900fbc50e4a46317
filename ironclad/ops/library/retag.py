"""Writes the tags of published files anew: after an outage, after the operator's choice, after a changed policy.

A job's files are changed only while the job is settled and its row is locked, so that no attempt can begin meanwhile.
Everything is prepared beside them first; the same tags give the same bytes, so that a crash at any moment is mended by
doing it again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ironclad import durable
from ironclad.audio.decode import decode
from ironclad.audio.fingerprint import Fingerprint, fingerprint
from ironclad.db import jsonb
from ironclad.db.tables import Artifact
from ironclad.errors import BadRequest, FileChanged, IllegalTransition, OutputInvalid
from ironclad.jobs.ids import uuid7
from ironclad.jobs.states import JobState
from ironclad.jobs.transition import load, record
from ironclad.library.receipt import Receipt, sidecar
from ironclad.metadata.convert import cover_name
from ironclad.metadata.derive import derive
from ironclad.metadata.lookup import Lookup, Status
from ironclad.metadata.model import TrackTags
from ironclad.metadata.read import read
from ironclad.metadata.write import write_tags
from ironclad.ops.library import known, records
from ironclad.stages import filing, neighbours, online
from ironclad.stages.organize import COVER
from ironclad.stages.validate import limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.db.tables import Job
    from ironclad.metadata.candidate import Candidate
    from ironclad.metadata.model import Picture
    from ironclad.metadata.report import Loss
    from ironclad.ops.library.known import Known

_LOUDNESS: Final = (
    "replaygain_track_gain", "replaygain_track_peak", "replaygain_reference_loudness",
)  # fmt: skip
"""What was measured on the file, not taken from its source."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """One published file with its new bytes (the old ones, if nothing changed)."""

    kind: str
    path: str
    blake3: str
    changed: bool
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class Retagged:
    """What became of one job."""

    job_uuid: UUID
    lookup: Lookup | None
    """What MusicBrainz said this time; None if it was not asked."""
    cover: str
    files: tuple[Rewritten, ...]

    @property
    def pending(self) -> bool:
        """Whether a service did still not answer."""
        return (self.lookup is not None and self.lookup.status is Status.UNAVAILABLE) or self.cover == online.PENDING

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "job_uuid": str(self.job_uuid), "lookup": None if self.lookup is None else self.lookup.to_dict(),
            "cover": self.cover, "pending": self.pending,
            "files": [
                {
                    "kind": one.kind, "path": one.path, "blake3": one.blake3, "changed": one.changed,
                    "losses": [loss.to_dict() for loss in one.losses],
                }
                for one in self.files
            ],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A published file and what takes its place."""

    of: Known
    file: Path
    before: str
    blake3: str
    tags: TrackTags
    losses: tuple[Loss, ...]
    cover: Picture | None
    """The cover that was fetched for it."""


@dataclass(frozen=True, slots=True)
class Retagger:
    """Retags jobs, one at a time."""

    database: Database
    settings: Settings
    actor: str
    check: Callable[[], None] | None = None

    def candidates(self, job_uuid: UUID) -> Lookup | None:
        """What MusicBrainz offered for a job. None if it was never asked."""
        metadata = self._metadata(job_uuid)
        return Lookup.from_dict(metadata["lookup"]) if metadata and metadata.get("lookup") else None

    def pick(self, job_uuid: UUID, number: int) -> None:
        """Choose candidate `number` (from 1) for a job. Raises `BadRequest` if there is none of it."""
        lookup = self.candidates(job_uuid)
        offered = () if lookup is None else lookup.candidates
        if not 1 <= number <= len(offered):
            raise BadRequest(f"Job {job_uuid} has {len(offered)} candidates; there is no number {number}.")
        self._choose(job_uuid, offered[number - 1][1], by="operator")

    def retag(self, job_uuid: UUID) -> Retagged:
        """Ask (if tags are wanting and nothing was chosen), then write what follows into every published file.

        Raises `IllegalTransition` unless the job has succeeded, `BadRequest` if it is not on record what it was made
        from, `FileChanged` if a file is not as it was published, `OutputInvalid`, storage errors.
        """
        job, metadata = self._settled(job_uuid)
        lookup: Lookup | None = None
        if online.CHOSEN not in job.options and "read" in metadata:
            found = online.look(
                self.database, self.settings, TrackTags.from_dict(metadata["read"]), PurePath(job.relative_path),
                job.duration_seconds, sound=lambda: self._sound(job, metadata), patient=True, check=self.check,
            )  # fmt: skip
            lookup = found.lookup
            if found.candidate is not None:
                self._choose(job_uuid, found.candidate, by="lookup")
        with self.database.session() as session:
            published = list(known.files(session, job_uuid))
        if not published or not all(one.complete for one in published):
            raise BadRequest(f"It is not on record what the files of job {job_uuid} were made from; replay the job.")
        work = self.settings.layout.work / f"{job_uuid}.retag"
        durable.remove_tree(work, reason="left by an interrupted retag")
        durable.make_dirs(work)
        try:
            cover, prepared = self._prepare(published, work)
            files = self._publish(job, prepared, lookup, cover, was=metadata.get("cover"))
        finally:
            durable.remove_tree(work, reason="retagged")
        return Retagged(job_uuid, lookup, cover, files)

    # --- what to write ---

    def _prepare(self, published: list[Known], work: Path) -> tuple[str, list[_Prepared]]:
        tags = published[0].tags()
        fetched: Picture | None = None
        cover = "not-asked"
        prepared = []
        for number, one in enumerate(published):
            folder = work / str(number)
            durable.make_dirs(folder)
            if not one.path.is_file():
                raise FileChanged(f"{one.path} is gone.", path=one.path)
            before = durable.digest(one.path)
            reading = read(one.path, folder, check=self.check)
            pictures = reading.pictures
            if not pictures and number == 0:
                fetched, cover = online.cover(self.database, self.settings, tags, patient=True, check=self.check)
            if not pictures and fetched is not None:
                pictures = (fetched,)
            measured = {name: getattr(reading.tags, name) for name in _LOUDNESS}
            wanted = replace(derive(tags, one.derivation(self.settings)), **measured)
            file = folder / f"new{one.path.suffix}"
            shutil.copyfile(one.path, file)
            losses = write_tags(file, wanted, pictures)
            digest = durable.digest(file)
            if digest != before:
                self._verify(one.path, file)
            prepared.append(_Prepared(one, file, before, digest, wanted, losses, fetched))
        return cover, prepared

    def _sound(self, job: Job, metadata: dict[str, Any]) -> Fingerprint:
        """As it was taken when the job ran, else of the original while that is kept."""
        if metadata.get("fingerprint"):
            return Fingerprint(metadata["fingerprint"])
        original = filing.locate(self.settings.layout, job)
        if original is None:
            return Fingerprint(problem="none was taken when the job ran, and its original is gone")
        return fingerprint(original, limits(self.settings.limits), check=self.check)

    def _verify(self, old: Path, new: Path) -> None:
        """The samples must be the same: tags were written, nothing else."""
        allowed = limits(self.settings.limits)
        if decode(old, None, allowed, check=self.check).blake3 != decode(new, None, allowed, check=self.check).blake3:
            raise OutputInvalid(f"{old.name} would sound different with other tags; it was left as it is.", path=old)

    # --- writing it ---

    def _publish(
        self, job: Job, prepared: list[_Prepared], lookup: Lookup | None, cover: str, *, was: str | None
    ) -> tuple[Rewritten, ...]:
        with self.database.session() as session:
            records.current(session, job)
            for one in prepared:
                if one.blake3 != one.before:
                    records.intend(session, one.of.artifact_uuid, one.blake3)
        with self.database.session() as session:
            now = records.current(session, job)
            files = tuple(self._replace(session, one) for one in prepared)
            tags = prepared[0].of.tags()
            session.execute(
                sa.text("UPDATE job SET title = :title, artist = :artist, album = :album WHERE job_uuid = :job"),
                jsonb.plain({"title": tags.title, "artist": tags.display_artist or None, "album": tags.album})
                | {"job": job.job_uuid},
            )
            changes: dict[str, Any] = {} if lookup is None else {"lookup": lookup.to_dict()}
            if lookup is None and online.CHOSEN in now.options:
                changes["lookup"] = {
                    **Lookup(Status.MATCHED, detail="chosen").to_dict(),
                    **records.offered(session, job),
                }
            if cover != "not-asked" or was == online.PENDING:
                changes["cover"] = cover
            for one in prepared:
                self._album_cover(session, one)
            records.note(session, job.job_uuid, changes)
            record(
                session, job.job_uuid, "retagged", actor=self.actor, attempt=now.attempt,
                files=[one.path for one in files if one.changed], cover=cover,
                lookup=None if lookup is None else lookup.status.value,
            )  # fmt: skip
        return files

    def _replace(self, session: Session, one: _Prepared) -> Rewritten:
        final = one.of.path
        temporary = final.with_name(f".{one.of.job.job_uuid.hex}.0.part")
        durable.remove(temporary, reason="left by an interrupted retag")
        try:
            if one.blake3 != one.before:
                durable.copy_to_temporary(one.file, temporary, one.blake3)
            there = durable.digest(final)  # as late as can be: copying takes its time
            # An interrupted retag may have left what it said it would write; anything else is somebody's own doing.
            if there not in {one.of.blake3, one.of.receipt.get(records.INTENDED)} or there != one.before:
                raise FileChanged(f"{final} is not as it was published.", path=final)
            if there != one.blake3:
                durable.replace(temporary, final)
        finally:
            durable.remove(temporary, reason="not published")
        changed = one.of.blake3 != one.blake3
        if changed:
            self._record(session, one)
        return Rewritten(one.of.kind, str(final), one.blake3, changed, one.losses)

    def _record(self, session: Session, one: _Prepared) -> None:
        size = one.of.path.stat().st_size
        kept = {name: value for name, value in one.of.receipt.items() if name != records.INTENDED}
        receipt = {
            **kept, "blake3": one.blake3, "bytes": size, "servers": neighbours.facts(one.tags),
        }  # fmt: skip
        records.update(session, one.of.artifact_uuid, size, one.blake3, receipt)
        rows = session.execute(
            sa.text(
                "SELECT artifact_uuid, path FROM artifact WHERE job_uuid = :job AND kind = :kind "
                "AND state = 'published'"
            ),
            {"job": one.of.job.job_uuid, "kind": f"receipt:{one.of.kind}"},
        ).all()
        # A job that was replayed with another engine may have two results of a kind, each with its receipt.
        beside = str(sidecar(one.of.path))
        own = [row for row in rows if row.path == beside] or (rows if len(rows) == 1 else [])
        for row in own:
            path = Path(row.path)
            content = Receipt.from_dict({**receipt, "file": one.of.path.name}).to_bytes()
            durable.write_atomic(path, content)
            records.update(session, row.artifact_uuid, len(content), durable.digest(path), None)

    def _album_cover(self, session: Session, one: _Prepared) -> None:
        """A cover that was fetched goes into the album's folder too, unless one is there."""
        picture, album = one.cover, one.of.path.parent
        if picture is None or not self.settings.output.cover or one.of.job.options.get("output_dir"):
            return
        path = album / cover_name(picture)
        session.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(lower(:path), 1))"), {"path": str(path)})
        owned = session.scalar(
            sa.text("SELECT count(*) FROM artifact WHERE lower(path) = lower(:path) AND state <> 'superseded'"),
            {"path": str(path)},
        )
        there = {file.name.lower() for file in album.iterdir()} & {"cover.jpg", "cover.png"}
        if owned or there or album == self.settings.layout.output:
            return
        content = picture.content()
        durable.write_atomic(path, content)
        session.add(
            Artifact(
                artifact_uuid=uuid7(), job_uuid=one.of.job.job_uuid, attempt=one.of.job.attempt,
                kind=f"{COVER}{one.of.kind}", path=str(path), size=len(content), blake3=durable.digest(path),
                state="published", published_at=session.scalar(sa.text("SELECT ironclad_now()")),
            )
        )  # fmt: skip

    # --- what is on record ---

    def _settled(self, job_uuid: UUID) -> tuple[Job, dict[str, Any]]:
        with self.database.session() as session:
            job = records.locked(session, job_uuid)
        metadata = self._metadata(job_uuid)
        if metadata is None:
            raise BadRequest(f"The tags of job {job_uuid} are not on record; replay the job.")
        return job, metadata

    def _metadata(self, job_uuid: UUID) -> dict[str, Any] | None:
        with self.database.session() as session:
            load(session, job_uuid)
            data = session.scalar(
                sa.text(
                    "SELECT data FROM stage_run WHERE job_uuid = :job AND stage = 'metadata' "
                    "AND state IN ('done', 'reused') ORDER BY attempt DESC LIMIT 1"
                ),
                {"job": job_uuid},
            )
        return None if data is None else dict(data)

    def _choose(self, job_uuid: UUID, candidate: Candidate, *, by: str) -> None:
        """Keep the candidate with the job, before any file is touched: a retag that is cut short goes on with it."""
        with self.database.session() as session:
            job = load(session, job_uuid, lock=True)
            if job.state == JobState.RUNNING.value:
                raise IllegalTransition(f"Job {job_uuid} is running; choose when it has ended.")
            session.execute(
                sa.text("UPDATE job SET options = options || CAST(:chosen AS jsonb) WHERE job_uuid = :job"),
                {"job": job_uuid, "chosen": jsonb.dumps({online.CHOSEN: candidate.to_dict()})},
            )
            record(
                session, job_uuid, "tags_chosen", actor=self.actor, attempt=job.attempt, by=by,
                recording=candidate.recording_id, release=candidate.album_id,
            )  # fmt: skip
