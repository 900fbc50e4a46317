"""PostgreSQL, Prefect, the services and what they need: ports, watch roots, inotify."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ironclad.db.embedded import EmbeddedServer
from ironclad.errors import ConfigError, DatabaseUnavailable, PrefectUnavailable
from ironclad.ops import directory, fronts
from ironclad.ops.checks.outcome import fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString

    from ironclad.config import Settings, WatchRoot
    from ironclad.db.session import Database
    from ironclad.ops.checks.outcome import Outcome

_FEW_WATCHES = 8192
_FEW_INSTANCES = 64
_OLDEST_POSTGRES = 14
_LATE_SECONDS = 30.0
_ROUND_TRIPS = 9
_SLOW_SECONDS = 0.05
_UNKNOWN = ok("the database does not run, or has no tables yet; nothing is known")
_UP = "Start it with `ironclad up`, or `ironclad run {}`."


def postgres(settings: Settings) -> list[Outcome]:
    """The server starts and answers, and its schema is this version's."""
    if settings.database_url is None and not (settings.layout.postgres / "PG_VERSION").exists():
        return [_try_embedded()]
    from ironclad.db.session import Database  # noqa: PLC0415 - heavy, and only here

    database = Database.open(settings)
    try:
        return list(_ask(database))
    finally:
        database.close()


def _try_embedded() -> Outcome:
    """No database yet: show that one can be made here, without making it."""
    with tempfile.TemporaryDirectory(prefix="ironclad-doctor-") as folder:
        server = EmbeddedServer(Path(folder, "postgres"), {"fsync": "off"})
        try:
            server.start()
        finally:
            server.release()
    return ok("the embedded server can be started here; `ironclad up` makes the database")


def _ask(database: Database) -> Iterator[Outcome]:
    import sqlalchemy as sa  # noqa: PLC0415 - as above

    from ironclad.db import schema  # noqa: PLC0415

    with database.session() as session:
        number = int(session.scalar(sa.text("SHOW server_version_num")) or 0)
        offset = float(
            session.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())::float - :now"), {"now": time.time()})
            or 0
        )
    version = f"PostgreSQL {number // 10000}.{number % 10000}"
    if number // 10000 < _OLDEST_POSTGRES:
        yield fail(version, f"Ironclad needs PostgreSQL {_OLDEST_POSTGRES} or newer.")
    else:
        kind = "embedded" if database.server is not None else "given by IRONCLAD_DATABASE_URL"
        yield ok(f"{version}, {kind}")
    if abs(offset) > _LATE_SECONDS:
        remedy = "Run a time service on both machines."
        yield warn(f"its clock differs from ours by {offset:.0f} s", remedy, about="clock")
    yield _latency(database)
    revision = schema.current(database)
    if revision == schema.HEAD:
        yield ok(f"schema {revision}", about="schema")
    else:
        detail = f"the schema is {revision or 'empty'}, this version needs {schema.HEAD}"
        yield fail(detail, "Run `ironclad db upgrade`.", about="schema")


