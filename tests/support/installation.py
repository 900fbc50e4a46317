"""A whole installation for tests: `ironclad up` on a folder of its own, started, looked at, hurt and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import httpx
import psutil
import sqlalchemy as sa

from ironclad.config import Settings, load
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.errors import DatabaseUnavailable
from ironclad.ops import directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

SERVICES = ("prefect", "watch", "dispatch", "worker-cpu")
_LOOK_SECONDS = 0.1


def until(what: str, holds: Callable[[], object], seconds: float) -> float:
    """Look until `holds()` is true; returns the seconds it took. Fails with `what` when it takes longer."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(_LOOK_SECONDS)  # many processes are looked at from outside: there is no one event to await
    return time.monotonic() - begun


class Installation:
    """`ironclad up` on `folder`. A context manager: started and ready inside, stopped after.

    Args:
        folder: the data folder.
        settings: settings beyond the tests' own, as environment variables; None takes one of the tests' own away.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str | None] | None = None) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("IRONCLAD_", "PREFECT_"))},
            "IRONCLAD_DATA_DIR": str(folder), "IRONCLAD_SERVICES__BASE_PORT": "0", "IRONCLAD_PREFECT__PORT": "0",
            "IRONCLAD_INGEST__STABILITY_SECONDS": "1", "IRONCLAD_POOLS__CPU__SLOTS": "2",
            "IRONCLAD_DISK__MIN_FREE_BYTES": "100000000", "IRONCLAD_PREFECT__QUERY_SECONDS": "1",
        }  # fmt: skip
        for name, value in (settings or {}).items():
            if value is None:
                del self.environment[name]
            else:
                self.environment[name] = value
        self.settings: Settings = load(
            environ={name: value for name, value in self.environment.items() if name.startswith("IRONCLAD_")}
        )
        self.layout = self.settings.layout
        self.services = (*SERVICES, *(("notify",) if self.settings.notify.channels else ()))
        self.services += ("api",) if self.settings.api.enabled else ()
        self.server = EmbeddedServer(self.layout.postgres)
        self._process: subprocess.Popen[bytes] | None = None

    # --- life ---

    def start(self) -> Self:
        """Start it; returns at once."""
        self.layout.create()
        log = (self.layout.logs / "up.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ironclad.cli.main", "up"], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self

    def ready(self, seconds: float = 600.0) -> float:
        """Wait until every service says it is ready; returns the seconds it took."""
        return until("every service is ready", self._all_ready, seconds)

    def _all_ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"`ironclad up` ended with {self._process.returncode}:\n{self.log()[-3000:]}")
        return all(self.is_ready(name) for name in self.services)

    def is_ready(self, name: str) -> bool:
        """Whether a service's own endpoint says that it is ready."""
        found = directory.find(self.layout.run, name)
        if found is None or not found.alive:
            return False
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{found.url}/health/ready", timeout=2).status_code == httpx.codes.OK
        return False

    def stop(self, seconds: float = 90.0) -> int | None:
        """Ask it to stop and wait; returns its exit code. What is left after that is killed."""
        if self._process is None:
            return None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill everything that is left of it."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self.server.stop()

    def __enter__(self) -> Self:
        try:
            self.start().ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stderr.write(f"--- end of up.log\n{self.log()[-4000:]}\n")
        self.stop()

    # --- looking ---

    def log(self) -> str:
        """What `ironclad up` printed."""
        return (self.layout.logs / "up.log").read_text(encoding="utf-8", errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Every process of this installation, by the data folder in its environment; the PostgreSQL server aside."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("IRONCLAD_DATA_DIR") == str(self.folder) and process.pid != os.getpid():
                    found.append(process)
        return found

    def pid_of(self, service: str) -> int | None:
        """The live process of a service."""
        if service == "postgres":
            return self.server.pid()
        found = directory.find(self.layout.run, service)
        return found.pid if found is not None and found.alive else None

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """A connection to its database."""
        given = self.settings.database_url
        database = Database(self.server.url() if given is None else given.get_secret_value())
        try:
            yield database
        finally:
            database.close()

    def rows(self, statement: str, **values: Any) -> list[Any]:
        """The rows of a query; none while the database is away."""
        try:
            with self.database() as database, database.session() as session:
                return list(session.execute(sa.text(statement), values).all())
        except DatabaseUnavailable:
            return []

    def states(self) -> dict[str, int]:
        """Jobs by state."""
        return {row.state: row.jobs for row in self.rows("SELECT state, count(*) AS jobs FROM job GROUP BY state")}

    def settled(self, count: int, seconds: float) -> dict[str, int]:
        """Wait until `count` jobs are settled; returns all jobs by state."""
        done = ("succeeded", "failed", "cancelled", "skipped", "quarantined")
        until(
            f"{count} jobs settled (now {self.states()})",
            lambda: sum(self.states().get(state, 0) for state in done) >= count, seconds,
        )  # fmt: skip
        return self.states()

    def published(self) -> list[Path]:
        """The audio files in the library."""
        return sorted(
            path for path in self.layout.output.rglob("*")
            if path.is_file() and path.suffix not in {".json", ".jpg", ".png"}
        )  # fmt: skip

    # --- doing ---

    def drop(self, file: Path, *, user: str = "", folder: str = "") -> Path:
        """Copy a file beside the watch root and rename it into place, as a careful sender does."""
        target = self.layout.input / user / folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = self.folder / ".beside"
        shutil.copyfile(file, beside)
        beside.rename(target)
        return target

    def ironclad(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI on this installation."""
        done = subprocess.run(
            [sys.executable, "-m", "ironclad.cli.main", *arguments], env=self.environment, text=True,
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"ironclad {' '.join(arguments)} exited {done.returncode}: {done.stdout}{done.stderr}")
        return done
