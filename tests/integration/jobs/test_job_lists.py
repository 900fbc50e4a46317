"""Lists of jobs: what a filter finds, that pages join without gaps, and that they walk indexes at any size."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from ironclad.jobs import control, listing, submit, transition
from ironclad.jobs.listing import Sort
from ironclad.jobs.search import parse

if TYPE_CHECKING:
    from uuid import UUID

STATES = "(ARRAY['succeeded','failed','queued','cancelled'])[1 + n % 4]"
MANY = (
    "INSERT INTO job (job_uuid, user_id, trace_id, schema_version, state, stage, pool, engine_pool, source_path,"
    " source_path_raw, source_size, source_mtime_ns, relative_path, ingest_mode, archive_name, engine, output_format,"
    " title, finished_at, queued_at, held) SELECT ('01990000-' || lpad(to_hex(n / 65536), 4, '0') || '-7000-8000-' "
    f"|| lpad(to_hex(n), 12, '0'))::uuid, 'user' || n % 7, repeat('a', 32), 1, {STATES}, 'validate', 'cpu', 'cpu',"
    " '/songs/' || n, '/songs', 1, 1, 'song', 'move', 'original.flac', 'center', 'auto', 'Song ' || n,"
    " CASE WHEN n % 4 <> 2 THEN ironclad_now() - make_interval(secs => n / 10.0) END, ironclad_now(), n % 1000 = 2"
    " FROM generate_series(1, :count) AS n"
)


def many(bench: Any, count: int) -> None:
    """Jobs in all states at once, past the guards."""
    with bench.session() as session:
        session.execute(sa.text("SET LOCAL session_replication_role = replica"))
        session.execute(sa.text(MANY), {"count": count})
    with bench.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE job"))


def found(bench: Any, text: str) -> set[UUID]:
    with bench.session() as session:
        rows = listing.page(session, parse(text))
        assert listing.count(session, parse(text)) == listing.Count(len(rows))
    return {row.job_uuid for row in rows}


def describe(bench: Any, job: UUID, **values: Any) -> None:
    sets = ", ".join(f"{name} = :{name}" for name in values)
    bench.rows(f"UPDATE job SET {sets} WHERE job_uuid = :job", job=job, **values)


def test_each_field_finds_its_jobs(bench: Any) -> None:
    blue = bench.job("succeeded", user="ana", engine="demucs")
    describe(bench, blue, artist="Miles Davis", title="So What", album="Kind of Blue")
    failed = bench.job("failed", user="ben")
    describe(bench, failed, artist="100%_sure", title="Trouble", stage="separate")
    queued = bench.job("queued", user="ana", pool="gpu")
    with bench.session() as session:
        control.hold(session, queued, held=True, actor="test")
    everything = {blue, failed, queued}
    for text, wanted in (
        ("", everything),
        ("state:failed", {failed}),
        ("state:failed,queued", {failed, queued}),
        ("-state:failed", {blue, queued}),
        ("user:ana", {blue, queued}),
        ("engine:demucs", {blue}),
        ("error:E_NOT_AUDIO", {failed}),
        ("error:input", {failed}),
        ("error:worker", set()),
        ("-error:input", {blue, queued}),
        ("stage:separate", {failed}),
        ("pool:gpu", {queued}),
        ('"kind of blue"', {blue}),
        ("MILES what", {blue}),
        ("artist:miles -title:so", set()),
        ("100%_s", {failed}),
        ("0%s", set()),
        ("album:blue", {blue}),
        ("held:yes", {queued}),
        ("held:no", {blue, failed}),
        ("since:1h", everything),
        ("until:1h", set()),
        (f"id:{str(failed)[-8:]}", {failed}),
        (f"id:{failed}", {failed}),
    ):
        assert found(bench, text) == wanted, text


def test_rows_say_what_a_list_shows(bench: Any) -> None:
    held, cancelling, long = bench.job("queued"), bench.job("running"), bench.job("queued")
    with bench.session() as session:
        control.hold(session, held, held=True, actor="test")
        control.cancel(session, cancelling, actor="test")
    describe(bench, long, title="x" * 10_000, artist="Ana")
    with bench.session() as session:
        rows = {row.job_uuid: row for row in listing.by_id(session, (held, cancelling, long))}
    assert rows[held].shown_state == "held"
    assert rows[cancelling].shown_state == "cancelling"
    assert rows[long].shown_state == "queued"
    assert rows[long].name == "Ana - " + "x" * listing.NAME_LIMIT


def test_rows_of_no_jobs_are_none(bench: Any) -> None:
    with bench.session() as session:
        assert listing.by_id(session, ()) == ()


@pytest.mark.parametrize("sort", list(Sort))
def test_pages_join_forwards_and_backwards(bench: Any, sort: Sort) -> None:
    many(bench, 57)
    with bench.session() as session:
        whole = listing.page(session, sort=sort, limit=1000)
        pages = []
        after = None
        while chunk := listing.page(session, sort=sort, after=after, limit=10):
            pages += chunk
            after = listing.key_of(chunk[-1], sort)
        back: tuple[listing.JobRow, ...] = ()
        after = None
        while chunk := listing.page(session, sort=sort, after=after, backwards=True, limit=10):
            back = chunk + back
            after = listing.key_of(chunk[0], sort)
    assert len(whole) == (57 if sort is not Sort.FINISHED else sum(n % 4 != 2 for n in range(1, 58)))
    assert tuple(pages) == whole == back


def test_the_order_is_what_it_says(bench: Any) -> None:
    many(bench, 40)
    with bench.session() as session:
        rows = {sort: listing.page(session, sort=sort) for sort in Sort}
    ids = [row.job_uuid for row in rows[Sort.OLDEST]]
    assert ids == sorted(ids)
    assert [row.job_uuid for row in rows[Sort.NEWEST]] == ids[::-1]
    ended = [row.finished_at for row in rows[Sort.FINISHED]]
    assert None not in ended
    assert ended == sorted(ended, key=str, reverse=True)
    assert [row.state for row in rows[Sort.STATE]] == sorted(row.state for row in rows[Sort.STATE])
    assert [row.user_id for row in rows[Sort.USER]] == sorted(row.user_id for row in rows[Sort.USER])


def test_counting_stops_at_its_limit(bench: Any) -> None:
    bench.bulk(30)
    with bench.session() as session:
        assert listing.count(session, parse(""), limit=20) == listing.Count(20, exact=False)
        assert listing.count(session, parse(""), limit=30) == listing.Count(30)


def test_no_page_sorts_or_reads_the_whole_table(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statements that `page` really makes, by EXPLAIN: 30,000 jobs, and no sort, no sequential scan."""
    many(bench, 30_000)
    statements: list[Any] = []
    with bench.session() as session:
        execute = session.execute
        monkeypatch.setattr(session, "execute", lambda s, *a, **k: (statements.append(s), execute(s, *a, **k))[1])
        for sort in Sort:
            rows = listing.page(session, sort=sort)
            for backwards in (False, True):
                listing.page(session, sort=sort, after=listing.key_of(rows[50], sort), backwards=backwards)
        for text in ("state:failed", "user:user3", "state:failed user:user2", "since:1h"):
            listing.page(session, parse(text))
        monkeypatch.undo()
        for statement in statements:
            text = str(statement.compile(bench.database.engine, compile_kwargs={"literal_binds": True}))
            plan = "\n".join(row[0] for row in session.execute(sa.text("EXPLAIN " + text.replace(":", r"\:"))))
            assert "Seq Scan" not in plan, f"{text}\n{plan}"
            assert "Sort  " not in plan, f"{text}\n{plan}"


