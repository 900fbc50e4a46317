"""The queue under pressure: claims by many workers, writes of zombies, the plan of the claim query.

    python benchmarks/job_queue.py [--json] [--claimers 8] [--jobs 10000] [--writes 10000] [--waiting 50000]
                                   [--url URL | --durable]

Without `--url` it starts an embedded server in a temporary folder, which for speed does not wait for the disk; with
`--durable` it does, and fewer jobs will do (a commit that notifies waits for its own flush: `jobs_per_second` is then
about the disk's flushes per second, halved). It ends with exit code 1 if a job was claimed twice or lost, a zombie's
write was accepted, or the claim does not walk its index.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ironclad.config import JobSettings
from ironclad.db import schema
from ironclad.db.embedded import EmbeddedServer
from ironclad.db.session import Database
from ironclad.errors import EngineFailed, LeaseLost
from ironclad.jobs import dispatch, history, lease, reap
from ironclad.jobs.ids import uuid7
from ironclad.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlmodel import Session

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
LEASE = 30.0
POOL = "cpu"
TABLES = ("job", "job_event", "attempt", "stage_run", "artifact")


def fill(database: Database, count: int, *, users: int = 10) -> None:
    """Queue `count` jobs of several users."""
    with database.session() as session:
        session.execute(
            sa.text(
                "INSERT INTO job (job_uuid, user_id, trace_id, schema_version, state, stage, pool, engine_pool, "
                "fair_key, source_path, source_path_raw, source_size, source_mtime_ns, relative_path, ingest_mode, "
                "archive_name, engine, output_format, content_hash, queued_at) "
                "SELECT gen_random_uuid(), 'user' || n % :users, repeat('a', 32), 1, 'queued', 'validate', :pool, "
                "'cpu', n / :users, '/songs/' || n, '/songs', 1, 1, 'song', 'move', 'original.flac', 'center', 'auto', "
                "'hash' || n, ironclad_now() FROM generate_series(0, :count - 1) AS n"
            ),
            {"users": users, "pool": POOL, "count": count},
        )
    analyze(database)


def analyze(database: Database) -> None:
    """Bring the planner's statistics up to date."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE job"))


# --- 8 claimers ------------------------------------------------------------------------------------------------------


def work_off(database: Database, worker: str) -> list[list[Any]]:
    """Claim and finish until the queue is empty; returns (job, attempt) of every claim."""
    done = []
    while True:
        with database.session() as session:
            claim = lease.claim_next(session, POOL, worker=worker, lease_seconds=LEASE)
        if claim is None:
            return done
        with database.session() as session:
            lease.finish(session, claim.fence, JobState.SUCCEEDED, actor=f"worker:{worker}")
        done.append([str(claim.fence.job_uuid), claim.fence.attempt])


def by_threads(url: str, claimers: int) -> tuple[list[list[Any]], float]:
    """`work_off` in threads, each with connections of its own; all claims, and the seconds they took."""
    claims: list[list[Any]] = []
    ready = threading.Barrier(claimers + 1)

    def one(number: int) -> None:
        database = Database(url)
        ready.wait(30)
        claims.extend(work_off(database, f"w{number}"))
        database.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(claimers)]
    for thread in threads:
        thread.start()
    ready.wait(30)
    begun = time.monotonic()
    for thread in threads:
        thread.join()
    return claims, time.monotonic() - begun


