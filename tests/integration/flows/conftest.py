"""One Prefect server for all tests here, on a free loopback port and a throw-away home; workers as they are needed."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import psutil
import pytest
import sqlalchemy as sa

from ironclad_flows.environment import URL_FILE
from ironclad_flows.executor import JOB_TEMPLATE, WORKER_TYPE
from ironclad_flows.server_service import server_command
from ironclad_flows.wake import wake
from ironclad_flows.worker_service import worker_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")

HERE = Path(__file__).parent
START_SECONDS = 300.0
PATIENCE = 180.0
"""A worker's start, with all that it imports, is among what is waited for."""
SHARED_SECONDS = 600.0
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first waits for the server of all, too: a hundred migrations, with a real server's syncs."""
    for item in items:
        if "prefect" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SHARED_SECONDS))


def until(what: Callable[[], T | None], *, seconds: float = PATIENCE) -> T:
    """What `what` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return value


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@dataclass
class Prefect:
    """A running server, and what tests do with it."""

    url: str
    data_dir: Path
    environment: dict[str, str]
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        def answer() -> httpx.Response | None:
            response = self.client.post(path, json=body)
            # What Prefect says when SQLite was busy; its own client asks again too.
            return None if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else response

        return self.until(answer).raise_for_status().json()

    def has_pool(self, pool: str) -> bool:
        """Whether the pool is there; it is made if not."""
        if self.client.get(f"/work_pools/{pool}").is_success:
            return True
        body = {"name": pool, "type": WORKER_TYPE, "base_job_template": JOB_TEMPLATE}
        return self.client.post("/work_pools/", json=body).is_success  # a worker that starts makes its own: ask again

    def start(self, pool: str, flow: str, **parameters: Any) -> str:
        """Create a run of a sample flow on a pool, wake its worker, and return the run's id."""
        name = flow.rpartition(".")[2]
        self.until(lambda: self.has_pool(pool))
        flow_id = self.post("/flows/", {"name": name})["id"]
        deployment = self.post(
            "/deployments/",
            {"name": f"{name}-{pool}", "flow_id": flow_id, "work_pool_name": pool, "entrypoint": flow},
        )
        run = self.post(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        wake(self.data_dir / "run", pool)
        return str(run["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self.client.get(f"/flow_runs/{run_id}").raise_for_status().json())

    def state(self, run_id: str) -> str:
        return str(self.run(run_id)["state"]["type"])

    def ended(self, run_id: str, *, seconds: float = PATIENCE) -> dict[str, Any]:
        """The run's final state."""

        def final() -> dict[str, Any] | None:
            state = dict(self.run(run_id)["state"])
            return state if state["type"] in FINAL else None

        return until(final, seconds=seconds)

    def started(self, pids: Path, *, seconds: float = PATIENCE) -> tuple[int, int]:
        """Process ids of a `sleeper` flow and of the program it started, once it sleeps."""
        self.until(pids.exists, seconds=seconds)
        flow, program = pids.read_text(encoding="ascii").split()
        return int(flow), int(program)

    until = staticmethod(until)
    alive = staticmethod(alive)

    def cancel(self, run_id: str) -> None:
        self.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})


@dataclass
class Worker:
    """A worker process."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def fork_server(self) -> psutil.Process:
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # one that has ended meanwhile
                if "ironclad_flows.forkserver" in child.cmdline():
                    found.append(child)
        (server,) = found
        return server

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def _admin(url: str, statement: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


@dataclass
class Server:
    """A server process."""

    process: subprocess.Popen[bytes]
    prefect: Prefect


StartServer = Callable[[dict[str, str]], contextlib.AbstractContextManager[Server]]


@contextlib.contextmanager
def serving(environment: dict[str, str], command: Sequence[str] = ()) -> Iterator[Server]:
    """A server that answers; it is ended, and must end well, unless the test has killed it."""
    data_dir = Path(environment["IRONCLAD_DATA_DIR"])
    with (data_dir / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, *server_command()], env=environment, stdout=log, stderr=log)
    try:
        published = data_dir / "run" / URL_FILE
        until(lambda: published.is_file() or process.poll() is not None, seconds=START_SECONDS)
        assert published.is_file(), (data_dir / "server.log").read_text(encoding="utf-8")
        prefect = Prefect(published.read_text(encoding="ascii"), data_dir, environment)

        def healthy() -> bool:
            assert process.poll() is None, (data_dir / "server.log").read_text(encoding="utf-8")
            with contextlib.suppress(httpx.HTTPError):
                return prefect.client.get("/health").is_success
            return False

        with prefect.client:
            until(healthy, seconds=START_SECONDS)
            yield Server(process, prefect)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Iterator[Prefect]:
    """The server of all tests, on PostgreSQL (the embedded one, unless another is given).

    Its database is named after one of its own: the other test processes may be on the same server.
    """
    name = f"flows_{secrets.token_hex(6)}"
    _admin(server_url, f'CREATE DATABASE "{name}"')
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("IRONCLAD_", "PREFECT_"))},
        "IRONCLAD_DATA_DIR": str(tmp_path_factory.mktemp("prefect")),
        "IRONCLAD_DATABASE_URL": sa.make_url(server_url).set(database=name).render_as_string(hide_password=False),
        "IRONCLAD_PREFECT__DATABASE": "postgresql",
        "IRONCLAD_PREFECT__PORT": "0",
        "IRONCLAD_PREFECT__QUERY_SECONDS": "5",
        "PYTHONPATH": str(HERE),
        "PYTHONWARNINGS": "ignore",
    }
    with serving(environment) as server:
        yield server.prefect
    for made in (name, f"{name}_prefect"):
        _admin(server_url, f'DROP DATABASE IF EXISTS "{made}" WITH (FORCE)')


@pytest.fixture
def start_server(prefect: Prefect) -> StartServer:
    """`start_server(environment)` is a server of the test's own, in a `with` statement."""
    return lambda environment: serving({**prefect.environment, **environment})


class StartWorker:
    """Starts workers and ends them after the test."""

    def __init__(self, prefect: Prefect, log_dir: Path) -> None:
        self._prefect = prefect
        self._log_dir = log_dir
        self._started: list[Worker] = []

    def __call__(
        self,
        pool: str,
        *,
        drain_seconds: float = 60.0,
        preload: str | None = "sample_flows",
        environment: dict[str, str] | None = None,
    ) -> Worker:
        """A worker of a pool; with `preload` None, of our own flow; with an `environment`, of another installation."""
        path = self._log_dir / f"worker-{pool}-{len(self._started)}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                worker_command(
                    pool, slots=2, name=f"{pool}-{len(self._started)}", preload=[preload] if preload else []
                ),
                env={
                    **self._prefect.environment,
                    **(environment or {}),
                    "IRONCLAD_PREFECT__DRAIN_SECONDS": f"{drain_seconds}",
                },
                stdout=log,
                stderr=log,
            )
        worker = Worker(process, path)
        self._started.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._started:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait(60)


@pytest.fixture
def start_worker(prefect: Prefect, tmp_path: Path) -> Iterator[StartWorker]:
    starter = StartWorker(prefect, tmp_path)
    yield starter
    starter.close()


@pytest.fixture(scope="module")
def steady_worker(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker of the pool `steady` that all tests of a module share and none stops."""
    starter = StartWorker(prefect, tmp_path_factory.mktemp("workers"))
    worker = starter("steady")
    yield worker
    code = worker.stop()
    starter.close()
    assert code == 0, worker.log.read_text(encoding="utf-8")
