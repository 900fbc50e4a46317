"""Songs come in: whole or not at all, each exactly one job."""

from __future__ import annotations

import base64
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import api_lab
import pytest
import sqlalchemy as sa
from api_lab import Halfway, Served

from ironclad.access.roles import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from ironclad.config import Settings
    from ironclad.db.session import Database

MIB = 1 << 20


@pytest.fixture
def client(served: Served, database: Database) -> Iterator[httpx.Client]:
    with served.client(api_lab.token(database)) as client:
        yield client


def send(client: httpx.Client, content: Any, name: str = "01 Blue.flac", **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    return client.post("/v1/songs", params={"name": name, **more}, content=content, headers=headers)


def jobs(database: Database) -> list[Any]:
    with database.session() as session:
        return list(session.execute(sa.text("SELECT * FROM job ORDER BY job_uuid")).all())


def left(settings: Settings) -> list[str]:
    """What is in the folder of uploads."""
    folder = settings.layout.uploads
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def archived(settings: Settings, row: Any) -> bytes:
    return (settings.layout.archive_of(row.job_uuid) / row.archive_name).read_bytes()


def test_a_song_becomes_a_job_of_the_tokens_user(client: httpx.Client, served: Served, database: Database) -> None:
    answer = send(client, b"music", "Colours/01 Blue.flac", stems="karaoke", format="mp3", karaoke_db=-6, priority=-1)
    assert answer.status_code == 201, answer.text
    sent = answer.json()
    assert not sent["duplicate"]
    assert sent["duplicate_of"] is None
    (row,) = jobs(database)
    assert (row.user_id, row.state, row.relative_path, row.title) == (
        "ana",
        "queued",
        "Colours/01 Blue.flac",
        "01 Blue",
    )
    assert (row.stems, row.output_format, row.priority, row.ingest_mode) == (["karaoke"], "mp3", -1, "move")
    assert row.options == {"recombine": {"karaoke_db": -6.0}}
    assert archived(served.settings, row) == b"music"
    assert left(served.settings) == []
    assert answer.headers["location"] == f"/v1/jobs/{row.job_uuid}"
    shown = client.get(answer.headers["location"])
    assert shown.json() == sent["job"]
    assert str(served.settings.layout.root) not in shown.text + client.get(f"/v1/jobs/{row.job_uuid}/events").text


def test_a_song_of_several_blocks_arrives_as_it_was(client: httpx.Client, served: Served, database: Database) -> None:
    song = os.urandom(5 * MIB + 7)
    digest = base64.b64encode(hashlib.sha256(song).digest()).decode()
    pieces = (song[at : at + 70_001] for at in range(0, len(song), 70_001))
    assert send(client, pieces, headers={"Repr-Digest": f"sha-256=:{digest}:"}).status_code == 201  # in chunks
    (row,) = jobs(database)
    assert row.source_size == len(song)
    assert archived(served.settings, row) == song


def test_a_digest_is_checked(client: httpx.Client, served: Served, database: Database) -> None:
    made = {name: base64.b64encode(hashlib.new(name, b"music").digest()).decode() for name in ("sha256", "sha512")}
    made["other"] = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    for header, value, status in (
        ("Repr-Digest", "sha-256=:{other}:", 400),
        ("Content-Digest", "sha-512=:{sha512}:, sha-256=:{other}:", 400),
        ("Repr-Digest", "sha-256=:x:", 400),
        ("Repr-Digest", "md5=:AAAA:", 400),
        ("Repr-Digest", "sha-256=:{sha256}:", 201),
        ("Content-Digest", "sha-512=:{sha512}:, md5=:AAAA:", 200),
    ):
        assert jobs(database) == [] or status == 200
        answer = send(client, b"music", headers={header: value.format(**made)})
        assert answer.status_code == status, answer.text
        assert left(served.settings) == []
    assert [row.state for row in jobs(database)] == ["queued", "skipped"]


def test_the_same_song_again_is_a_duplicate_that_names_the_first(client: httpx.Client, database: Database) -> None:
    first = send(client, b"music").json()["job"]["job_uuid"]
    again = send(client, b"music", "another name.flac")
    assert again.status_code == 200
    assert again.json()["duplicate"]
    assert again.json()["duplicate_of"] == first
    assert again.json()["job"]["state"] == "skipped"
    assert send(client, b"music", force=True).status_code == 201
    assert [row.state for row in jobs(database)] == ["queued", "skipped", "queued"]


def test_a_duplicate_of_somebody_elses_song_does_not_tell_whose(served: Served, database: Database) -> None:
    for user in ("bo", "ana"):
        with served.client(api_lab.token(database, user=user)) as client:
            answer = send(client, b"music")
            other = client.get(f"/v1/jobs/{jobs(database)[0].job_uuid}").status_code
    assert answer.status_code == 200
    assert answer.json()["duplicate_of"] is None
    assert other == 404


def test_twenty_at_once_are_twenty_jobs(client: httpx.Client, served: Served, database: Database) -> None:
    songs = [os.urandom(200_000) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda song: send(client, song), songs))
    assert [answer.status_code for answer in answers] == [201] * 20
    rows = jobs(database)
    assert sorted(archived(served.settings, row) for row in rows) == sorted(songs)
    assert {row.state for row in rows} == {"queued"}
    assert left(served.settings) == []