def test_the_library_lists_what_is_published(bench: Any) -> None:
    job = bench.job("succeeded")
    for number in range(5):
        bench.rows(
            "INSERT INTO artifact (artifact_uuid, job_uuid, attempt, kind, path, size, blake3, state, published_at) "
            "VALUES (CAST(:id AS uuid), :job, 1, :kind, :path, 7, 'b', :state, ironclad_now())",
            id=f"01990000-0000-7000-8000-00000000000{number}", job=job, path=f"a/{number}.flac",
            kind="receipt:vocals" if number == 3 else "instrumental", state="intent" if number == 1 else "published",
        )  # fmt: skip
    with bench.session() as session:
        all_ = listing.published(session)
        assert [one.path for one in all_] == ["a/4.flac", "a/2.flac", "a/0.flac"]
        assert all_[0].published_at is not None
        assert all_[0].published_at - transition.load(session, job).created_at < timedelta(minutes=5)  # type: ignore[operator]  # set
        assert [one.path for one in listing.published(session, before=all_[1].artifact_uuid)] == ["a/0.flac"]


def test_a_filter_never_becomes_sql(bench: Any) -> None:
    job = bench.job("queued")
    assert found(bench, '"\'; DROP TABLE job; --" ') == set()
    assert found(bench, 'user:"ana\' OR 1=1"') == set()
    with bench.session() as session:
        assert submit.load(session, job).state == "queued"
