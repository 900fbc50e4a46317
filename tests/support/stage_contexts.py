"""A stage's context without a pipeline: made-up outputs of the stages before, and the real library and database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ironclad import durable
from ironclad.engines.admission import own_hosts
from ironclad.jobs import history, lease, submit
from ironclad.jobs.states import JobState
from ironclad.log import JobLog
from ironclad.metadata.derive import derive, with_replay_gain
from ironclad.metadata.read import Reading
from ironclad.metadata.write import write_tags
from ironclad.stages import metadata, organize, tagging
from ironclad.stages.context import StageContext, StageOutput
from ironclad.stages.publish import publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from uuid import UUID

    from sqlmodel import Session

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.jobs.lease import Claim
    from ironclad.metadata.model import Picture, TrackTags

DECODED = {"frames": 9_261_000, "sample_rate": 44_100}
"""210 seconds."""


def context(
    database: Database, settings: Settings, claim: Claim, folder: Path, outputs: Mapping[str, StageOutput]
) -> StageContext:
    """The context of a claimed job's stage that works in `folder`."""

    def write(call: Callable[[Session], Any]) -> Any:
        with database.session() as session:
            return call(session)

    def note(kind: str, data: Mapping[str, Any]) -> None:
        write(lambda session: history.note(session, claim.fence, kind, folder.name, **data))

    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(
        job=claim.job, settings=settings, layout=settings.layout, source=folder / "source", folder=folder,
        outputs=outputs, progress=lambda _fraction, _message: None, check=lambda: None,
        log=JobLog(settings.layout.job_log(claim.job.job_uuid)), library=publisher(write, claim.fence),
        partial=folder.with_name(f"{folder.name}.partial"),
        hosts=own_hosts(settings), note=note,
        database=database,
    )  # fmt: skip


def read_outputs(folder: Path, tags: TrackTags, pictures: tuple[Picture, ...] = ()) -> dict[str, StageOutput]:
    """What validate and categorize left: the tags and pictures of the source."""
    kept = folder / "categorize" / "pictures"
    kept.mkdir(parents=True, exist_ok=True)
    stored = tuple(picture.stored(kept / f"picture-{number:02}.bin") for number, picture in enumerate(pictures))
    reading = Reading("FLAC", tags, stored)
    return {
        "validate": StageOutput(folder / "validate", {"decoded": DECODED}, "v"),
        "categorize": StageOutput(kept.parent, {"category": "music", "reading": reading.to_dict()}, "c"),
    }


def made_outputs(
    folder: Path, tags: TrackTags, files: Mapping[str, Path], pictures: tuple[Picture, ...] = ()
) -> dict[str, StageOutput]:
    """What metadata, separate and recombine left: finished files by their kind."""
    kept = folder / "metadata" / "pictures"
    kept.mkdir(parents=True, exist_ok=True)
    suffixes = {"image/png": ".png", "image/jpeg": ".jpg"}
    stored = tuple(
        picture.stored(kept / f"picture-{number:02}{suffixes[picture.mime]}") for number, picture in enumerate(pictures)
    )
    made = folder / "recombine"
    made.mkdir(exist_ok=True)
    entries = []
    for kind, file in files.items():
        own = made / f"{kind}{file.suffix}"
        own.write_bytes(file.read_bytes())
        entries.append({"kind": kind, "file": own.name, "receipt": receipt(kind, own), "losses": []})
    reading = Reading("FLAC", tags, stored)
    separated = {"engine": "center", "version": "1", "model": "none", "model_digest": None}
    return {
        "metadata": StageOutput(kept.parent, {"reading": reading.to_dict(), "picture_changes": []}, "m"),
        "separate": StageOutput(folder / "separate", separated, "s"),
        "recombine": StageOutput(made, {"files": entries}, "r"),
    }


def receipt(kind: str, file: Path) -> dict[str, Any]:
    """The least of a receipt of a file."""
    return {
        "schema_version": 1, "job_uuid": "j", "trace_id": "t", "kind": kind, "source_blake3": "a",
        "source_samples": 4, "source_sample_rate": 44_100, "blake3": durable.digest(file),
        "bytes": file.stat().st_size, "samples": 4, "sample_rate": 44_100, "channels": 2, "same_length": True,
        "offset_samples": 0, "format": file.suffix[1:],
    }  # fmt: skip


def published_job(  # noqa: PLR0917 - a test's whole scene
    database: Database, settings: Settings, claim: Claim, folder: Path, tags: TrackTags, file: Path,
    pictures: tuple[Picture, ...] = (), *, kinds: tuple[str, ...] = ("instrumental",),
) -> UUID:  # fmt: skip
    """A job that has succeeded: its metadata stage was run, and `file` was published as each of `kinds`, tagged."""
    read_ = read_outputs(folder, tags, pictures)
    given = context(database, settings, claim, folder / "metadata", read_)
    found = metadata.run(given)
    separated = {"engine": "center", "version": "1", "model": "none", "model_digest": None}
    outputs = {
        "metadata": StageOutput(folder / "metadata", found.data, "m"),
        "separate": StageOutput(folder / "separate", separated, "s"),
    }
    made = folder / "recombine"
    made.mkdir()
    organizing = context(database, settings, claim, folder / "organize", outputs)
    entries = []
    for kind in kinds:
        own = made / f"{kind}{file.suffix}"
        own.write_bytes(file.read_bytes())
        finished = metadata.finished(organizing)
        derived = derive(finished.tags, tagging.derivation(organizing, kind))
        write_tags(own, with_replay_gain(derived, integrated_lufs=-14.0, peak=0.9), finished.pictures)
        entries.append({"kind": kind, "file": own.name, "receipt": receipt(kind, own), "losses": []})
    outputs["recombine"] = StageOutput(made, {"files": entries}, "r")
    for name in ("metadata", "separate"):
        with database.session() as session:
            history.stage_started(session, claim.fence, name)
            history.stage_ended(
                session,
                claim.fence,
                name,
                reused=False,
                data=dict(outputs[name].data),
                following=None,
                facts=dict(found.facts) if name == "metadata" else {},
            )
    assert organize.run(organizing).error is None
    with database.session() as session:
        lease.finish(session, claim.fence, JobState.SUCCEEDED, actor="test")
    return claim.job.job_uuid


def claimed(
    database: Database, settings: Settings, file: Path, relative_path: str = "Song.flac", **fields: Any
) -> Claim:
    """A new job for a file (made if it is not there), and its first attempt."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(str(file).encode())
    new = submit.NewJob(
        user_id="ana", source=file, relative_path=relative_path, stat=file.stat(), ingest_mode="move", **fields
    )
    with database.session() as session:
        job = submit.receive(session, new, settings)
        submit.claimed(session, job.job_uuid, durable.digest(file))
    with database.session() as session:
        found = lease.claim(session, job.job_uuid, 1, worker="test", lease_seconds=300)
    assert found is not None
    return found
