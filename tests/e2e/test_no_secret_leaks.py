"""Marked secrets go into an installation that works and fails; what it wrote, runs and shows is searched for them.

The operator's own secrets folder is the one place where they may be.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
import sqlalchemy as sa
from installation import Installation, until

from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("services")]

ROOT = Path(__file__).parents[2]
MARK = "hush-4f1c9"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """An operator's server: whoever is asked gives a password, and it is taken."""
    server = EmbeddedServer(tmp_path / "server", {"fsync": "off"})
    server.start()
    yield server
    server.release()


def with_mark(folder: Path, mark: str = MARK) -> list[str]:
    """Files that hold the mark, in archives too."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        held = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                held += [archive.read(name) for name in archive.namelist()]
        if any(mark.encode() in data for data in held):
            found.append(str(path.relative_to(folder)))
    return found


def of_processes(processes: list[psutil.Process], mark: str = MARK) -> list[str]:
    """Processes that show the mark to whoever looks: command lines and environments."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, OSError):  # it ends while it is looked at
            shown = [*process.cmdline(), *(f"{name}={value}" for name, value in process.environ().items())]
            found += [f"{process.cmdline()[:4]}: {one[:60]}" for one in shown if mark in one]
    return found


def in_database(url: str, mark: str = MARK) -> list[str]:
    """Tables with the mark in a row."""
    database = Database(url)
    try:
        with database.session() as session:
            names = session.scalars(sa.text("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")).all()
            return [
                name for name in names
                if session.scalar(sa.text(f'SELECT count(*) FROM "{name}" t WHERE t::text LIKE :m'), {"m": f"%{mark}%"})
            ]  # fmt: skip
    finally:
        database.close()


def by_http(up: Installation, song: Path, token: str) -> list[int]:
    """What the API answers to a song and a question with a token, to one that never was, and to one in the URL."""
    services = json.loads(up.ironclad("status", "--json").stdout)["services"]
    (url,) = (one["data"]["api"] for one in services if one["kind"] == "api")
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        answers = [
            client.post("/v1/songs", params={"name": "sent.flac"}, content=song.read_bytes(), headers=bearer(token)),
            client.get("/v1/jobs", headers=bearer(token)),
            client.get("/v1/jobs", headers=bearer(f"{token}{MARK}")),
            client.get("/v1/jobs", params={"token": token}),
        ]
    return [answer.status_code for answer in answers]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_secrets_stay_where_the_operator_put_them(
    tmp_path: Path, make_song: Callable[..., Path], server: EmbeddedServer
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    url = f"postgresql://ironclad:{MARK}-db@/ironclad?host={server.socket_folder}"
    for name, value in {
        "database_url": url, "library__scan__plex__token": f"{MARK}-plex",
        "library__scan__subsonic__password": f"{MARK}-subsonic", "library__scan__jellyfin__api_key": f"{MARK}-jelly",
    }.items():  # fmt: skip
        (secrets / name).write_text(value, encoding="utf-8")
    own = {
        "IRONCLAD_SECRETS_DIR": str(secrets), "IRONCLAD_LIBRARY__SCAN__ENABLED": "true",
        "IRONCLAD_LIBRARY__SCAN__TIMEOUT_SECONDS": "1",
        # Nobody answers there: what servers are asked with must not be in what is said about it.
        **{f"IRONCLAD_LIBRARY__SCAN__{one}__URL": "http://127.0.0.1:9" for one in ("PLEX", "SUBSONIC", "JELLYFIN")},
        "IRONCLAD_LIBRARY__SCAN__SUBSONIC__USER": "ana",
        "IRONCLAD_API__ENABLED": "true", "IRONCLAD_API__PORT": "0",
    }  # fmt: skip
    data = tmp_path / "data"
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"no music at all" * 100)
    with Installation(data, own) as up:
        up.drop(make_song(tmp_path / "song.flac", 3.0))
        up.drop(broken)
        token = up.ironclad("api", "tokens", "create", "--user", "ana", "--role", "submit").stdout.strip()
        assert by_http(up, make_song(tmp_path / "sent.flac", 2.0), token) == [201, 200, 401, 401]

        def settled() -> bool:
            states = json.loads(up.ironclad("status", "--json").stdout)["states"]
            return states.get("succeeded") == 2 and bool(states.get("failed"))

        until("two are done and one has failed", settled, 240)
        shown = [*of_processes(up.processes()), *of_processes(up.processes(), token)]
        said = []
        jobs = json.loads(up.ironclad("jobs", "list", "--json").stdout)["jobs"]
        for words in (
            ["config", "show"], ["config", "show", "--origin"], ["doctor", "--json"], ["status", "--json"],
            ["jobs", "list"], ["api", "tokens", "list", "--json"], ["backup", "create"],
            ["install", "systemd", "--root", tmp_path / "units"],
            ["install", "compose", "--dir", tmp_path / "project"],
            *(["jobs", what, job["job_uuid"]] for job in jobs for what in ("bundle", "show", "why")),
        ):  # fmt: skip
            done = up.ironclad(*map(str, words), check=False)
            said += [
                f"{words}: {line}" for line in (done.stdout + done.stderr).splitlines() if MARK in line or token in line
            ]
        assert len(jobs) == 3
    assert shown == []
    assert said == []
    assert with_mark(data) == []
    for written in ("units", "project"):
        assert with_mark(tmp_path / written) == []
    assert in_database(server.url()) == []
    assert in_database(server.url("ironclad_prefect")) == []
    assert with_mark(data, token) == []
    assert in_database(server.url(), token) == [], "of a token there is a digest"
    assert with_mark(secrets) == sorted(path.name for path in secrets.iterdir()), "the search finds what is there"


def test_what_is_shipped_holds_no_secret() -> None:
    for folder in ("deploy", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                text = path.read_text(encoding="utf-8", errors="replace")
                assert "BEGIN PRIVATE KEY" not in text, path
                assert "secrets" not in path.relative_to(ROOT / folder).parts, path
