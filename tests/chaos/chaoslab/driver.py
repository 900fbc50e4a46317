"""A warm process that forks one child for each experiment: nothing is imported while the child is being traced.

Protocol, JSON lines: the parent asks for a phase; the driver answers with the child's pid when it stands still before
its first call; at `go` the child goes on; the driver answers with its exit status. `python -m chaoslab.driver`.
The phase `warm` runs in the driver itself, so that every child inherits mapped tables and compiled statements, and no
connection: half the time of an experiment.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from chaoslab import mutants, protocols, stubs
from chaoslab.world import SONG, World
from ironclad import durable, log
from ironclad.db.session import Database
from ironclad.stages.keeper import LeaseKeeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlmodel import Session

_PR_SET_PTRACER = 0x59616D61
_SLEPT = 7200.0
_ANY = ctypes.c_ulong(-1)


def _seams() -> None:
    """Fixed ids, and a keeper that hears nothing: the feed's thread only slows the end."""
    LeaseKeeper._hear = lambda _self: None  # type: ignore[method-assign]  # a seam of the laboratory
    protocols.fixed_ids()


def _warm(world: World) -> None:
    """Do everything once."""
    _seams()
    for name in ("pipeline", "file-failed"):
        protocol = protocols.PROTOCOLS[name]
        world.empty()
        with stubs.installed(protocol.stubs):
            protocol.prepare(world)
            protocol.act(world)
            protocol.recover(world)
    sleeper = World.from_data(json.loads(world.to_json()))
    sleeper.will_sleep = True
    sleeper.rows("SELECT 1")
    for database in (world.database, world.later(), sleeper.database):
        database.close()  # a connection must not be shared


def _prepare_process(slept: str) -> None:
    """Let strace attach (Yama allows ancestors only, else)."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
    _seams()
    # When the experiment says that it slept, hours have passed for this process, as they have for the database.
    monotonic, gettime = time.monotonic, time.clock_gettime

    def late() -> float:
        return _SLEPT if slept and Path(slept).exists() else 0

    time.monotonic = lambda: monotonic() + late()  # type: ignore[assignment]  # likewise
    time.clock_gettime = lambda clock: gettime(clock) + late()  # type: ignore[assignment]  # likewise


def _prepared(request: dict[str, Any]) -> Callable[[], int]:
    """Everything up to the first call that counts; returns the rest."""
    world = World.from_data(request["world"])
    protocol = protocols.PROTOCOLS[request["protocol"]]
    world.real = protocol.real
    world.will_sleep = bool(request["slept"])
    _prepare_process(request["slept"])
    recover = request["phase"] == "recover"
    if not recover:
        with stubs.installed(None if protocol.real else stubs.Stubs()):
            protocol.prepare(world)
    if world.mutant:
        mutants.MUTANTS[world.mutant]()

    def work() -> int:
        with stubs.installed(None if protocol.real else protocol.stubs):
            if recover:
                protocol.recover(world)
            elif request.get("record"):
                _recorded(world, protocol, Path(request["record"]))
            else:
                protocol.act(world)
        return 0

    return work


def _wait_at(gate: int) -> bool:
    """Stand still until the parent says go."""
    sys.stdout.write(json.dumps({"pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    return os.read(gate, 1) == b"g"


class _Witnessed(Database):
    """After each transaction, another connection reads what it made true."""

    effects: list[durable.Effect]

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        with super().session() as session:
            yield session
        if threading.current_thread() is threading.main_thread():
            self.effects.append(durable.Effect("commit", Path(json.dumps(_view(self.dsn)))))


def _recorded(world: World, protocol: protocols.Protocol, out: Path) -> None:
    """Act, and write down every durable effect and every commit, in order."""
    folders = (world.root, world.outside)
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    before = {"files": [str(p) for p in files], "sources": [str(p) for p in files if p.read_bytes() == SONG]}
    with durable.recording() as effects:
        database = _Witnessed(world.url)
        database.effects = effects
        vars(world)["database"] = database
        protocol.act(world)
    rows = [{"op": e.op, "path": str(e.path), "target": None if e.target is None else str(e.target)} for e in effects]
    out.write_text(json.dumps({"root": str(world.root), **before, "effects": rows}))


def _view(dsn: str) -> dict[str, Any]:
    """What the database says at this moment, read by a connection of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        jobs = connection.execute("SELECT state, filed, ingest_mode FROM job").fetchall()
        files = connection.execute("SELECT path, blake3, state FROM artifact").fetchall()
    return {"jobs": jobs, "artifacts": files}


def main() -> None:
    """Serve until standard input ends."""
    log.configure(service="lab", level="CRITICAL")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        if request["phase"] == "warm":
            _warm(World.from_data(request["world"]))
            sys.stdout.write(json.dumps({"status": 0}) + "\n")
            sys.stdout.flush()
            continue
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            errors = os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(errors, 2)
            code, work = 1, None
            try:
                work = _prepared(request)
                code = work() if _wait_at(reader) else 3
            except BaseException:  # noqa: BLE001 - the child of a fork must not fall into the parent's loop
                traceback.print_exc()
                if work is None:
                    sys.stdout.write(json.dumps({"pid": None}) + "\n")
                    sys.stdout.flush()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(reader)
        _serve(pid, writer)


def _serve(pid: int, writer: int) -> None:
    answer = sys.stdin.readline().strip()  # go, when the tracer is attached; stop, when the child failed before
    with contextlib.suppress(BrokenPipeError):
        os.write(writer, b"g" if answer == "go" else b"x")
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