def by_processes(url: str, claimers: int) -> tuple[list[list[Any]], float]:
    """`work_off` in processes that start together; all claims, and the seconds they took."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--claimer", f"w{number}", "--url", url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(claimers)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    begun = time.monotonic()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    claims = [claim for process in processes for claim in json.loads(process.communicate(timeout=300)[0])]
    return claims, time.monotonic() - begun


def claimer(url: str, name: str) -> None:
    """One of `by_processes`."""
    database = Database(url)
    with database.session() as session:
        session.execute(sa.text("SELECT 1"))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    json.dump(work_off(database, name), sys.stdout)


def race(
    database: Database,
    url: str,
    *,
    claimers: int,
    jobs: int,
    run: Callable[[str, int], tuple[list[list[Any]], float]],
) -> dict[str, Any]:
    """Fill the queue, let all claimers loose, count what was claimed twice or not at all."""
    fill(database, jobs)
    claims, seconds = run(url, claimers)
    times = Counter(job for job, _ in claims)
    with database.session() as session:
        settled = session.scalar(sa.text("SELECT count(*) FROM job WHERE state = 'succeeded' AND attempt = 1"))
        claimed = session.scalar(sa.text("SELECT count(*) FROM job_event WHERE kind = 'claimed'"))
    return {
        "claimers": claimers, "jobs": jobs, "claims": len(claims), "double": sum(n - 1 for n in times.values()),
        "lost": jobs - len(times), "succeeded": settled, "claimed_events": claimed, "seconds": round(seconds, 2),
        "jobs_per_second": round(jobs / seconds),
    }  # fmt: skip


# --- zombies ---------------------------------------------------------------------------------------------------------


def zombie_writes(settings: JobSettings) -> dict[str, Callable[[Session, lease.Fence], Any]]:
    """Every way in which an attempt writes."""
    artifact = uuid7()
    return {
        "heartbeat": lambda s, f: lease.heartbeat(s, f, lease_seconds=LEASE, progress=0.5),
        "stage_started": lambda s, f: history.stage_started(s, f, "separate"),
        "stage_progress": lambda s, f: history.stage_progress(s, f, "separate", 0.5),
        "stage_ended": lambda s, f: history.stage_ended(s, f, "stage", reused=False, data={}, following="separate"),
        "note": lambda s, f: history.note(s, f, "note", None),
        "intend": lambda s, f: history.intend(s, f, kind="vocals", path="/p", size=1, blake3="b", receipt=None),
        "published": lambda s, f: history.published(s, f, artifact, "/p"),
        "succeed": lambda s, f: lease.finish(s, f, JobState.SUCCEEDED, actor="zombie"),
        "hand_off": lambda s, f: lease.finish(s, f, JobState.QUEUED, actor="zombie", pool="gpu"),
        "fail": lambda s, f: lease.fail(s, f, EngineFailed(), actor="zombie", settings=settings),
    }


def fingerprint(database: Database) -> list[str]:
    """A digest of every row of every table that an attempt writes."""
    with database.session() as session:
        return [
            str(session.scalar(sa.text(f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t")))  # noqa: S608 - names of ours
            for table in TABLES
        ]


def zombies(database: Database, url: str, *, writes: int) -> dict[str, Any]:
    """Lose leases in three ways (run out, reaped, taken over) and try every write with each."""
    settings = JobSettings()
    kinds = zombie_writes(settings)
    count = -(-writes // len(kinds))
    fill(database, count)
    fences = []
    with database.session() as session:
        for number in range(count):
            seconds = LEASE if number < count * 2 // 3 else 2 * LEASE  # the last third runs out, and no reaper comes
            claim = lease.claim_next(session, POOL, worker="zombie", lease_seconds=seconds)
            assert claim is not None
            fences.append(claim.fence)
    reaper = Database(url, clock_offset=f"{LEASE + 1} seconds")
    reaped = reap.Reaped()
    while len(reaped.lost) < count * 2 // 3:
        with reaper.session() as session:
            reap.expired(session, settings, reaped)
            reap.due(session, reaped)
    with reaper.session() as session:
        for _ in range(count // 3):
            lease.claim_next(session, POOL, worker="heir", lease_seconds=3 * LEASE)
    reaper.close()
    ahead = Database(url, clock_offset=f"{2 * LEASE + 1} seconds")
    before = fingerprint(database)
    begun = time.monotonic()
    tried = refused = 0
    for fence in fences:
        for write in kinds.values():
            tried += 1
            try:
                with ahead.session() as session:
                    write(session, fence)
            except LeaseLost:
                refused += 1
    seconds = time.monotonic() - begun
    with database.session() as session:
        states = {
            row.state: row.n for row in session.execute(sa.text("SELECT state, count(*) AS n FROM job GROUP BY 1"))
        }
    ahead.close()
    return {
        "writes": tried, "refused": refused, "accepted": tried - refused, "unchanged": fingerprint(database) == before,
        "jobs": states, "seconds": round(seconds, 2), "ms_per_write": round(1000 * seconds / tried, 2),
    }  # fmt: skip


# --- plans -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def explained(database: Database) -> Iterator[list[dict[str, Any]]]:
    """Collect the plan of every statement on `job` that runs inside, before it runs."""
    plans: list[dict[str, Any]] = []
    busy = threading.local()

    def before(connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
        words = statement.split(None, 1)[0].upper()
        if getattr(busy, "on", False) or words not in {"SELECT", "UPDATE", "WITH"} or "job" not in statement:
            return
        busy.on = True
        try:
            found = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar()
        finally:
            busy.on = False
        plans.append({"statement": statement, "nodes": list(nodes(found[0]["Plan"]))})

    sa.event.listen(database.engine, "before_cursor_execute", before)
    try:
        yield plans
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", before)


def nodes(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each node's type and the index or table it reads."""
    yield plan["Node Type"], plan.get("Index Name") or plan.get("Relation Name") or ""
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def plan(database: Database, *, waiting: int) -> dict[str, Any]:
    """The claim's and the dispatch's plans and times with many jobs waiting."""
    fill(database, waiting)
    result: dict[str, Any] = {"waiting": waiting}
    with explained(database) as plans, database.session() as session:
        lease.claim_next(session, POOL, worker="w", lease_seconds=LEASE)
        dispatch.pick(session, POOL, 10)
    used = [found["nodes"] for found in plans if "SKIP LOCKED" in found["statement"]]
    result["plans"] = [" > ".join(f"{kind} {name}".strip() for kind, name in nodes) for nodes in used]
    result["index_walked"] = len(used) == 2 and all(walks(nodes) for nodes in used)
    for name, call in (
        ("claim_ms", lambda s: lease.claim_next(s, POOL, worker="w", lease_seconds=LEASE)),
        ("pick_10_ms", lambda s: dispatch.pick(s, POOL, 10)),
    ):
        times = []
        for _ in range(50):
            begun = time.monotonic()
            with database.session() as session:
                call(session)
            times.append(time.monotonic() - begun)
        result[name] = round(1000 * sorted(times)[len(times) // 2], 2)
    return result


def walks(found: list[tuple[str, str]]) -> bool:
    """Whether the queue's index is walked in order: no sort, no scan of the table."""
    kinds = {kind for kind, _ in found}
    ordered = ("Index Scan", "job_queue") in found or ("Index Only Scan", "job_queue") in found
    return ordered and not kinds & {"Sort", "Incremental Sort", "Seq Scan", "Bitmap Heap Scan"}


# --- all of it -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fresh(server_url: str) -> Iterator[tuple[Database, str]]:
    """A new migrated database on a server."""
    name = f"bench_{secrets.token_hex(4)}"
    admin = Database(server_url).engine.execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    url = sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    database = Database(url)
    try:
        schema.upgrade(database)
        yield database, url
    finally:
        database.close()
        with admin.connect() as connection:
            connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        admin.dispose()


def measure(server_url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every experiment in a database of its own."""
    with fresh(server_url) as (database, url):
        raced = race(database, url, claimers=arguments.claimers, jobs=arguments.jobs, run=by_processes)
    with fresh(server_url) as (database, url):
        lost = zombies(database, url, writes=arguments.writes)
    with fresh(server_url) as (database, _):
        planned = plan(database, waiting=arguments.waiting)
    good = (
        raced["double"] == raced["lost"] == 0
        and raced["succeeded"] == raced["claimed_events"] == arguments.jobs
        and lost["accepted"] == 0
        and lost["unchanged"]
        and planned["index_walked"]
    )
    return {"claims": raced, "zombies": lost, "plan": planned, "good": good}


def show(result: dict[str, Any]) -> None:
    """The figures in words."""
    claims, lost, planned = result["claims"], result["zombies"], result["plan"]
    print(
        f"{claims['claimers']} claimers x {claims['jobs']} jobs: {claims['double']} double, {claims['lost']} lost; "
        f"{claims['seconds']} s, {claims['jobs_per_second']} jobs/s (claim and finish)"
    )
    print(
        f"{lost['writes']} writes with a lost lease: {lost['accepted']} accepted, tables "
        f"{'unchanged' if lost['unchanged'] else 'CHANGED'}; {lost['seconds']} s, {lost['ms_per_write']} ms each"
    )
    print(
        f"{planned['waiting']} waiting: index {'walked' if planned['index_walked'] else 'NOT USED'}; "
        f"claim {planned['claim_ms']} ms, dispatch of 10 {planned['pick_10_ms']} ms (medians)"
    )
    for line in planned["plans"]:
        print(f"  {line}")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--claimers", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--writes", type=int, default=10_000)
    parser.add_argument("--waiting", type=int, default=50_000)
    parser.add_argument("--durable", action="store_true", help="wait for the disk, as an installation does")
    parser.add_argument("--url", help="a PostgreSQL server whose user may create databases")
    parser.add_argument("--claimer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.claimer:
        claimer(arguments.url, arguments.claimer)
        return 0
    if arguments.url:
        result = measure(arguments.url, arguments)
    else:
        with tempfile.TemporaryDirectory() as folder:
            server = EmbeddedServer(Path(folder) / "postgres", {} if arguments.durable else FAST)
            server.start()
            try:
                result = measure(server.url("postgres"), arguments)
            finally:
                server.release()
    if arguments.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0 if result["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