def _latency(database: Database) -> Outcome:
    """The median of some round trips: each stage makes dozens of them."""
    import sqlalchemy as sa  # noqa: PLC0415 - as above

    took = []
    with database.session() as session:
        for _ in range(_ROUND_TRIPS):
            began = time.monotonic()
            session.execute(sa.text("SELECT 1"))
            took.append(time.monotonic() - began)
    median = sorted(took)[_ROUND_TRIPS // 2]
    detail = f"answers in {1000 * median:.1f} ms"
    if median > _SLOW_SECONDS:
        remedy = "Use a server nearer to the workers, or find out what loads it."
        return warn(detail, remedy, about="latency")
    return ok(detail, about="latency")


def prefect(settings: Settings) -> list[Outcome]:
    """The Prefect API answers a question."""
    if settings.prefect.api_url is None and _service(settings, "prefect") is None:
        return [warn("the Prefect server does not run", _UP.format("prefect"))]
    executor = fronts.executor_of(settings)()
    try:
        executor.state(str(UUID(int=0)))
    except PrefectUnavailable as exc:
        return [fail(exc.detail, "See logs/prefect.jsonl and prefect.api_url.")]
    return [ok("the API answers")]


def _service(settings: Settings, name: str) -> directory.Announcement | None:
    found = directory.find(settings.layout.run, name)
    return found if found is not None and found.alive else None


def services(settings: Settings) -> list[Outcome]:
    """Each service that belongs to this machine: it runs, and it is ready."""
    import httpx  # noqa: PLC0415 - only here

    names = ["watch", "dispatch", *(["prefect"] if settings.prefect.api_url is None else [])]
    names += ["notify"] if settings.notify.channels else []
    names += ["api"] if settings.api.enabled else []
    found = []
    for name in [*names, *map(directory.worker, settings.pools)]:
        announcement = _service(settings, name)
        if announcement is None:
            command = name.replace(directory.WORKER_PREFIX, "worker --pool ")
            found.append(warn("does not run", _UP.format(command), about=name))
            continue
        try:
            health = httpx.get(f"{announcement.url}/health", timeout=5, trust_env=False).json()
        except (httpx.HTTPError, ValueError) as exc:
            found.append(fail(f"process {announcement.pid} does not answer: {exc!r}", "Restart it.", about=name))
            continue
        bad = [component for component in health["components"] if component["status"] != "ok"]
        if health["ready"] and not bad:
            found.append(ok(f"ready, process {announcement.pid}", about=name))
        else:
            detail = "; ".join(f"{c['name']} {c['status']}: {c['detail']}" for c in bad) or "not ready yet"
            remedy = " ".join(dict.fromkeys(c["remedy"] for c in bad if c["remedy"])) or "Wait, or see its log."
            found.append((warn if health["ready"] else fail)(detail, remedy, about=name))
    return found


def _rows(settings: Settings, statement: LiteralString, *parameters: object) -> list[tuple[Any, ...]] | None:
    """What the database answers; None if it does not run here (any more), or has no tables yet.

    Another check, or another command, may have the embedded server run for a moment; how it is says the check of
    PostgreSQL itself.
    """
    if settings.database_url is None and EmbeddedServer(settings.layout.postgres).pid() is None:
        return None
    import psycopg  # noqa: PLC0415 - only here

    from ironclad.db import wire  # noqa: PLC0415
    from ironclad.ops.heartbeat import libpq_url  # noqa: PLC0415

    try:
        with wire.connect(libpq_url(settings), connect_timeout=5) as connection:
            return connection.execute(statement, parameters).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
        return None  # said by the check of the schema
    except psycopg.Error as exc:
        if settings.database_url is None and isinstance(exc, psycopg.OperationalError):
            return None
        raise DatabaseUnavailable(str(exc).strip()) from exc


def other_hosts(settings: Settings) -> list[Outcome]:
    """Services of all hosts as the database knows them: which have fallen silent."""
    rows = _rows(
        settings, "SELECT name, extract(epoch FROM ironclad_now() - seen_at)::float FROM worker ORDER BY name"
    )  # fmt: skip
    if rows is None:
        return [_UNKNOWN]
    silent = [(name, seconds) for name, seconds in rows if seconds > _LATE_SECONDS]
    remedy = "If it is gone for good, this passes with the next clean stop of a service of that name; else start it."
    found = [warn(f"silent for {seconds:.0f} s", remedy, about=name) for name, seconds in silent]
    return found or [ok(f"{len(rows)} services report")]


def pools(settings: Settings) -> list[Outcome]:
    """Jobs that wait for a pool which the settings here do not name."""
    names = sorted(settings.pools)
    rows = _rows(
        settings,
        "SELECT p.name, count(j.job_uuid) FROM pool p JOIN job j ON j.pool = p.name "
        "AND j.state IN ('queued', 'waiting_retry') WHERE NOT p.name = ANY(%s) GROUP BY p.name ORDER BY p.name",
        names,
    )
    if rows is None:
        return [_UNKNOWN]
    remedy = (
        "If they shall run there, add [pools.{0}] to the dispatcher's settings and restart it. Else stop the workers "
        "of {0}: within a minute the dispatcher sends the jobs to a pool that it feeds."
    )
    found = [
        warn(f"{count} jobs wait for it, and the settings here name only {', '.join(names)}", remedy.format(name),
             about=name)
        for name, count in rows
    ]  # fmt: skip
    return found or [ok(f"no job waits for a pool other than {', '.join(names)}")]


def ports(settings: Settings) -> list[Outcome]:
    """Each port is free, or held by the service that it is for."""
    wanted = {
        name: (settings.services.host, directory.port_of(name, settings))
        for name in [directory.SUPERVISOR, "watch", "dispatch", "prefect", *map(directory.worker, settings.pools)]
    }
    if settings.prefect.api_url is None:
        wanted["prefect API"] = (settings.prefect.host, settings.prefect.port)
    if settings.api.enabled:
        wanted["api"] = (settings.services.host, directory.port_of("api", settings))
        wanted["api clients"] = (settings.api.host, settings.api.port)
    taken = []
    for name, (host, port) in wanted.items():
        owner = _service(settings, name.partition(" ")[0])
        if port and owner is None and not _free(host, port):
            taken.append(f"{name}: {host}:{port}")
    if taken:
        remedy = "Stop what listens there, or change services.base_port, prefect.port or api.port."
        return [fail(f"taken by somebody else: {', '.join(taken)}", remedy)]
    return [ok("free, or held by our services")]


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError:
            return False
    return True


def watch_roots(settings: Settings) -> list[Outcome]:
    """Each watch root is there and may be read, and emptied where files are moved out of it."""
    from ironclad.ingest.places import require_a_place_of_its_own  # noqa: PLC0415 - heavy, and only here

    found = []
    for root in settings.watch_roots:
        path = root.path.expanduser()
        about = str(path)
        needed = os.R_OK | os.X_OK | (os.W_OK if root.mode == "move" else 0)
        try:
            require_a_place_of_its_own(settings, root)
        except ConfigError as exc:
            found.append(fail(exc.detail, "Correct ingest.roots.", about=about))
            continue
        if not path.is_dir():
            if path == settings.layout.input:
                found.append(ok("is made when the watcher starts", about=about))
            else:
                found.append(fail("is not there", "Make the folder, mount it, or correct ingest.roots.", about=about))
        elif not os.access(path, needed):
            rights = "read and write" if root.mode == "move" else "read"
            found.append(fail("may not be used", f"Give the Ironclad user the right to {rights} it.", about=about))
        else:
            found.append(_events(root, path))
    return found


def _events(root: WatchRoot, path: Path) -> Outcome:
    """Whether changes in the folder arrive as events, tried with a file that no watcher takes for a song."""
    about, usable = str(path), f"can be used, mode {root.mode}"
    if root.watch == "polling" or not os.access(path, os.W_OK):
        return ok(f"{usable}, polled" if root.watch == "polling" else usable, about=about)
    from ironclad.ingest.feed import EventFeed  # noqa: PLC0415 - only here

    feed = EventFeed(path.resolve(), lambda _event: None, lambda _words: None)
    try:
        feed.start()
        problem = feed.probe()
    except OSError as exc:
        problem = str(exc)
    finally:
        feed.stop()
    if problem is None:
        return ok(f"{usable}, events arrive", about=about)
    remedy = "It is polled instead, which is slower. Set watch = 'polling' for this root if that is as it must be."
    return warn(f"{usable}, but no events: {problem}", remedy, about=about)


def workers(settings: Settings) -> list[Outcome]:
    """Each pool has a worker that reports, on some host, and is not paused."""
    rows = _rows(
        settings,
        "SELECT p.name, p.slots, p.paused, count(w.name) FILTER (WHERE extract(epoch FROM ironclad_now() - "
        "w.seen_at) < %s), (SELECT count(*) FROM job j WHERE j.pool = p.name AND j.state = 'queued') "
        "FROM pool p LEFT JOIN worker w ON w.pool = p.name GROUP BY p.name ORDER BY p.name",
        _LATE_SECONDS,
    )
    if rows is None:
        return [_UNKNOWN]
    found = []
    for name, slots, paused, workers, waiting in rows:
        detail = f"{slots} slots, {workers} workers, {waiting} jobs wait"
        if paused:
            found.append(warn(f"paused; {detail}", f"`ironclad resume --pool {name}`.", about=name))
        elif not workers:
            remedy = _UP.format(f"worker --pool {name}")
            found.append((fail if waiting else warn)(detail, remedy, about=name))
        else:
            found.append(ok(detail, about=name))
    return found or [ok("no pool is declared yet; the dispatcher does it")]


def inotify(_settings: Settings) -> list[Outcome]:
    """The kernel's limits on watched folders."""
    folder = Path("/proc/sys/fs/inotify")
    try:
        watches = int((folder / "max_user_watches").read_text(encoding="ascii"))
        instances = int((folder / "max_user_instances").read_text(encoding="ascii"))
    except (OSError, ValueError) as exc:
        return [warn(f"no inotify here ({exc})", "Roots are polled; set watch = 'polling' to be explicit.")]
    detail = f"{watches} folders can be watched, by {instances} watchers"
    if watches < _FEW_WATCHES or instances < _FEW_INSTANCES:
        remedy = f"sysctl fs.inotify.max_user_watches=65536 fs.inotify.max_user_instances={_FEW_INSTANCES * 2}"
        return [warn(detail, remedy)]
    return [ok(detail)]
