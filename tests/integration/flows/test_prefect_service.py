"""The Prefect server as our service: refused ports, its database, its catalogue, and no call off the machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import psutil
import psycopg
import pytest
import roles
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from ironclad.config import load
from ironclad.db.embedded import EmbeddedServer
from ironclad.errors import ConfigError, DatabaseUnavailable, PortInUse
from ironclad_flows.database import has_trigrams, open_database
from ironclad_flows.environment import URL_FILE
from ironclad_flows.server_service import PrefectService, server_command
from ironclad_flows.worker_service import worker_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Prefect

START_SECONDS = 300.0
_LOCAL = re.compile(r"127\.|::1$|::ffff:127\.")


def test_a_taken_port_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_PREFECT__PORT": str(port)})
        with pytest.raises(PortInUse, match=str(port)):
            PrefectService(settings).run(stopping=None)  # type: ignore[arg-type] # it must not come that far
    assert list(tmp_path.iterdir()) == []


def test_the_server_keeps_its_data_in_a_database_beside_ours(prefect: Prefect) -> None:
    ours = sa.make_url(prefect.environment["IRONCLAD_DATABASE_URL"]).set(drivername="postgresql")
    beside = ours.set(database=f"{ours.database}_prefect").render_as_string(hide_password=False)
    with psycopg.connect(beside) as connection:
        tables = {row[0] for row in connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r'")}
    assert {"flow_run", "task_run", "alembic_version"} <= tables
    assert not list((prefect.data_dir / "prefect").glob("*.db"))


def test_the_catalogue_is_answered_without_the_network(prefect: Prefect) -> None:
    for view in ("aggregate-worker-metadata", "aggregate-block-metadata", "aggregate-flow-metadata", "demo-flows"):
        assert prefect.client.get(f"/collections/views/{view}").status_code == httpx.codes.OK


def test_the_ui_comes_from_the_package(prefect: Prefect) -> None:
    page = httpx.get(prefect.url.removesuffix("/api"), follow_redirects=True, trust_env=False, timeout=60)
    assert page.status_code == httpx.codes.OK
    assert not re.findall(r'(?:src|href)="(https?:)?//', page.text)


def test_without_a_url_the_database_is_on_the_embedded_server_and_let_go_of(tmp_path: Path) -> None:
    settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path)})
    database = open_database(settings)
    assert database.url is not None
    assert database.url.startswith("postgresql+asyncpg://")
    assert "/prefect?" in database.url
    assert has_trigrams(database.url) in (True, False)
    server = EmbeddedServer(settings.layout.postgres)
    assert server.pid() is not None
    database.close()
    assert server.pid() is None


def test_sqlite_needs_nothing(tmp_path: Path) -> None:
    settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_PREFECT__DATABASE": "sqlite"})
    database = open_database(settings)
    database.close()
    assert database.url is None
    assert list(tmp_path.iterdir()) == []


FRUGAL = """
import asyncio, sys
from ironclad_flows import server_service
server_service.leave_out_highlighter()
server_service.ask_for_background_work_less_often()
from docket import Docket
from mako.exceptions import html_error_template
from prefect.server.api import background_workers

async def look():
    async with Docket(name="test", url="memory://") as docket, background_workers.Worker(docket) as worker:
        return worker.minimum_check_interval.total_seconds(), worker.scheduling_resolution.total_seconds()

assert asyncio.run(look()) == (1.0, 1.0)
assert "pygments.lexers.agile" not in sys.modules
try:
    raise ValueError("of the test")
except ValueError:
    assert b"of the test" in html_error_template().render()
