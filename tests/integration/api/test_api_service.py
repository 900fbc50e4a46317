from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import httpx
import pytest
from api_lab import PATIENCE, Served

from ironclad.errors import PortInUse

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.config import Settings


def test_it_has_health_and_metrics_like_every_service(served: Served) -> None:
    assert httpx.get(f"{served.runtime.url}/health/ready", timeout=PATIENCE).status_code == 200
    assert "ironclad_api_listeners 0.0" in httpx.get(f"{served.runtime.url}/metrics", timeout=PATIENCE).text


@pytest.mark.parametrize("times", [3])
def test_started_and_stopped_many_times(api_settings: Callable[..., Settings], times: int) -> None:
    for _ in range(times):
        with Served(api_settings()) as served, served.client() as client:
            assert client.get("/v1/openapi.json").status_code == 200


def test_a_port_that_is_taken_ends_it(api_settings: Callable[..., Settings]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(PortInUse),
        Served(api_settings(port=other.getsockname()[1])),
    ):
        pass


def test_a_name_that_is_not_ours_is_refused(api_settings: Callable[..., Settings]) -> None:
    """A page of a stranger whose name resolves to loopback (DNS rebinding) sends its own name."""
    with (
        Served(api_settings(allowed_hosts=["music.example.org", "*.home.example"])) as served,
        served.client() as client,
    ):

        def asked(host: str) -> int:
            return client.get("/v1/openapi.json", headers={"Host": host}).status_code

        assert {asked(host) for host in ("localhost", "127.0.0.1:9700", "[::1]:9700", "MUSIC.example.org")} == {200}
        assert asked("a.home.example:443") == 200
        assert {asked(host) for host in ("evil.example", "music.example.org.evil.example", "home.example", "")} == {421}
        answer = client.get("/v1/openapi.json", headers={"Host": "evil.example"})
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "E_HOST"


def test_what_is_not_there_is_a_problem_too(served: Served) -> None:
    with served.client() as client:
        answer = client.get("/v1/nonsense")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "E_NOT_FOUND"
        assert answer.json()["type"] == "urn:ironclad:error:E_NOT_FOUND"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
        assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
