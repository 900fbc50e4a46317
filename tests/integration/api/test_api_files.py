"""Published files over the wire: whole, in part, and nothing else than what was published."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import api_lab
import blake3
import pytest
import sqlalchemy as sa

from ironclad.access.roles import Role
from ironclad.jobs.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    import httpx
    from api_lab import Served

    from ironclad.db.session import Database

DATA = os.urandom(300_000)


@pytest.fixture
def client(served: Served, database: Database) -> Iterator[httpx.Client]:
    with served.client(api_lab.token(database)) as client:
        yield client


def test_what_was_published_is_listed_and_fetched(client: httpx.Client, served: Served, database: Database) -> None:
    job = api_lab.job(database, served.settings)
    file = api_lab.publish(database, served.settings, job, "Ana/Colours/01 Blüe.flac", DATA)
    api_lab.publish(database, served.settings, job, "Ana/Colours/old.flac", DATA, state="superseded")
    (listed,) = client.get(f"/v1/jobs/{job}/files").json()["files"]
    assert listed == {
        "id": str(file), "kind": "instrumental", "path": "Ana/Colours/01 Blüe.flac", "size": len(DATA),
        "blake3": blake3.blake3(DATA).hexdigest(), "published_at": listed["published_at"],
        "url": f"/v1/jobs/{job}/files/{file}",
    }  # fmt: skip
    whole = client.get(listed["url"])
    assert whole.content == DATA
    assert whole.headers["etag"] == f'"{listed["blake3"]}"'
    assert whole.headers["accept-ranges"] == "bytes"
    assert "01%20Bl%C3%BCe.flac" in whole.headers["content-disposition"]
    head = client.head(listed["url"])
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(DATA)), b"")


def test_parts_of_a_file(client: httpx.Client, served: Served, database: Database) -> None:
    job = api_lab.job(database, served.settings)
    file = api_lab.publish(database, served.settings, job, "a.flac", DATA)
    url = f"/v1/jobs/{job}/files/{file}"
    etag = client.head(url).headers["etag"]

    def part(wanted: str, **headers: str) -> tuple[int, bytes]:
        answer = client.get(url, headers={"Range": wanted, **headers})
        return answer.status_code, answer.content

    assert part("bytes=0-9") == (206, DATA[:10])
    assert part("bytes=299990-") == (206, DATA[-10:])
    assert part("bytes=-10") == (206, DATA[-10:])
    assert part("bytes=100-200000", **{"If-Range": etag}) == (206, DATA[100:200_001])
    assert part("bytes=0-9", **{"If-Range": '"another"'}) == (200, DATA)
    beyond = client.get(url, headers={"Range": "bytes=300000-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "E_RANGE")
    assert beyond.headers["content-range"] == f"bytes */{len(DATA)}"
    assert beyond.headers["content-type"] == "application/problem+json"
    nonsense = client.get(url, headers={"Range": "bytes=x"})
    assert (nonsense.status_code, nonsense.headers["content-type"]) == (400, "application/problem+json")
    assert client.get(url, headers={"If-None-Match": f'"x", {etag}'}).status_code == 304


def test_only_published_files_inside_the_library_are_told(
    client: httpx.Client, served: Served, database: Database
) -> None:
    settings = served.settings
    job = api_lab.job(database, settings)
    secret = settings.layout.root / "secret"
    secret.write_bytes(DATA)

    def status(file: UUID | str, of: UUID = job) -> int:
        return client.get(f"/v1/jobs/{of}/files/{file}").status_code

    def moved(file: UUID, path: str) -> UUID:
        with database.session() as session:
            session.execute(
                sa.text("UPDATE artifact SET path = :path WHERE artifact_uuid = :id"), {"path": path, "id": file}
            )
        return file

    for state in ("intent", "superseded"):
        assert status(api_lab.publish(database, settings, job, f"{state}.flac", DATA, state=state)) == 404
    outside = moved(api_lab.publish(database, settings, job, "outside.flac", DATA), str(secret))
    upwards = moved(api_lab.publish(database, settings, job, "up.flac", DATA), f"{settings.layout.output}/../secret")
    linked = api_lab.publish(database, settings, job, "link.flac", DATA)
    (settings.layout.output / "link.flac").unlink()
    (settings.layout.output / "link.flac").symlink_to(secret)
    gone = api_lab.publish(database, settings, job, "gone.flac", DATA)
    (settings.layout.output / "gone.flac").unlink()
    folder = api_lab.publish(database, settings, job, "folder.flac", DATA)
    (settings.layout.output / "folder.flac").unlink()
    (settings.layout.output / "folder.flac").mkdir()
    for file in (outside, upwards, linked, gone, folder, uuid7(), "..%2f..%2fsecret", "%2e%2e"):
        assert status(file) in {400, 404}, file
    assert "secret" not in client.get(f"/v1/jobs/{job}/files").text
    for path in (f"/v1/jobs/{job}/files/../../../secret", f"/v1/jobs/{job}/files//etc/passwd"):
        assert client.get(path).status_code == 404


def test_a_file_of_another_job_is_not_fetched_through_ones_own(
    client: httpx.Client, served: Served, database: Database
) -> None:
    mine, theirs = (api_lab.job(database, served.settings, user) for user in ("ana", "bo"))
    file = api_lab.publish(database, served.settings, theirs, "bo.flac", DATA)
    assert client.get(f"/v1/jobs/{mine}/files/{file}").status_code == 404
    assert client.get(f"/v1/jobs/{theirs}/files/{file}").status_code == 404
    with served.client(api_lab.token(database, Role.READ)) as reader:
        assert reader.get(f"/v1/jobs/{theirs}/files/{file}").content == DATA


def test_a_file_that_somebody_changed_is_not_taken_for_what_was_published(
    client: httpx.Client, served: Served, database: Database
) -> None:
    job = api_lab.job(database, served.settings)
    file = api_lab.publish(database, served.settings, job, "a.flac", DATA)
    (served.settings.layout.output / "a.flac").write_bytes(DATA + b"!")
    answer = client.get(f"/v1/jobs/{job}/files/{file}")
    assert (answer.status_code, answer.json()["code"]) == (409, "E_FILE_CHANGED")