"""


def test_what_an_idle_server_does_without(tmp_path: Path) -> None:
    """Neither has a setting: here is told when Prefect, docket or Mako have become others."""
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRUGAL], env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture
def powerless(server_url: str) -> Iterator[str]:
    """The URL of a user who may not make databases."""
    parsed = sa.make_url(server_url).set(drivername="postgresql")
    name = f"powerless_{os.urandom(4).hex()}"
    with psycopg.connect(parsed.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        connection.execute(f"CREATE DATABASE {name}")
        yield parsed.set(username=name, password="x", database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute(f"DROP ROLE {name}")


def test_where_no_database_can_be_made_auto_is_sqlite_and_postgresql_is_an_error(
    powerless: str, tmp_path: Path
) -> None:
    environ = {"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_DATABASE_URL": powerless}
    assert open_database(load(environ=environ)).url is None
    with pytest.raises(ConfigError, match="_prefect for Prefect does not exist and may not be created"):
        open_database(load(environ={**environ, "IRONCLAD_PREFECT__DATABASE": "postgresql"}))


def test_servers_that_start_together_find_one_database(server_url: str, tmp_path: Path) -> None:
    name = f"together_{os.urandom(4).hex()}"
    ours = sa.make_url(server_url).set(drivername="postgresql")
    admin = ours.render_as_string(hide_password=False)
    beside = ours.set(database=name).render_as_string(hide_password=False)
    settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_DATABASE_URL": beside})
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            with ThreadPoolExecutor(6) as pool:
                found = {one.url for one in pool.map(open_database, [settings] * 6)}
            (url,) = found
            assert url is not None
            assert url.removeprefix("postgresql+asyncpg") == beside.replace(name, f"{name}_prefect")[10:]
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute(f"DROP DATABASE IF EXISTS {name}_prefect WITH (FORCE)")


async def encrypted(url: str) -> bool | None:
    """Whether a connection of the Prefect server's kind is; None where it goes through a Unix socket."""
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            found = await connection.scalar(sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
            return None if found is None else bool(found)
    finally:
        await engine.dispose()


def test_a_url_with_parameters_of_libpq_serves_prefect_too(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`?sslmode=…&sslrootcert=…` is how docs/install.md has the connection made safe."""
    name = f"parameters_{os.urandom(4).hex()}"
    ours = sa.make_url(server_url).set(drivername="postgresql")
    beside = ours.set(database=name).update_query_dict({
        "sslmode": "disable", "sslrootcert": "/no/such file", "connect_timeout": "60", "application_name": "x",
        "keepalives_idle": "30",
    })  # fmt: skip
    url = beside.render_as_string(hide_password=False)
    settings = load(environ={"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_DATABASE_URL": url})
    with psycopg.connect(ours.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            found = open_database(settings)
            for variable, value in found.environment.items():
                monkeypatch.setenv(variable, value)
            assert (os.environ["PGSSLMODE"], os.environ["PGSSLROOTCERT"]) == ("disable", "/no/such file")
            assert found.url is not None
            assert sa.make_url(found.url).query == ours.query
            assert not asyncio.run(encrypted(found.url))
            assert has_trigrams(found.url) in (True, False)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute(f"DROP DATABASE IF EXISTS {name}_prefect WITH (FORCE)")


def test_trigrams_are_used_only_where_the_role_may_have_them(server_url: str) -> None:
    admin = sa.make_url(server_url).set(drivername="postgresql")
    with psycopg.connect(admin.render_as_string(hide_password=False)) as connection:
        offered = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'").fetchone()
    with roles.owned_database(server_url, "x") as url:
        assert has_trigrams(url) == bool(offered), "an owner may put a trusted extension into its database"
        with roles.role(server_url, "x") as guest:
            as_guest = sa.make_url(url).set(username=guest).render_as_string(hide_password=False)
            assert not has_trigrams(as_guest)


def test_a_server_that_is_away_is_said(tmp_path: Path) -> None:
    url = f"postgresql://nobody@/none?host={tmp_path}"
    with pytest.raises(DatabaseUnavailable):
        open_database(load(environ={"IRONCLAD_DATA_DIR": str(tmp_path), "IRONCLAD_DATABASE_URL": url}))


def _addresses(trace: Path) -> set[str]:
    text = trace.read_text(encoding="utf-8", errors="replace")
    return set(re.findall(r'inet_addr\("([^"]+)"\)', text)) | set(re.findall(r'inet_pton\(AF_INET6, "([^"]+)"', text))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_server_worker_and_run_call_nobody_but_this_machine(prefect: Prefect, tmp_path: Path) -> None:
    """Every address that a connect or a datagram of theirs names, DNS included, is a loopback one."""
    environment = {
        **prefect.environment,
        "IRONCLAD_DATA_DIR": str(tmp_path),
        "IRONCLAD_PREFECT__DATABASE": "sqlite",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.1:4318",
    }
    # Only those calls stop a process then; each of the hundred migrations' would, else.
    traced = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"]
    processes = []

    def start(name: str, command: list[str]) -> None:
        with (tmp_path / f"{name}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [*traced, str(tmp_path / f"{name}.strace"), *command], env=environment, stdout=log, stderr=log
                )
            )

    try:
        start("server", server_command())
        published = tmp_path / "run" / URL_FILE
        prefect.until(published.is_file, seconds=START_SECONDS)
        ours = type(prefect)(published.read_text(encoding="ascii"), tmp_path, environment)

        def healthy() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return ours.client.get("/health").is_success
            return False

        with ours.client:
            prefect.until(healthy, seconds=START_SECONDS)
            start("worker", worker_command("traced", slots=1, name="traced", preload=["sample_flows"]))
            run_id = ours.start("traced", "sample_flows.five")
            assert ours.ended(run_id, seconds=START_SECONDS)["type"] == "COMPLETED"
            for view in ("aggregate-worker-metadata", "aggregate-block-metadata"):
                assert ours.client.get(f"/collections/views/{view}").is_success
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)  # strace passes none on: its child is what must end
            for child in _children(process.pid):
                os.kill(child, signal.SIGTERM)
            process.wait(60)
    worker = _addresses(tmp_path / "worker.strace")
    assert worker, "the trace sees the worker's own connections to the server"
    assert not {address for address in worker | _addresses(tmp_path / "server.strace") if not _LOCAL.match(address)}


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]
