"""A sign of life of the Prefect server: one connection, kept, made anew when it has to be."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from ironclad.config import Settings, load
from ironclad.errors import PrefectUnavailable
from ironclad_flows import environment
from ironclad_flows.executor import PrefectExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 30.0


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SECONDS

    def do_GET(self) -> None:
        body = b"true"
        self.send_response(200 if self.path == "/api/health" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class Server(ThreadingHTTPServer):
    """Counts the connections that are made to it."""

    connections = 0

    def verify_request(self, *_: object) -> bool:
        self.connections += 1
        return True


@contextlib.contextmanager
def serving() -> Iterator[tuple[Server, str]]:
    with Server(("127.0.0.1", 0), Api) as server:
        server.daemon_threads, server.block_on_close = True, False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_address[1]}/api"
        finally:
            server.shutdown()
            thread.join()


def settings_on(folder: Path) -> Settings:
    settings = load(environ={"IRONCLAD_DATA_DIR": str(folder), "IRONCLAD_PREFECT__PORT": "0"})
    settings.layout.create()
    return settings


def test_asking_often_takes_one_connection(tmp_path: Path) -> None:
    settings = settings_on(tmp_path)
    with serving() as (server, url):
        environment.publish_url(settings, url)
        ping = PrefectExecutor.pinger(settings, SECONDS)
        for _ in range(5):
            ping()
        assert server.connections == 1
        ping.close()
        ping()
        assert server.connections == 2
        ping.close()


def test_a_server_that_comes_back_elsewhere_is_found(tmp_path: Path) -> None:
    settings = settings_on(tmp_path)
    ping = PrefectExecutor.pinger(settings, SECONDS)
    with serving() as (_, url):
        environment.publish_url(settings, url)
        ping()
    with serving() as (server, other):
        environment.publish_url(settings, other)
        ping()
        assert server.connections == 1
    ping.close()
    with pytest.raises(PrefectUnavailable, match="does not answer"):
        ping()


def test_another_answer_is_no_sign_of_life(tmp_path: Path) -> None:
    settings = settings_on(tmp_path)
    with serving() as (_, url):
        environment.publish_url(settings, f"{url}/elsewhere")
        ping = PrefectExecutor.pinger(settings, SECONDS)
        with pytest.raises(PrefectUnavailable, match="answers 404"):
            ping()
        ping.close()
