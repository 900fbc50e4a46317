"""The embedded PostgreSQL server: started once, shared, stopped by the last, and back after every kind of death."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
import sqlalchemy as sa

from ironclad.db import embedded, pg_launch, schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.errors import DatabaseUnavailable, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
WAIT = 120


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A cluster, stopped; making one takes longest, so the tests of this file share it."""
    server = EmbeddedServer(tmp_path_factory.mktemp("embedded") / "postgres", FAST)
    server.start()
    server.release()
    yield server
    server.stop()


@pytest.fixture
def server(made: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """The cluster, running, used by this test alone."""
    server = EmbeddedServer(made.folder, FAST)
    server.start()
    yield server
    server.release()
    made.stop()


@pytest.fixture
def durable_server(made: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """The cluster with an installation's durability."""
    server = EmbeddedServer(made.folder)
    server.start()
    yield server
    server.release()
    made.stop()


def answer(server: EmbeddedServer, statement: str = "SELECT 42", database: str = "ironclad") -> Any:
    with psycopg.connect(host=str(server.socket_folder), user="ironclad", dbname=database) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return None if row is None else row[0]


def script(server: EmbeddedServer, body: str) -> subprocess.Popen[str]:
    """Another process with `server` in its hands."""
    head = (
        f"from pathlib import Path\nfrom ironclad.db.embedded import EmbeddedServer\nimport sys\n"
        f"server = EmbeddedServer(Path({str(server.folder)!r}), {FAST!r})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + body], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> int:
    """Let a script go on to its end."""
    process.communicate(timeout=WAIT)
    return process.returncode


def test_it_serves_both_databases_with_full_letter_case(server: EmbeddedServer) -> None:
    assert answer(server) == 42
    assert answer(server, database="prefect") == 42
    assert answer(server, "SELECT lower('ÀÉÎÕÜ Ж')") == "àéîõü ж"
    assert answer(server, "SELECT 'BJÖRK' ILIKE '%björk%'") is True
    assert answer(server, "SHOW timezone") == "UTC"
    assert int(answer(server, "SHOW server_version_num")) >= 180000


def test_it_listens_to_nobody_else(server: EmbeddedServer) -> None:
    assert answer(server, "SHOW listen_addresses") == ""
    assert server.folder.stat().st_mode & 0o077 == 0
    pid = server.pid()
    assert pid is not None
    assert not [c for c in psutil.Process(pid).net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]


def test_durability_is_the_default(made: EmbeddedServer) -> None:
    assert not {"fsync", "synchronous_commit", "full_page_writes"} & set(embedded.OPTIONS)


def test_the_last_user_stops_it(server: EmbeddedServer) -> None:
    second = EmbeddedServer(server.folder, FAST)
    second.start()
    second.start()  # again is fine
    pid = server.pid()
    second.release()
    second.release()  # again is fine
    assert (server.pid(), answer(server)) == (pid, 42)
    server.release()
    assert server.pid() is None
    with pytest.raises(psycopg.OperationalError):
        answer(server)
    server.start()
    assert answer(server) == 42


def test_another_processs_use_counts_and_ends_with_it(server: EmbeddedServer) -> None:
    other = script(server, "server.start(); print('up', flush=True); sys.stdin.read()")
    assert other.stdout is not None
    assert other.stdout.readline() == "up\n"
    server.release()
    assert answer(server) == 42
    other.kill()
    ended(other)
    server.start()
    server.release()
    assert server.pid() is None


def test_a_user_who_only_holds_keeps_it_running(server: EmbeddedServer) -> None:
    holder = EmbeddedServer(server.folder, FAST)
    holder.hold()
    server.release()
    assert answer(server) == 42
    holder.release()
    assert server.pid() is None
    server.start()


def test_killing_whoever_started_it_leaves_it_running(made: EmbeddedServer) -> None:
    starter = script(made, "server.start(); print('up', flush=True); sys.stdin.read()")
    assert starter.stdout is not None
    assert starter.stdout.readline() == "up\n"
    os.kill(starter.pid, signal.SIGKILL)
    ended(starter)
    assert answer(made) == 42
    made.stop()
    assert made.pid() is None


def test_two_processes_starting_at_once_start_one(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "postgres", FAST)
    body = "server.start(); print(server.pid(), flush=True); sys.stdin.read(); server.release()"
    both = [script(server, body) for _ in range(2)]
    pids = set()
    for process in both:
        assert process.stdout is not None
        pids.add(int(process.stdout.readline()))
    assert pids == {server.pid()}
    assert [ended(process) for process in both] == [0, 0]
    assert server.pid() is None


def test_it_recovers_from_a_kill(durable_server: EmbeddedServer) -> None:
    server = durable_server
    answer(server, "CREATE TABLE kept AS SELECT 7 AS n")
    pid = server.pid()
    assert pid is not None
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    process.wait(WAIT)
    assert server.pid() is None  # though postmaster.pid is still there
    assert (server.folder / "postmaster.pid").exists()
    server.start()
    assert server.pid() not in {None, pid}
    assert answer(server, "SELECT n FROM kept") == 7
    answer(server, "DROP TABLE kept")


def test_a_process_number_that_is_another_servers_fools_nobody(server: EmbeddedServer, tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "postmaster.pid").write_text((server.folder / "postmaster.pid").read_text())
    assert EmbeddedServer(folder).pid() is None
    assert server.pid() is not None


@pytest.mark.parametrize(
    "content", ["", "not a number\n", f"{os.getpid()}\n", "999999999\n"], ids=["none", "text", "not postgres", "nobody"]
)
def test_a_stale_number_is_no_server(tmp_path: Path, content: str) -> None:
    (tmp_path / "postmaster.pid").write_text(content)
    assert EmbeddedServer(tmp_path).pid() is None


def test_stopping_what_does_not_run_is_fine(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "postgres")
    server.stop()
    server.release()


def test_a_long_path_puts_the_socket_elsewhere(
    made: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        server = EmbeddedServer(tmp_path / ("x" * 60) / ("y" * 60) / "postgres", FAST)
        assert server.socket_folder.parent == Path(short)
        shutil.copytree(made.folder, server.folder)  # a stopped cluster may be anywhere
        try:
            server.start()
            assert answer(server) == 42
            assert server.socket_folder.stat().st_mode & 0o777 == 0o700
            database = Database(server.url())
            schema.upgrade(database)
            with database.session() as session:
                assert session.scalar(sa.text("SELECT count(*) FROM job")) == 0
            database.close()
        finally:
            server.release()


def test_a_socket_folder_of_somebody_elses_making_is_refused(
    made: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "theirs")
    monkeypatch.setattr(EmbeddedServer, "socket_folder", link)
    server = EmbeddedServer(made.folder, FAST)
    with pytest.raises(DatabaseUnavailable, match="belongs to somebody else"):
        server.start()
    assert server._users is None


def test_an_unwritable_place_is_named() -> None:
    with pytest.raises(StorageError, match="/sys/ironclad"):
        EmbeddedServer(Path("/sys/ironclad/data/postgres")).start()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StorageError, match="data"):
        EmbeddedServer(tmp_path / "data" / "postgres").start()


def test_somebody_elses_folder_is_not_replaced_by_a_cluster(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "diary.txt").write_text("precious")
    with pytest.raises(DatabaseUnavailable, match="move it away"):
        EmbeddedServer(folder, FAST).start()
    assert (folder / "diary.txt").read_text() == "precious"


def test_a_server_that_cannot_start_says_why(made: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LAUNCHES", 2)
    monkeypatch.setattr(embedded, "_RELAUNCH_SECONDS", 1.0)  # in which the first one writes down why
    server = EmbeddedServer(made.folder, {**FAST, "shared_buffers": "a lot"})
    with pytest.raises(DatabaseUnavailable, match='invalid value for parameter "shared_buffers"'):
        server.start()
    assert server._users is None


def test_without_its_package_another_server_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DatabaseUnavailable, match="IRONCLAD_DATABASE_URL"):
        EmbeddedServer(tmp_path / "postgres").start()


def test_a_broken_initdb_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "_LOCALE", ("--locale=no_SUCH",))
    server = EmbeddedServer(tmp_path / "postgres", FAST)
    with pytest.raises(DatabaseUnavailable, match=r"initdb failed: .*locale"):
        server.start()
    assert not server.folder.exists()


def test_threads_starting_at_once_start_one(made: EmbeddedServer) -> None:
    servers = [EmbeddedServer(made.folder, FAST) for _ in range(3)]
    threads = [threading.Thread(target=server.start) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len({server.pid() for server in servers}) == 1
    assert answer(made) == 42
    for server in servers:
        server.release()
    assert made.pid() is None


def test_the_import_is_light() -> None:
    code = "import sys, ironclad.db.embedded; print(*{'psycopg', 'sqlalchemy', 'alembic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- starting as root -----------------------------------------------------------------------------------------------


def test_a_kernel_without_user_namespaces_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(pg_launch, "become_ordinary", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["pg_launch", "run", "/bin/true"])
    with pytest.raises(SystemExit, match="IRONCLAD_DATABASE_URL"):
        pg_launch.main()


def test_a_detached_program_has_its_own_session(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = f"ps -o sid= -p $$ > {out}.new; echo $$ >> {out}.new; mv {out}.new {out}"
    done = subprocess.run(
        [sys.executable, "-I", "-m", "ironclad.db.pg_launch", "detach", "/bin/sh", "-c", command],
        check=False, timeout=WAIT,
    )  # fmt: skip
    assert done.returncode == 0
    deadline = threading.Event()
    while not out.exists() and not deadline.wait(0.02):
        pass
    session, pid = out.read_text().split()
    assert session == pid
