"""What answers look like; the reference and `/v1/openapi.json` are made of these."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ironclad.jobs import query
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from ironclad.db import tables


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


def below(value: Any, root: Path) -> Any:
    """The value with every path in the data folder told from there: where that is, is no business of clients."""
    if isinstance(value, str):
        return value.replace(f"{root}/", "")
    if isinstance(value, dict):
        return {key: below(item, root) for key, item in value.items()}
    return [below(item, root) for item in value] if isinstance(value, list | tuple) else value


class Problem(_Answer):
    """An error (RFC 9457)."""

    type: str = Field(description="`urn:ironclad:error:` and the code.")
    title: str = Field(description="What happened.")
    status: int = Field(description="The status code, again.")
    detail: str = Field(description="More about this case; may be empty.")
    code: str = Field(description="The code of the error catalogue.")
    hint: str = Field(description="What to do.")
    retryable: bool = Field(description="Whether the same request may succeed later.")


class Job(_Answer):
    """One song on its way through the pipeline."""

    job_uuid: UUID = Field(description="Its id.")
    user: str = Field(description="Whose it is.")
    name: str = Field(description="`Artist - Title`, or what is known of it.")
    title: str | None = Field(description="Of its tags, or of its name.")
    artist: str | None = Field(description="Of its tags.")
    album: str | None = Field(description="Of its tags.")
    path: str = Field(description="Its name as it was sent, with folders.")
    state: JobState = Field(description="Where it is.")
    stage: str = Field(description="The stage that it is at, or stopped at.")
    progress: float = Field(description="Of the attempt that runs, from 0 to 1.")
    held: bool = Field(description="Whether somebody holds it back.")
    cancel_requested: bool = Field(description="Whether its worker is asked to stop.")
    attempt: int = Field(description="Attempts so far.")
    failures: int = Field(description="Of these, how many failed in a row.")
    priority: int = Field(description="Higher goes first.")
    pool: str = Field(description="The work pool.")
    engine: str = Field(description="The engine.")
    output_format: str = Field(description="The format of its results.")
    stems: list[str] = Field(description="What is made of it.")
    size: int = Field(description="Bytes of the song.")
    duration_seconds: float | None = Field(description="Length of the song.")
    error_code: str | None = Field(description="Why it failed, was skipped, or waits.")
    error: dict[str, Any] | None = Field(description="That error with what happened (`what`, `detail`) and `hint`.")
    created_at: datetime | None = Field(description="When it arrived.")
    queued_at: datetime | None = Field(description="When it was last put into the queue.")
    started_at: datetime | None = Field(description="When its first attempt began.")
    finished_at: datetime | None = Field(description="When it was settled.")
    not_before: datetime | None = Field(description="When it is tried again.")

    @classmethod
    def of(cls, row: tables.Job, root: Path) -> Job:
        """The row as clients see it; `root` is the data folder."""
        same = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        more = {
            "user": row.user_id, "name": query.name_of(row), "path": row.relative_path, "size": row.source_size,
            "error": below(row.error, root),
        }  # fmt: skip
        return cls.model_validate({**same, **more})


class Sent(_Answer):
    """A song that arrived whole."""

    job: Job = Field(description="Its job.")
    duplicate: bool = Field(description="Whether the same was there before, so that there is nothing to do.")
    duplicate_of: UUID | None = Field(description="The job that did or does it, if the token may see that one.")


class Jobs(_Answer):
    """One page of jobs, newest first."""

    jobs: list[Job] = Field(description="The jobs.")
    next: UUID | None = Field(description="The `cursor` of the next page; null at the end.")


class Event(_Answer):
    """Something that happened to a job."""

    id: int = Field(description="Its number.")
    at: datetime = Field(description="When.")
    kind: str = Field(description="What.")
    from_state: str | None = Field(description="The state before, if it changed.")
    to_state: str | None = Field(description="The state after.")
    attempt: int = Field(description="In which attempt.")
    stage: str | None = Field(description="At which stage.")
    actor: str = Field(description="Who did it; through this API `api:USER/LABEL` of the token.")
    data: dict[str, Any] = Field(description="More about it.")

    @classmethod
    def of(cls, row: tables.JobEvent, root: Path) -> Event:
        """The row as clients see it; `root` is the data folder."""
        return cls.model_validate({name: below(getattr(row, name), root) for name in cls.model_fields})


class Events(_Answer):
    """One page of a job's history, oldest first."""

    events: list[Event] = Field(description="The events.")
    next: int | None = Field(description="The `after` of the next page; null at the end.")


