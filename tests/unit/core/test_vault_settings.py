"""Secret settings from a Vault: a real server on this machine that speaks the API of KV version 2."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.cli.exits import exit_code
from ironclad.config import load, load_with_origins
from ironclad.errors import ConfigError, SecretsUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "hvs.test-token"
URL = "postgresql://ironclad:from-vault@db/ironclad"


class Vault:
    """Answers `GET /v1/MOUNT/data/PATH` as Vault does, with its status codes."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {"secret/ironclad": {"database_url": URL}}
        self.sealed = False
        self.namespaces: list[str | None] = []
        vault = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                vault.namespaces.append(self.headers.get("X-Vault-Namespace"))
                mount, _, rest = self.path.removeprefix("/v1/").partition("/data/")
                found = vault.secrets.get(f"{mount}/{rest.partition('?')[0]}")
                if vault.sealed:
                    self._answer(503, {"errors": ["Vault is sealed"]})
                elif self.headers.get("X-Vault-Token") != TOKEN:
                    self._answer(403, {"errors": ["permission denied"]})
                elif found is None:
                    self._answer(404, {"errors": []})
                else:
                    self._answer(200, {"data": {"data": found, "metadata": {"version": 3, "destroyed": False}}})

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def vault() -> Iterator[Vault]:
    running = Vault()
    yield running
    running.close()


@pytest.fixture
def environ(vault: Vault, tmp_path: Path) -> dict[str, str]:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n", encoding="utf-8")
    return {
        "IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_VAULT_PATH": "secret/ironclad", "VAULT_ADDR": vault.address,
        "IRONCLAD_VAULT_TOKEN_FILE": str(token),
    }  # fmt: skip


def test_settings_come_from_the_vault_and_say_so(vault: Vault, environ: dict[str, str]) -> None:
    vault.secrets["secret/ironclad"] |= {"library__scan__plex__token": "plex", "another_programs": "x"}
    loaded = load_with_origins(environ={**environ, "VAULT_NAMESPACE": "music"})
    assert loaded.settings.database_url is not None
    assert loaded.settings.database_url.get_secret_value() == URL
    assert loaded.settings.library.scan.plex.token is not None
    assert loaded.origin("database_url") == "Vault secret/ironclad"
    assert loaded.origin("library.scan.plex.token") == "Vault secret/ironclad"
    assert set(vault.namespaces) == {"music"}


def test_the_vault_wins_over_the_environment_and_files_over_the_vault(environ: dict[str, str], tmp_path: Path) -> None:
    given = {**environ, "IRONCLAD_DATABASE_URL": "postgresql://from-environment/x"}
    url = load(environ=given).database_url
    assert url is not None
    assert url.get_secret_value() == URL
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/database_url").write_text("postgresql://from-file/x", encoding="utf-8")
    loaded = load_with_origins(environ={**given, "IRONCLAD_SECRETS_DIR": str(tmp_path / "secrets")})
    assert loaded.origin("database_url").startswith("secrets folder")


def test_a_token_of_the_environment_will_do(environ: dict[str, str]) -> None:
    del environ["IRONCLAD_VAULT_TOKEN_FILE"]
    assert load(environ={**environ, "VAULT_TOKEN": TOKEN}).database_url is not None
    with pytest.raises(ConfigError, match="no token for Vault"):
        load(environ=environ)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"IRONCLAD_VAULT_PATH": "secret/other"}, "has no secret/other"),
        ({"IRONCLAD_VAULT_PATH": "secret"}, "must be MOUNT/PATH"),
        ({"VAULT_ADDR": ""}, "VAULT_ADDR is not"),
        ({"IRONCLAD_VAULT_TOKEN_FILE": "/nonexistent/token"}, "cannot be read"),
    ],
    ids=["path", "mount", "address", "token file"],
)
def test_what_is_wrong_is_said(environ: dict[str, str], change: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(environ={**environ, **change})


def test_a_refused_token_is_an_operators_matter_and_is_not_shown(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hvs.wrong", encoding="utf-8")
    with pytest.raises(ConfigError, match="refuses the token") as raised:
        load(environ=environ)
    assert "hvs." not in str(raised.value)


def test_a_vault_that_is_sealed_or_away_is_waited_for(vault: Vault, environ: dict[str, str]) -> None:
    vault.sealed = True
    with pytest.raises(SecretsUnavailable):
        load(environ=environ)
    with pytest.raises(SecretsUnavailable) as raised:
        load(environ={**environ, "VAULT_ADDR": "http://127.0.0.1:9"})
    assert raised.value.retryable
    assert exit_code(raised.value) == 4


def test_a_wrong_value_is_reported_without_it(vault: Vault, environ: dict[str, str]) -> None:
    vault.secrets["secret/ironclad"] = {"database_url": "mysql://u:hush@db/x"}
    with pytest.raises(ConfigError, match=r"database_url: .*Vault secret/ironclad") as raised:
        load(environ=environ)
    assert "hush" not in str(raised.value)


def test_without_the_extra_that_is_said(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hvac", None)
    with pytest.raises(ConfigError, match=r"ironclad-audio\[vault\]"):
        load(environ=environ)
