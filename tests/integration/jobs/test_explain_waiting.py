"""What `ironclad jobs why` says of a job that waits because somebody wants it to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ironclad.jobs import control, explain

if TYPE_CHECKING:
    from uuid import UUID


def told(bench: Any, job: UUID) -> explain.Explanation:
    with bench.session() as session:
        return explain.explain(session, bench.settings.layout, job)


def test_a_held_job_does_not_wait_for_its_turn(bench: Any) -> None:
    job = bench.job("queued")
    assert told(bench, job).summary == "It waits for its turn."
    with bench.session() as session:
        control.hold(session, job, held=True, actor="op")
    held = told(bench, job)
    assert held.summary == "It is held: it is not started until somebody lets it go."
    assert held.todo == (f"`ironclad jobs release {str(job)[-8:]}` lets it go.",)
    with bench.session() as session:
        control.hold(session, job, held=False, actor="op")
    assert told(bench, job).summary == "It waits for its turn."


def test_where_all_is_paused_it_says_where_to_look(bench: Any) -> None:
    job = bench.job("queued")
    with bench.session() as session:
        control.pause(session, None, paused=True, actor="op")
    (todo,) = told(bench, job).todo
    assert "the pipeline is paused" in todo
    assert "`ironclad status`" in todo
