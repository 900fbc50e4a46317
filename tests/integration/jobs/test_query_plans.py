"""With 50,000 jobs waiting, everything that runs again and again walks an index: no sort, no scan of the table."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from ironclad.config import JobSettings
from ironclad.db.session import Database
from ironclad.jobs import control, dispatch, lease, query, reap, submit
from ironclad.jobs.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAITING = 50_000
# No job may be looked at that is not wanted: these would look at all of them.
WHOLE_TABLE = {"Seq Scan", "Parallel Seq Scan"}
SORTS = {"Sort", "Incremental Sort"}

FEW = """
ALTER TABLE job DISABLE TRIGGER job_guard;
UPDATE job SET state = 'running', lease_token = gen_random_uuid(), attempt = 1,
  lease_expires_at = ironclad_now() + (fair_key - 10) * interval '1 second' WHERE user_id = 'runner';
UPDATE job SET state = 'waiting_retry', not_before = ironclad_now() + (fair_key - 10) * interval '1 second'
  WHERE user_id = 'waiter';
UPDATE job SET dispatched_at = ironclad_now() - interval '1 hour', run_id = 'r' WHERE user_id = 'sent';
UPDATE job SET state = 'cancelled', dispatched_at = ironclad_now(), run_id = 'r' WHERE user_id = 'gone';
UPDATE job SET state = 'succeeded', finished_at = ironclad_now() WHERE user_id = 'done';
UPDATE job SET state = 'failed', error_code = 'E_NOT_AUDIO' WHERE user_id = 'poor';
UPDATE job SET state = 'received', source_key = 'key' || fair_key WHERE user_id = 'new';
ALTER TABLE job ENABLE TRIGGER job_guard;
"""


@pytest.fixture(scope="module")
def crowded(server_url: str, template: str, bulk_statement: str) -> Iterator[Database]:
    """A database with a long queue of ten users, a long history, and a few jobs in every other state."""
    name = f"crowded_{secrets.token_hex(4)}"
    with psycopg.connect(Database(server_url).dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        database = Database(sa.make_url(server_url).set(database=name).render_as_string(hide_password=False))
        with database.session() as session:
            insert = sa.text(bulk_statement)
            shared = {"pool": "cpu", "priority": 0, "first": 0}
            for number in range(10):
                session.execute(insert, {**shared, "user": f"user{number}", "count": WAITING // 10})
            session.execute(insert, {**shared, "user": "done", "count": 20_000})
            for user in ("runner", "waiter", "sent", "gone", "poor", "new"):
                session.execute(insert, {**shared, "user": user, "count": 20})
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            connection.execute(FEW)
            connection.execute("VACUUM ANALYZE job")
        yield database
        database.close()
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def plans(crowded: Database, queue_benchmark: Any) -> Iterator[Callable[..., list[Any]]]:
    """`plans(call)` runs `call(session)`, takes it back, and returns the plans of its statements on jobs."""

    def run(call: Callable[..., Any]) -> list[Any]:
        with queue_benchmark.explained(crowded) as found:
            session = sa.orm.Session(crowded.engine)
            try:
                call(session)
            finally:
                session.rollback()
                session.close()
        assert found
        return list(found)

    return run


def kinds(plan: Any) -> set[str]:
    return {kind for kind, _ in plan["nodes"]}


def test_the_claim_walks_the_queue(plans: Any, queue_benchmark: Any) -> None:
    found = plans(lambda s: lease.claim_next(s, "cpu", worker="w", lease_seconds=30))
    (claim,) = (plan for plan in found if "SKIP LOCKED" in plan["statement"])
    assert queue_benchmark.walks(claim["nodes"]), claim
    assert not any(kinds(plan) & WHOLE_TABLE for plan in found), found


@pytest.mark.parametrize("limit", [1, 10, 50])
def test_the_dispatch_walks_the_queue(plans: Any, queue_benchmark: Any, limit: int) -> None:
    (pick,) = (plan for plan in plans(lambda s: dispatch.pick(s, "cpu", limit)) if "SKIP LOCKED" in plan["statement"])
    assert queue_benchmark.walks(pick["nodes"]), pick


def test_a_place_in_the_queue_is_found_at_both_ends_of_two_indexes(plans: Any) -> None:
    (plan,) = plans(lambda s: submit.fair_key(s, "cpu", "user3"))
    assert {name for _, name in plan["nodes"]} >= {"job_queue", "job_user_queue"}
    assert kinds(plan) <= {"Result", "Limit", "Index Only Scan", "Index Scan"}, plan


SETTINGS = JobSettings()
PERIODIC: dict[str, tuple[Callable[[Any], Any], str]] = {
    "expired": (lambda s: reap.expired(s, SETTINGS, reap.Reaped()), "job_lease"),
    "due": (lambda s: reap.due(s, reap.Reaped()), "job_due"),
    "next_lease": (reap.seconds_to_next, "job_lease"),
    "next_retry": (reap.seconds_to_next, "job_due"),
    "unstarted": (lambda s: reap.unstarted(s, 60), "job_dispatched"),
    "unrecorded": (reap.unrecorded, "job_dispatched"),
    "withdrawn": (reap.withdrawn, "job_withdrawn"),
    "in_flight_dispatched": (lambda s: dispatch.in_flight(s, "cpu"), "job_dispatched"),
    "in_flight_running": (lambda s: dispatch.in_flight(s, "cpu"), "job_lease"),
}


@pytest.mark.parametrize("name", PERIODIC)
def test_what_runs_every_tick_reads_only_what_it_wants(plans: Any, name: str) -> None:
    call, index = PERIODIC[name]
    found = plans(call)
    assert any((index in {used for _, used in plan["nodes"]}) for plan in found), found
    # Of the 50,000 jobs, that is: a scan of the few events that this test leaves is the right plan for them.
    assert not any(kind in WHOLE_TABLE and table == "job" for plan in found for kind, table in plan["nodes"]), found


PAGES: dict[str, tuple[query.JobFilter, str]] = {
    "all": (query.JobFilter(), "job_pkey"),
    "next_page": (query.JobFilter(before=uuid7()), "job_pkey"),
    "of_a_user": (query.JobFilter(user="done"), "job_user"),
    "of_a_rare_state": (query.JobFilter(states=("failed",)), "job_state"),
    "of_a_common_state": (query.JobFilter(states=("queued",)), ""),
    "next_page_of_a_state": (query.JobFilter(states=("failed",), before=uuid7()), "job_state"),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_a_list_is_read_in_its_order(plans: Any, name: str) -> None:
    wanted, index = PAGES[name]
    (plan,) = plans(lambda s: query.jobs(_with_exec(s), wanted))
    assert not kinds(plan) & (WHOLE_TABLE | SORTS), plan
    assert not index or index in {used for _, used in plan["nodes"]}, plan


def _with_exec(session: Any) -> Any:
    session.exec = session.scalars  # what SQLModel's session does for one table
    return session


def test_a_file_that_is_a_job_already_is_found_by_its_key(plans: Any) -> None:
    (plan,) = plans(lambda s: s.execute(submit._OTHER, {"keys": ["key1", "key2"]}))
    assert "job_source" in {name for _, name in plan["nodes"]}, plan


def test_a_duplicate_is_found_by_its_digest(plans: Any, crowded: Database) -> None:
    with crowded.session() as session:
        job = session.scalar(sa.text("SELECT job_uuid FROM job WHERE user_id = 'new' LIMIT 1"))
    found = plans(lambda s: submit.claimed(s, job, "h77"))
    (plan,) = (plan for plan in found if "other.content_hash" in plan["statement"])
    assert "job_content" in {name for _, name in plan["nodes"]}, plan


def test_a_pause_is_looked_up_without_the_jobs(plans: Any, queue_benchmark: Any) -> None:
    found = plans(lambda s: (control.pause_reason(s, "cpu"), s.execute(sa.text("SELECT 1 FROM job LIMIT 1"))))
    assert len(found) == 1  # the second statement only: the first names no job