def test_the_same_song_twenty_times_at_once_is_done_once(client: httpx.Client, database: Database) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: send(client, b"music"), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert sorted(row.state for row in jobs(database)) == ["queued"] + ["skipped"] * 19


def test_odd_names_are_names(client: httpx.Client, served: Served, database: Database) -> None:
    names = (
        "😀 Ünïcödé.flac", "a\nb.flac", "no suffix", "x" * 250 + ".flac", ".hidden.flac", "a\\b.flac", "-rf.flac"
    )  # fmt: skip
    for name in names:
        assert send(client, name.encode(), name).status_code == 201
    rows = jobs(database)
    assert [archived(served.settings, row) for row in rows] == [name.encode() for name in names]
    assert "\n" not in "".join(row.title + row.relative_path for row in rows)
    assert left(served.settings) == []


def test_names_that_lead_elsewhere_are_refused(client: httpx.Client, served: Served, database: Database) -> None:
    for name in ("../evil.flac", "a/../../evil.flac", "/etc/passwd", "a//b", ".", "..", "a/"):
        answer = send(client, b"music", name)
        assert (answer.status_code, answer.json()["code"]) == (422, "E_UNSAFE_PATH"), name
    for name in ("a\x00b", "x" * 300, "é" * 128, "/".join("a" * 100 for _ in range(60)), ""):
        answer = send(client, b"music", name)
        assert (answer.status_code, answer.json()["code"]) == (400, "E_BAD_REQUEST"), name
    assert jobs(database) == []
    assert left(served.settings) == []


def test_wishes_that_cannot_be_are_refused_before_anything_is_kept(
    client: httpx.Client, served: Served, database: Database
) -> None:
    wishes: tuple[dict[str, Any], ...] = (
        {"engine": "nonsense"}, {"model": "nonsense"}, {"stems": "nonsense"}, {"format": "exe"}, {"karaoke_db": 3}
    )  # fmt: skip
    for wish in wishes:
        assert send(client, b"music", **wish).status_code in {400, 422}, wish
    assert jobs(database) == []
    assert left(served.settings) == []


def test_only_operators_put_songs_before_those_of_others(served: Served, database: Database) -> None:
    for role, status in ((Role.SUBMIT, 403), (Role.OPERATE, 201)):
        with served.client(api_lab.token(database, role)) as client:
            assert send(client, b"music", priority=1).status_code == status


def test_what_no_job_can_be_made_of_leaves_nothing(client: httpx.Client, served: Served, database: Database) -> None:
    answer = send(client, b"")
    assert answer.status_code in {201, 422}  # an empty file is refused by the claim, or by the first stage
    assert left(served.settings) == []
    assert len(jobs(database)) == 1


def test_a_song_larger_than_the_limit(api_settings: Callable[..., Settings], database: Database) -> None:
    settings = api_settings()
    small = settings.model_copy(update={"limits": settings.limits.model_copy(update={"max_bytes": 3 * MIB})})
    song = b"x" * (3 * MIB + 1)
    with Served(small) as served, served.client(api_lab.token(database)) as client:
        for content in (song, (song[at : at + MIB] for at in range(0, len(song), MIB))):  # announced, and found out
            answer = send(client, content)
            assert answer.status_code == 413
            assert answer.json()["code"] == "E_TOO_LARGE"
            assert left(small) == []
        assert send(client, song[:-1]).status_code == 201
    assert len(jobs(database)) == 1


def test_a_song_that_the_disk_has_no_room_for(api_settings: Callable[..., Settings], database: Database) -> None:
    settings = api_settings()
    full = settings.model_copy(update={"disk": settings.disk.model_copy(update={"min_free_bytes": 1 << 60})})
    with Served(full) as served, served.client(api_lab.token(database)) as client:
        answer = send(client, b"music")
        assert answer.status_code == 507
        assert answer.json()["code"] == "E_DISK_FULL"
        assert "retry-after" in answer.headers
    assert jobs(database) == []
    assert left(full) == []


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(served: Served, database: Database) -> None:
    halfway = Halfway(served.url, api_lab.token(database), 10 * MIB, 2 * MIB)
    assert api_lab.arrived(served.settings, MIB).name == "a.flac"
    halfway.sock.close()
    api_lab.until(lambda: not left(served.settings))
    assert jobs(database) == []


def test_a_stop_cuts_what_is_arriving_and_says_so(served: Served, database: Database) -> None:
    halfway = Halfway(served.url, api_lab.token(database), 10 * MIB, 2 * MIB)
    api_lab.arrived(served.settings, MIB)
    served.stop()
    answer = halfway.answer()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"E_STOPPING"' in answer
    assert left(served.settings) == []
    assert jobs(database) == []


def test_a_refusal_is_read_by_a_client_that_is_in_the_middle_of_sending(served: Served) -> None:
    with served.client("icl_" + "a" * 43) as client:
        assert send(client, b"x" * (8 * MIB)).status_code == 401
    assert left(served.settings) == []


def test_what_arrived_is_counted(client: httpx.Client, served: Served) -> None:
    send(client, b"x" * 1000)
    counted = 'ironclad_api_requests_total{method="POST",route="/v1/songs",status="201"} 1.0'

    def told() -> str | None:  # a request is counted when its answer has gone out
        text = client.get(f"{served.runtime.url}/metrics").text
        return text if counted in text else None

    assert "ironclad_api_upload_bytes_total 1000.0" in api_lab.until(told)
