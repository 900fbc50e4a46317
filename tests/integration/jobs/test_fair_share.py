"""Who goes first: priority, then fair shares of users."""

from __future__ import annotations

from typing import Any

from ironclad.jobs import dispatch, submit


def order(bench: Any, count: int) -> list[str]:
    """The users of the next `count` jobs, as they are claimed."""
    return [bench.claim_next().job.user_id for _ in range(count)]


def test_a_user_with_a_thousand_songs_does_not_block_another(bench: Any) -> None:
    bench.bulk(1000, user="ana")
    for _ in range(3):
        bench.claim_next()
    only = bench.job("queued", user="ben")
    second = bench.claim_next().job
    third = bench.claim_next().job
    assert only in {second.job_uuid, third.job_uuid}


def test_users_take_turns(bench: Any) -> None:
    for user, count in (("ana", 6), ("ben", 3), ("cleo", 3)):
        for _ in range(count):
            bench.job("queued", user=user)
    taken = order(bench, 12)
    for turn in range(3):
        assert sorted(taken[3 * turn : 3 * turn + 3]) == ["ana", "ben", "cleo"]
    assert taken[9:] == ["ana"] * 3


def test_a_users_own_songs_keep_their_order(bench: Any) -> None:
    jobs = [bench.job("queued") for _ in range(5)]
    assert [bench.claim_next().fence.job_uuid for _ in range(5)] == jobs


def test_priority_goes_first_whoever_waits(bench: Any) -> None:
    bench.bulk(50, user="ana")
    low = bench.job("queued", user="ben", priority=-1)
    urgent = bench.job("queued", user="ana", priority=5)
    more_urgent = bench.job("queued", user="cleo", priority=9)
    assert [bench.claim_next().fence.job_uuid for _ in range(2)] == [more_urgent, urgent]
    assert order(bench, 50) == ["ana"] * 50
    assert bench.claim_next().fence.job_uuid == low


def test_an_urgent_job_does_not_push_newcomers_back(bench: Any) -> None:
    bench.bulk(1000, user="ana")
    bench.job("queued", user="ana", priority=5)  # ana's last, but the queue's head
    newcomer = bench.job("queued", user="ben")
    bench.claim_next()
    assert newcomer in {bench.claim_next().fence.job_uuid for _ in range(2)}


def test_urgent_jobs_of_two_users_take_turns_too(bench: Any) -> None:
    bench.bulk(1000, user="ana")
    for _ in range(3):
        bench.job("queued", user="ana", priority=5)
    bench.job("queued", user="ben", priority=5)
    assert "ben" in order(bench, 2)


def test_who_comes_late_starts_at_the_head(bench: Any) -> None:
    bench.bulk(10, user="ana", first=500)
    with bench.session() as session:
        assert submit.fair_key(session, "cpu", "ben") == 500
        assert submit.fair_key(session, "cpu", "ana") == 510
        assert submit.fair_key(session, "gpu", "ben") == 0
        assert submit.fair_key(session, "cpu", "ben", priority=1) == 0


def test_held_and_dispatched_jobs_do_not_move_the_head(bench: Any) -> None:
    bench.bulk(10, user="ana", first=500)
    bench.rows("UPDATE job SET held = true WHERE fair_key = 500")
    bench.rows("UPDATE job SET dispatched_at = ironclad_now() WHERE fair_key = 501")
    with bench.session() as session:
        assert submit.fair_key(session, "cpu", "ben") == 502


def test_dispatch_and_claim_agree_on_the_order(bench: Any) -> None:
    for user, count, priority in (("ana", 20, 0), ("ben", 5, 0), ("cleo", 4, 2)):
        bench.bulk(count, user=user, priority=priority)
    with bench.session() as session:
        picked = [job.job_uuid for job in dispatch.pick(session, "cpu", 29)]
        session.rollback()
    assert [bench.claim_next().fence.job_uuid for _ in range(29)] == picked
