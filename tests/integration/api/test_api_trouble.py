"""Kills, stops, a database that is away, clients that are slow or too many."""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import api_lab
import sqlalchemy as sa
from api_lab import PATIENCE, Halfway, Process, Served

from ironclad.access.roles import Role
from ironclad.api import server
from ironclad.api.uploads import Upload
from ironclad.ingest import claim
from ironclad.jobs import submit
from ironclad.ops import orphans

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import pytest

    from ironclad.config import Settings
    from ironclad.db.session import Database

MIB = 1 << 20


def jobs(database: Database) -> list[Any]:
    with database.session() as session:
        return list(session.execute(sa.text("SELECT * FROM job ORDER BY job_uuid")).all())


def leftovers(database: Database, settings: Settings) -> list[orphans.Orphan]:
    return [one for one in orphans.find(database, settings, quiet_seconds=-60) if one.kind is orphans.Kind.UNFINISHED]


def test_killed_in_the_middle_of_an_upload(environment: dict[str, str], settings: Settings, database: Database) -> None:
    with Process(environment) as api:
        halfway = Halfway(api.url, api_lab.token(database), 10 * MIB, 2 * MIB)
        api_lab.arrived(settings, MIB)
        api.process.send_signal(signal.SIGKILL)
        api.process.wait(PATIENCE)
        halfway.sock.close()
    assert jobs(database) == []
    assert list(orphans.find(database, settings)) == []  # it may still be in the making
    (found,) = leftovers(database, settings)
    assert found.path.parent == settings.layout.uploads
    assert "while this song arrived" in found.reason
    moved = orphans.fix(database, settings, found).moved
    assert moved is not None
    assert moved.is_relative_to(settings.layout.orphaned)
    assert list(settings.layout.uploads.iterdir()) == []


def test_sigterm_ends_it_gracefully_and_with_success(environment: dict[str, str], database: Database) -> None:
    with Process(environment) as api:
        halfway = Halfway(api.url, api_lab.token(database), 10, 5)
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(PATIENCE) == 0
        halfway.sock.close()


def _arrived(settings: Settings, content: bytes) -> Upload:
    upload = Upload(settings.layout.uploads, "a.flac")
    upload.open()
    upload.write(content)
    upload.close()
    return upload


def _received(settings: Settings, database: Database, upload: Upload) -> UUID:
    new = submit.NewJob(
        user_id="ana", source=upload.path, relative_path="a.flac", stat=upload.path.lstat(), ingest_mode="move"
    )
    with database.session() as session:
        return submit.receive(session, new, settings).job_uuid


def test_killed_when_the_job_was_made_and_the_song_not_yet_taken(settings: Settings, database: Database) -> None:
    """The sender was told nothing, and sends it again: what recovery finishes is the first of two duplicates."""
    upload = _arrived(settings, b"music")
    job = _received(settings, database, upload)
    assert leftovers(database, settings) == []  # a job waits for it
    assert [one.job_uuid for one in claim.recover(database, settings).finished] == [job]
    assert (settings.layout.archive_of(job) / "original.flac").read_bytes() == b"music"
    (found,) = leftovers(database, settings)  # the folder, with nothing in it
    assert found.path == upload.folder
    free_port = settings.model_copy(update={"api": settings.api.model_copy(update={"port": 0})})
    with Served(free_port) as served, served.client(api_lab.token(database)) as client:
        again = client.post("/v1/songs", params={"name": "a.flac"}, content=b"music")
    assert (again.status_code, again.json()["duplicate_of"]) == (200, str(job))


def test_killed_when_the_song_was_whole_and_no_job_made(settings: Settings, database: Database) -> None:
    upload = _arrived(settings, b"music")
    (found,) = leftovers(database, settings)
    assert found.path == upload.folder


class Away:
    """The database lets nobody in, inside the block."""

    def __init__(self, admin: Callable[[str], None], database: Database) -> None:
        self._admin = admin
        self._name = database.url.database

    def __enter__(self) -> None:
        self._admin(f'ALTER DATABASE "{self._name}" WITH ALLOW_CONNECTIONS false')
        self._admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'")

    def __exit__(self, *_: object) -> None:
        self._admin(f'ALTER DATABASE "{self._name}" WITH ALLOW_CONNECTIONS true')


