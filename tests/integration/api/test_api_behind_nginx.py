"""The control API behind nginx as docs/api.md configures it: TLS, large songs, events as they happen."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import api_lab
import httpx
import pytest
from api_lab import PATIENCE, Served

from ironclad.access.roles import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ironclad.config import Settings
    from ironclad.db.session import Database

NGINX = os.environ.get("IRONCLAD_TEST_NGINX") or shutil.which("nginx")
DOCS = Path(__file__).parents[3] / "docs/api.md"
NAME = "music.example.org"
SONG = bytes(range(256)) * (12 << 12)  # 12 MiB: more than nginx takes by default, and than it holds in memory

pytestmark = pytest.mark.skipif(
    NGINX is None or shutil.which("openssl") is None, reason="there is no nginx here, or no openssl"
)


@pytest.fixture
def behind(api_settings: Callable[..., Settings]) -> Iterator[Served]:
    with Served(api_settings(allowed_hosts=[NAME])) as served:
        yield served


def configuration(folder: Path, port: int, url: str) -> str:
    """The documented server, word for word but for its ports, in the least that nginx needs around it."""
    (block,) = re.findall(r"^```nginx\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    certificate = f"ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key;"
    for told, here in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl; {certificate}"),
        ("proxy_pass http://127.0.0.1:9700;", f"proxy_pass {url};"),
    ):
        assert told in block
        block = block.replace(told, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
access_log off;
{paths}
{block}
}}
"""


@pytest.fixture
def proxy(behind: Served, tmp_path: Path) -> Iterator[str]:
    """nginx, running; gives its address."""
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
            "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1",
            "-keyout", tmp_path / "tls.key", "-out", tmp_path / "tls.crt",
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(configuration(tmp_path, port, behind.url), encoding="utf-8")
    assert NGINX is not None
    process = subprocess.Popen(
        [NGINX, "-e", tmp_path / "error.log", "-p", tmp_path, "-c", tmp_path / "nginx.conf"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(process, port, tmp_path / "error.log")
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait(process: subprocess.Popen[bytes], port: int, errors: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, errors.read_text(encoding="utf-8")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # nginx tells nobody when it listens
        else:
            return


@pytest.fixture
def client(proxy: str, tmp_path: Path) -> Iterator[httpx.Client]:

    trusted = ssl.create_default_context(cafile=tmp_path / "tls.crt")
    headers = {"Host": NAME}
    with httpx.Client(base_url=proxy, headers=headers, verify=trusted, timeout=PATIENCE, trust_env=False) as client:
        yield client


def test_songs_go_in_with_a_token_and_events_come_out_as_they_happen(
    client: httpx.Client, behind: Served, database: Database, tmp_path: Path
) -> None:
    bearer = {"Authorization": f"Bearer {api_lab.token(database, Role.OPERATE)}"}
    song = {"name": "Colours/01 Blue.flac"}
    with client.stream("GET", "/v1/events", headers=bearer) as stream:
        lines = stream.iter_lines()
        assert any("reset" in line for line in lines), "before anything else happens: nothing is held back"
        sent = client.post("/v1/songs", params=song, content=SONG, headers=bearer)
        assert sent.status_code == 201, sent.text
        uuid = sent.json()["job"]["job_uuid"]
        assert any(uuid in line for line in lines)
    assert SONG in [path.read_bytes() for path in behind.settings.layout.archive.rglob("*") if path.is_file()]
    assert not any((tmp_path / "client_body").rglob("*")), "the proxy keeps no copy"
    assert client.post("/v1/songs", params=song, content=b"x").status_code == 401
    assert client.get("/v1/openapi.json", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/health").status_code == 404, "only /v1/ is passed on"
    assert json.loads(client.get("/v1/openapi.json").text)["openapi"]
