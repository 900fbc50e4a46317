"""A claimed job to work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from ironclad import durable
from ironclad.jobs import lease, submit

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.config import Settings
    from ironclad.db.session import Database

Queue = Callable[..., submit.Job]
Claims = Callable[..., lease.Claim]


@pytest.fixture
def queue(database: Database, settings: Settings, tmp_path: Path) -> Queue:
    """`queue(file, **NewJob's fields)` puts a file into the archive and its job into the queue."""

    def put(file: Path | None = None, **fields: Any) -> submit.Job:
        if file is None:
            file = tmp_path / f"song-{len(list(tmp_path.iterdir()))}.flac"
            file.write_bytes(file.name.encode())
        new = submit.NewJob(
            user_id=fields.pop("user_id", "ana"), source=file, relative_path=fields.pop("relative_path", file.name),
            stat=file.stat(), ingest_mode=fields.pop("ingest_mode", "copy"), **fields,
        )  # fmt: skip
        with database.session() as session:
            job = submit.receive(session, new, settings)
        folder = settings.layout.archive_of(job.job_uuid)
        durable.make_dirs(folder)
        durable.link_or_copy(file, folder / job.archive_name)
        with database.session() as session:
            submit.claimed(session, job.job_uuid, durable.digest(file))
        return job

    return put


@pytest.fixture
def claims(database: Database, settings: Settings, queue: Queue) -> Claims:
    """`claims(file, **fields)` queues a file and begins its first attempt."""

    def claim(file: Path | None = None, **fields: Any) -> lease.Claim:
        job = queue(file, **fields)
        with database.session() as session:
            found = lease.claim(session, job.job_uuid, 1, worker="test", lease_seconds=settings.jobs.lease_seconds)
        assert found is not None
        return found

    return claim