class Why(_Answer):
    """Why a job is where it is, in plain words: what `ironclad jobs why` says."""

    job_uuid: UUID = Field(description="The job.")
    name: str = Field(description="What it is called.")
    state: JobState = Field(description="Its state.")
    summary: str = Field(description="That in a sentence.")
    stage: str = Field(description="Where it is, or stopped.")
    code: str | None = Field(description="The error.")
    cause: str = Field(description="What happened.")
    tried: list[str] = Field(description="One line an attempt.")
    done: list[str] = Field(description="What Ironclad did about it.")
    todo: list[str] = Field(description="What can be done.")
    log: list[str] = Field(description="The lines of its log that matter.")
    links: list[str] = Field(description="Pages of the documents that say more.")


class File(_Answer):
    """A file in the library."""

    id: UUID = Field(description="Its id.")
    kind: str = Field(description="The stem (`instrumental` …), or `receipt:…` and `cover:…` beside it.")
    path: str = Field(description="Where it is in the library.")
    size: int = Field(description="Bytes.")
    blake3: str = Field(description="BLAKE3 of its bytes; the ETag of a download.")
    published_at: datetime | None = Field(description="When it was published.")
    url: str = Field(description="Where it can be fetched.")

    @classmethod
    def of(cls, row: tables.Artifact, library: Path) -> File:
        """The row as clients see it; `library` is the folder that paths are told from."""
        return cls(
            id=row.artifact_uuid, kind=row.kind, path=str(Path(row.path).relative_to(library)), size=row.size,
            blake3=row.blake3, published_at=row.published_at, url=f"/v1/jobs/{row.job_uuid}/files/{row.artifact_uuid}",
        )  # fmt: skip


class Files(_Answer):
    """The published files of a job."""

    files: list[File] = Field(description="The files.")


class Replay(BaseModel):
    """Which part of a job to do again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str = Field(description="Run again from this stage on.")
    engine: str | None = Field(None, description="With another engine.")
    model: str | None = Field(None, description="With another model of the engine.")
    keep: bool = Field(False, description="Keep the files published before beside the new ones.")


class Pool(BaseModel):
    """What to pause or resume."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pool: str | None = Field(None, description="This pool only, not the whole pipeline.")


class Paused(_Answer):
    """A pool, or the pipeline, as it is now."""

    pool: str | None = Field(description="The pool; null for the whole pipeline.")
    paused: bool = Field(description="Whether nothing new starts.")


class Status(_Answer):
    """The installation at a glance: what `ironclad status --json` says."""

    states: dict[str, int] = Field(description="Number of jobs in each state.")
    held: int = Field(description="Waiting jobs that are held.")
    paused: bool = Field(description="Whether the whole pipeline is paused.")
    disk_low: bool = Field(description="Whether the disk floor is reached, so that nothing new starts.")
    pools: list[dict[str, Any]] = Field(description="Each with name, slots, paused, running, dispatched, waiting …")
    notifications: dict[str, Any] = Field(description="Numbers of the outbox, alerts and silences.")
    services: list[dict[str, Any]] = Field(description="Each with name, kind, host, pid, alive, data …")


class Failures(_Answer):
    """What failed, grouped by cause, largest first: what `ironclad failures --json` says."""

    groups: list[dict[str, Any]] = Field(description="Each with code, stage, jobs, detail, example, what, hint …")