def test_a_database_that_is_away_and_back(served: Served, database: Database, admin: Callable[[str], None]) -> None:
    with served.client(api_lab.token(database)) as client:
        assert client.get("/v1/jobs").status_code == 200
        with Away(admin, database):
            answer = client.get("/v1/jobs")
            assert (answer.status_code, answer.json()["code"]) == (503, "E_DATABASE")
            assert int(answer.headers["retry-after"]) > 0
            assert client.get("/v1/openapi.json").status_code == 200
        assert client.get("/v1/jobs").status_code == 200


def test_a_database_that_goes_away_while_a_song_arrives(
    served: Served, database: Database, admin: Callable[[str], None]
) -> None:
    halfway = Halfway(served.url, api_lab.token(database), 2 * MIB, MIB + 1)
    file = api_lab.arrived(served.settings, MIB)
    with Away(admin, database):
        halfway.sock.sendall(b"x" * (MIB - 1))
        with halfway.sock:
            assert halfway.sock.recv(100).startswith(b"HTTP/1.1 503 ")
    assert jobs(database) == []
    (found,) = leftovers(database, served.settings)  # it is not certain then that no job waits for it
    assert found.path == file.parent


def test_slow_database_work_stops_nobody_else(served: Served, database: Database) -> None:
    with served.client(api_lab.token(database)) as client, ThreadPoolExecutor(1) as pool:
        with database.session() as session:
            session.execute(sa.text("LOCK TABLE job IN ACCESS EXCLUSIVE MODE"))
            slow = pool.submit(client.get, "/v1/jobs")
            with served.client() as other:
                assert other.get("/v1/openapi.json").status_code == 200
                assert other.get("/v1/jobs").status_code == 401
            assert not slow.done()
        assert slow.result(PATIENCE).status_code == 200


def test_too_many_at_a_time_are_told_to_come_again(api_settings: Callable[..., Settings], database: Database) -> None:
    with Served(api_settings(connections=1)) as served, served.client(api_lab.token(database)) as client:
        with client.stream("GET", "/v1/events") as first:
            lines = first.iter_lines()
            assert next(lines)
            answer = client.get("/v1/jobs")
            assert (answer.status_code, answer.json()["code"]) == (503, "E_TOO_BUSY")
            assert "retry-after" in answer.headers
        api_lab.until(lambda: client.get("/v1/jobs").status_code == 200)


def test_a_client_that_does_not_say_what_it_wants_is_cut_off(
    api_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_HEAD_SECONDS", 0.2)
    with Served(api_settings()) as served:
        address = served.url.removeprefix("http://").split(":")
        for sent in (b"", b"GET /v1/openapi.json HTTP/1.1\r\nHost: localh"):
            with socket.create_connection((address[0], int(address[1])), PATIENCE) as sock:
                sock.sendall(sent)
                assert sock.recv(100) == b""


def _file(served: Served, database: Database, size: int) -> str:
    job = api_lab.job(database, served.settings)
    return f"/v1/jobs/{job}/files/{api_lab.publish(database, served.settings, job, 'a.wav', b'x' * size)}"


def test_a_download_may_end_when_it_stops(served: Served, database: Database) -> None:
    url = _file(served, database, 20 * MIB)
    with served.client(api_lab.token(database, Role.READ)) as client, client.stream("GET", url) as answer:
        parts = answer.iter_bytes()
        got = len(next(parts))
        served.runtime.stop()
        assert got + sum(map(len, parts)) == 20 * MIB
    served.stop()


def test_a_download_that_nobody_reads_keeps_it_from_nothing(
    api_settings: Callable[..., Settings], database: Database
) -> None:
    with (
        Served(api_settings(stop_seconds=1)) as served,
        served.client(api_lab.token(database, Role.READ)) as client,
        client.stream("GET", _file(served, database, 50 * MIB)) as answer,
    ):
        assert answer.status_code == 200
        served.stop()
