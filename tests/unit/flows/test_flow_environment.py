from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ironclad.config import Settings, load
from ironclad.errors import ConfigError
from ironclad_flows import environment

if TYPE_CHECKING:
    from pathlib import Path


def settings(tmp_path: Path, **more: str) -> Settings:
    return load(environ={"IRONCLAD_DATA_DIR": str(tmp_path), **more})


def test_prefect_lives_below_the_data_folder(tmp_path: Path) -> None:
    made = environment.prefect_environment(settings(tmp_path))
    assert made["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert made["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in made


def test_the_servers_database_is_given_to_the_server(tmp_path: Path) -> None:
    url = "postgresql+asyncpg://ironclad@/prefect?host=/run"
    made = environment.prefect_environment(settings(tmp_path), database_url=url)
    assert made["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == url


def test_nothing_reports_to_anybody(tmp_path: Path) -> None:
    made = environment.prefect_environment(settings(tmp_path))
    assert made["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert made["DO_NOT_TRACK"] == "1"
    assert made["PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT"] == "false"


def test_applying_takes_exporters_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://example.org")
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    environment.apply({"PREFECT_HOME": "/somewhere"})
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in os.environ
    assert os.environ["PREFECT_HOME"] == "/somewhere"


def test_how_often_workers_ask_is_the_setting(tmp_path: Path) -> None:
    made = environment.prefect_environment(settings(tmp_path, IRONCLAD_PREFECT__QUERY_SECONDS="1.5"))
    assert made["PREFECT_WORKER_QUERY_SECONDS"] == "1.5"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:4200/api"),
        ("0.0.0.0", "http://127.0.0.1:4200/api"),  # noqa: S104 - what an operator may set
        ("::", "http://[::1]:4200/api"),
        ("prefect.lan", "http://prefect.lan:4200/api"),
    ],
)
def test_the_url_is_one_that_clients_can_reach(host: str, expected: str) -> None:
    assert environment.url_of(host, 4200) == expected


def test_a_given_server_wins_over_our_own(tmp_path: Path) -> None:
    with_url = settings(tmp_path, IRONCLAD_PREFECT__API_URL="http://prefect.lan:4200/api/")
    assert environment.api_url(with_url) == "http://prefect.lan:4200/api"


def test_a_port_that_the_system_chose_is_found_where_the_server_wrote_it(tmp_path: Path) -> None:
    free = settings(tmp_path, IRONCLAD_PREFECT__PORT="0")
    assert not environment.is_known(free)
    environment.publish_url(free, "http://127.0.0.1:43210/api")
    assert environment.api_url(free) == "http://127.0.0.1:43210/api"
    assert environment.is_known(free)
    assert environment.is_known(settings(tmp_path))
    assert environment.api_url(settings(tmp_path)) == "http://127.0.0.1:4200/api", "a fixed port is not looked up"


def test_a_server_on_a_free_port_comes_back_where_it_was(tmp_path: Path) -> None:
    settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_PREFECT__PORT": "0"})
    assert environment.last_port(settings) is None
    settings.layout.run.mkdir(parents=True)
    environment.publish_url(settings, "http://127.0.0.1:4321/api")
    assert environment.last_port(settings) == 4321


def test_several_servers_share_messages_leases_and_work_through_redis(tmp_path: Path) -> None:
    url = "redis://:secret@redis:6379/0"
    made = environment.redis_environment(settings(tmp_path, IRONCLAD_PREFECT__REDIS_URL=url))
    assert {name for name, value in made.items() if value == url} == {
        "PREFECT_REDIS_MESSAGING_URL", "PREFECT_SERVER_DOCKET_URL"
    }  # fmt: skip
    assert all(value.startswith("prefect_redis.") for value in made.values() if value != url)
    assert environment.redis_environment(settings(tmp_path)) == {}
    assert environment.redis_environment(settings(tmp_path, IRONCLAD_PREFECT__REDIS_URL="")) == {}


def test_redis_without_its_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"ironclad-audio\[redis\]"):
        environment.redis_environment(settings(tmp_path, IRONCLAD_PREFECT__REDIS_URL="redis://redis"))
