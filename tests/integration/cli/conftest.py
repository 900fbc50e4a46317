"""Command lines on a real database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from command_line import run_command

from ironclad.cli import queueing
from ironclad.cli.queueing import Found, Wishes
from ironclad.jobs import lease
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from typer.testing import Result

    from ironclad.config import Settings
    from ironclad.db.session import Database
    from ironclad.errors import IroncladError

Run = Callable[..., "Result"]
Put = Callable[..., "UUID"]
Finish = Callable[..., None]


@pytest.fixture
def run(environment: dict[str, str], settings: Settings) -> Run:
    """`run("jobs", "list", IRONCLAD_X="…")` on the test's installation; None takes a variable away."""

    def invoke(*arguments: object, **more: str | None) -> Result:
        return run_command({**environment, **more}, *arguments)

    return invoke


@pytest.fixture
def put(database: Database, settings: Settings, tmp_path: Path) -> Put:
    """`put("name", content=b"…", user="ana", …)` queues a file with bytes of its own; returns the job's id."""

    def queue(name: str = "song", content: bytes | None = None, **wishes: Any) -> UUID:
        file = tmp_path / "music" / f"{name}.mp3"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content or name.encode())
        return queueing.queue(database, settings, Wishes(**wishes), Found(file, file.name)).job_uuid

    return queue


@pytest.fixture
def finish(database: Database) -> Finish:
    """`finish(job, JobState.FAILED, error)` claims a queued job and ends its attempt."""

    def end(job_uuid: UUID, state: JobState = JobState.SUCCEEDED, error: IroncladError | None = None) -> None:
        with database.session() as session:
            claim = lease.claim(session, job_uuid, 1, worker="test", lease_seconds=30)
            assert claim is not None
        with database.session() as session:
            delay = 60.0 if state is JobState.WAITING_RETRY else 0.0
            lease.finish(session, claim.fence, state, actor="test", error=error, delay_seconds=delay)

    return end
