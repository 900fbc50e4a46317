"""From the outbox to messages, with a clock that is stepped: when what is told, to whom, and what is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from ironclad.notify import control, store
from ironclad.notify.grouping import FEW, OVER, UNWANTED
from ironclad.notify.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.db.session import Database

Desk = Any
MakeDesk = "Callable[..., Desk]"
TWO = {"ops": {"url": "json://127.0.0.1:9/"}, "pager": {"url": "json://127.0.0.1:9/p"}}


def test_a_group_waits_for_more_then_tells_all_at_once(desk: Callable[..., Desk]) -> None:
    here = desk()
    for _ in range(3):
        here.publish()
    assert here.plan() == []
    assert here.plan(29) == []
    (message,) = here.plan(1)
    assert message.title == "[ERROR] 3 jobs failed"
    assert "3 times E_NOT_AUDIO at validate: The file holds no audio" in message.body["text"]
    assert "What to do:" in message.body["text"]
    assert here.states() == [("told", None)] * 3


def test_news_of_a_group_waits_for_the_interval(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.publish()
    here.plan()
    assert len(here.plan(30)) == 1
    here.publish()
    assert here.plan(31) == []
    assert here.plan(268) == []
    assert [message.title for message in here.plan(1)] == ["[ERROR] 1 job failed"]


def test_a_storm_is_three_messages_at_most(desk: Callable[..., Desk]) -> None:
    here = desk()
    told = []
    for _second in range(60):
        for _ in range(16):
            here.publish()
        told += here.plan(1)
    told += here.plan(600)
    assert 1 <= len(told) <= 3
    assert sum(message.events for message in told) == 960
    assert set(here.states()) == {("told", None)}


def test_what_lasts_is_told_again_and_the_end_of_it_once(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.publish("disk_low", "disk", labels={"code": "E_DISK_FULL"})
    here.plan()
    assert [message.severity for message in here.plan(30)] == ["critical"]
    assert here.plan(4 * 3600 - 1) == []
    assert [message.title.split("]")[0] for message in here.plan(1)] == ["[STILL"]
    here.publish("disk_low", "disk", "resolved")
    assert [message.title.split("]")[0] for message in here.plan(300)] == ["[RESOLVED"]
    assert here.plan(5 * 3600) == []


def test_news_are_told_with_what_still_lasts(desk: Callable[..., Desk]) -> None:
    here = desk(group_by=())
    here.publish("disk_low", "disk", labels={"code": "E_DISK_FULL"})
    here.plan()
    here.plan(30)
    here.publish("drift", "clock", labels={"code": ""})
    (message,) = here.plan(300)
    assert [record["alert"] for record in message.body["alerts"]] == ["clock", "disk"]
    assert here.states() == [("told", None)] * 2


def test_what_was_told_and_is_silenced_since_is_not_repeated(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.publish("disk_low", "disk", labels={"code": "E_DISK_FULL"})
    here.plan()
    assert len(here.plan(30)) == 1
    with here.database.session() as session:
        control.silence(
            session, {"kind": "disk_*"}, ends_at=here.now + timedelta(hours=6), comment="known", actor="cli:ana"
        )  # fmt: skip
    assert here.plan(5 * 3600) == []
    assert [message.title.split("]")[0] for message in here.plan(4 * 3600)] == ["[STILL"]


def test_failed_jobs_are_not_told_again_and_again(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.publish()
    here.plan()
    assert len(here.plan(30)) == 1
    assert here.plan(24 * 3600) == []


def test_a_job_that_fails_again_is_news(desk: Callable[..., Desk]) -> None:
    here = desk()
    for _ in range(2):
        here.publish(alert="job:1")
        here.plan()
        assert len(here.plan(300)) == 1


def test_what_was_over_before_it_was_told_is_not_told(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.publish("disk_low", "disk")
    here.plan(10)
    here.publish("disk_low", "disk", "resolved")
    assert here.plan(600) == []
    assert here.states() == [("suppressed", OVER)] * 2


def test_a_channel_that_does_not_want_good_news_gets_none(desk: Callable[..., Desk]) -> None:
    here = desk(channels={"ops": {"url": "json://h/", "resolved": False}})
    here.publish("disk_low", "disk")
    here.plan()
    here.plan(30)
    here.publish("disk_low", "disk", "resolved")
    assert here.plan(600) == []
    assert here.states()[-1] == ("suppressed", UNWANTED)


def test_a_full_disk_mutes_failed_jobs_and_they_are_told_when_there_is_room(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.publish("disk_low", "disk")
    here.publish(alert="job:1")
    here.publish(alert="job:2")
    here.plan()
    assert ["disk" in message.title for message in here.plan(30)] == [True]
    here.publish(alert="job:2", status="resolved")
    here.plan(600)
    here.publish("disk_low", "disk", "resolved")
    told = here.plan(60) + here.plan(300)
    assert sorted(message.title.split(" ")[0] for message in told) == ["[ERROR]", "[RESOLVED]"]
    assert [message.events for message in told if message.title.startswith("[ERROR]")] == [1]


def test_a_silence_keeps_back_until_it_ends(desk: Callable[..., Desk]) -> None:
    here = desk()
    with here.database.session() as session:
        control.silence(
            session, {"code": "E_NOT_*"}, ends_at=here.now + timedelta(hours=1), comment="known", actor="cli:ana"
        )  # fmt: skip
    here.publish()
    here.publish(labels={"code": "E_STALLED"})
    here.plan()
    (message,) = here.plan(30)
    assert message.events == 1
    assert here.plan(3000) == []
    assert [one.events for one in here.plan(1000)] == [1]


def test_an_acknowledged_alert_is_neither_repeated_nor_escalated(desk: Callable[..., Desk]) -> None:
    here = desk(
        channels=TWO,
        routes=[{"channels": ["ops"], "escalate_to": ["pager"], "escalate_minutes": 30, "name": "all"}],
    )
    here.publish("disk_low", "disk")
    here.plan()
    assert [message.channel for message in here.plan(30)] == ["ops"]
    with here.database.session() as session:
        control.acknowledge(session, "disk", actor="cli:ana")
    assert here.plan(1800) == []
    assert here.plan(5 * 3600) == []
    here.publish("disk_low", "disk", "resolved")
    assert [message.title[:10] for message in here.plan(300)] == ["[RESOLVED]"]


def test_what_nobody_acknowledges_is_escalated_once_and_resolved_everywhere(desk: Callable[..., Desk]) -> None:
    here = desk(
        channels=TWO,
        routes=[{"channels": ["ops"], "escalate_to": ["pager"], "escalate_minutes": 30, "name": "all"}],
    )
    here.publish("disk_low", "disk")
    here.plan()
    here.plan(30)
    assert here.plan(1799) == []
    (message,) = here.plan(1)
    assert (message.channel, message.title.split("]")[0]) == ("pager", "[ESCALATED")
    here.publish("disk_low", "disk", "resolved")
    told = here.plan(301)
    assert sorted(message.channel for message in told) == ["ops", "pager"]


def test_fewer_failures_than_the_threshold_are_not_told(desk: Callable[..., Desk]) -> None:
    here = desk(routes=[{"channels": ["ops"], "threshold": 3, "threshold_minutes": 10}])
    here.publish()
    here.publish()
    assert here.plan(30) + here.plan(30) == []
    here.publish()
    assert [message.events for message in here.plan()] == [3]  # they have waited for long enough
    here.publish()  # the third of four within ten minutes has been told
    here.plan()
    assert [message.events for message in here.plan(300)] == [1]
    here.later(3600)
    here.publish()
    here.plan()
    assert here.plan(30) == []
    assert here.plan(600) == []
    assert here.states()[-1] == ("suppressed", FEW)


def test_quiet_hours_hold_back_all_but_the_critical(desk: Callable[..., Desk]) -> None:
    here = desk(channels={"ops": {"url": "json://h/", "quiet_hours": "22:00-07:00"}})
    here.now = datetime(2026, 1, 5, 23, 0, tzinfo=UTC)
    here.publish()
    here.publish("disk_low", "other-disk", labels={"code": "x"})
    here.plan()
    assert [message.severity for message in here.plan(60)] == ["critical"]
    here.publish("disk_low", "other-disk", "resolved")
    assert [message.title[:10] for message in here.plan(3600)] == ["[RESOLVED]"]  # woken for it, told that it is over
    here.now = datetime(2026, 1, 6, 6, 59, tzinfo=UTC)
    assert here.plan() == []
    assert [message.severity for message in here.plan(60)] == ["error"]


def test_in_quiet_hours_only_the_critical_is_repeated(desk: Callable[..., Desk]) -> None:
    here = desk(channels={"ops": {"url": "json://127.0.0.1:9/", "quiet_hours": "22:00-07:00"}}, group_by=("kind",))
    here.now = datetime(2026, 1, 5, 20, 0, tzinfo=UTC)
    here.publish("drift", "drift", labels={"code": ""})
    here.publish("disk_low", "disk")
    here.plan()
    assert len(here.plan(30)) == 2
    assert [message.severity for message in here.plan(4 * 3600)] == ["critical"]
    here.now = datetime(2026, 1, 6, 8, 1, tzinfo=UTC)
    assert sorted(message.severity for message in here.plan()) == ["critical", "warning"]


def test_a_daily_digest_collects(desk: Callable[..., Desk]) -> None:
    here = desk(routes=[{"channels": ["ops"], "digest": "daily", "digest_at": "08:00"}])
    here.now = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    here.publish()
    here.plan(8 * 3600)
    here.publish("drift", "drift")
    assert here.plan(3600) == []
    here.now = datetime(2026, 1, 6, 8, 0, tzinfo=UTC)
    (message,) = here.plan()
    assert message.events == 2
    assert here.plan(23 * 3600) == []


def test_what_is_silenced_brings_nothing_else_out_before_its_digest(desk: Callable[..., Desk]) -> None:
    here = desk(routes=[{"channels": ["ops"], "digest": "daily", "digest_at": "08:00"}])
    here.now = datetime(2030, 6, 1, 12, tzinfo=UTC)
    with here.database.session() as session:
        control.silence(
            session, {"code": "E_KNOWN"}, ends_at=datetime(2030, 6, 2, 12, 30, tzinfo=UTC), comment="", actor="me"
        )
    here.publish(labels={"code": "E_KNOWN"})
    here.publish()
    assert [message.events for message in here.plan(20 * 3600)] == [1]
    for _ in range(3):
        here.publish()
        assert here.plan(1200) == []  # each waits for the next morning, though the silenced one is looked at
    (known,) = here.plan(4 * 3600)  # its silence has ended
    assert known.events == 1
    (digest,) = here.plan(19 * 3600)
    assert digest.events == 3


def test_more_than_are_looked_at_together_are_all_told(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST", 3)
    here = desk()
    for _ in range(8):
        here.publish()
    here.plan(30)
    here.plan(300)
    here.plan(300)
    assert [message.events for message in here.messages()] == [3, 3, 2]
    assert set(here.states()) == {("told", None)}


def test_every_event_can_be_a_message_of_its_own(desk: Callable[..., Desk]) -> None:
    here = desk(routes=[{"channels": ["ops"], "group_by": ["..."], "group_wait_seconds": 0}])
    for _ in range(5):
        here.publish()
    assert [message.events for message in here.plan()] == [1] * 5


def test_routes_go_by_severity_and_a_channel_hears_once(desk: Callable[..., Desk]) -> None:
    here = desk(
        channels=TWO,
        routes=[{"channels": ["pager", "ops"], "severity": "critical"}, {"channels": ["ops"], "severity": "error"}],
    )
    here.publish()
    here.publish("disk_low", "d", labels={"code": "x"})
    here.plan()
    told = [(message.channel, message.severity) for message in here.plan(30)]
    assert sorted(told) == [("ops", "critical"), ("pager", "critical")]
    # The failed job is kept back by the full disk, and told afterwards.
    here.publish("disk_low", "d", "resolved")
    assert ("ops", "error") in [(message.channel, message.severity) for message in here.plan(60) + here.plan(300)]


def test_a_failure_that_no_route_wants_goes_to_every_channel(desk: Callable[..., Desk]) -> None:
    here = desk(channels=TWO, routes=[{"channels": ["pager"], "severity": "critical"}])
    here.publish()
    here.publish("drift", "drift:1")  # a warning: nobody asked for it
    here.plan()
    told = here.plan(30)
    assert sorted(message.channel for message in told) == ["ops", "pager"]
    assert {message.severity for message in told} == {"error"}


def test_without_channels_everything_waits(desk: Callable[..., Desk]) -> None:
    here = desk(channels={})
    here.publish()
    assert here.plan(3601) == []
    here.restart(channels={"ops": {"url": "json://h/"}}, timezone="UTC")
    here.publish()
    here.plan()
    (message,) = here.plan(30)
    assert message.events == 1  # what had failed an hour before there was a channel is no news


def test_the_first_channel_hears_of_the_last_hour_and_not_of_what_failed_before(desk: Callable[..., Desk]) -> None:
    here = desk(channels={})
    here.publish(alert="old")
    here.later(3601)
    here.publish(alert="fresh")
    here.later(3599)
    here.restart(channels={"ops": {"url": "json://127.0.0.1:9/"}}, timezone="UTC")
    here.plan()
    (message,) = here.plan(30)
    assert [record["alert"] for record in message.body["alerts"]] == ["fresh"]


def test_what_ends_after_the_clock_was_set_back_has_ended(desk: Callable[..., Desk]) -> None:
    here = desk()
    here.publish("disk_low", "disk")
    assert len(here.plan(30)) == 1
    here.later(-7200).publish("disk_low", "disk", "resolved")
    assert [message.title[:10] for message in here.plan(7200 + 300)] == ["[RESOLVED]"]
    assert [row.status for row in here.rows("SELECT status FROM alert")] == ["resolved"]
    assert here.plan(5 * 3600) == []


def test_what_is_routed_anew_does_not_fire_again_though_it_is_over(desk: Callable[..., Desk]) -> None:
    here = desk(channels={"old": {"url": "json://h/"}})
    first = here.publish("disk_low", "disk")
    here.plan()
    here.publish("disk_low", "disk", "resolved")
    here.plan()
    here.rows("UPDATE notice SET routed_at = NULL WHERE id = :first", first=first)
    here.plan()
    assert [row.status for row in here.rows("SELECT status FROM alert")] == ["resolved"]


def test_settings_that_change_lose_nothing(desk: Callable[..., Desk]) -> None:
    here = desk(channels={"old": {"url": "json://h/"}})
    here.publish()
    here.plan()  # waits in a group of a channel that will be gone
    here.restart(channels={"new": {"url": "json://h/"}}, timezone="UTC")
    here.plan()
    (message,) = here.plan(30)
    assert (message.channel, message.events) == ("new", 1)


def test_messages_for_a_channel_that_is_gone_are_dead_letters(desk: Callable[..., Desk]) -> None:
    here = desk(channels={"old": {"url": "json://h/"}})
    here.publish()
    here.plan()
    here.plan(30)
    here.restart(channels={"new": {"url": "json://h/"}}, timezone="UTC")
    (message,) = here.messages()
    assert message.state == "dead"
    with here.database.session() as session:
        assert control.resend(session, [message.message_uuid], channel="new") == 1
    assert [(row.state, row.channel) for row in here.messages()] == [("pending", "new")]


def test_a_restart_between_any_two_steps_changes_nothing(desk: Callable[..., Desk]) -> None:
    here = desk()
    for _ in range(3):
        here.publish()
        here.planner.step()
        here.restart()
    assert [message.events for message in here.plan(30)] == [3]
    here.restart()
    assert here.plan(3600) == []


def test_two_notifiers_do_not_tell_twice(desk: Callable[..., Desk], database: Database) -> None:
    here = desk()
    here.publish()
    here.plan()
    here.later(30)
    with database.session() as session:  # another one is planning
        session.execute(sa.text("SELECT pg_advisory_xact_lock(CAST(:key AS bigint))"), {"key": 0x1C0_0004})
        assert here.planner.step().idle
    other = Planner(database, here.settings, clock=here.clock)
    assert (other.step().messages, here.planner.step().messages) == (1, 0)


def test_a_service_that_falls_silent_is_told_and_so_is_its_return(desk: Callable[..., Desk]) -> None:
    here = desk(silent_seconds=60)
    here.rows(
        "INSERT INTO worker (name, kind, host, pid, seen_at) VALUES ('watch@box/1', 'watch', 'box', 1, :now)",
        now=here.now,
    )
    here.plan()
    here.plan(61)
    (message,) = here.plan(30)
    assert "A service has fallen silent (watch on box)" in message.title
    here.rows("UPDATE worker SET seen_at = :now", now=here.now + timedelta(seconds=300))
    assert [one.title[:10] for one in here.plan(300)] == ["[RESOLVED]"]


def test_a_service_that_stopped_cleanly_is_no_news(desk: Callable[..., Desk]) -> None:
    here = desk(silent_seconds=60)
    here.rows(
        "INSERT INTO worker (name, kind, host, pid, seen_at, data) "
        """VALUES ('api@box/1', 'api', 'box', 1, :now, '{"status": "failed"}')""",
        now=here.now,
    )
    here.plan()
    here.rows("DELETE FROM worker")
    assert here.plan(600) == []


def test_old_history_is_forgotten_but_not_what_fires(desk: Callable[..., Desk]) -> None:
    here = desk(keep_days=1)
    here.publish("disk_low", "disk")
    here.publish("drift", "drift")
    here.plan()
    assert len(here.plan(30)) == 2
    here.publish("drift", "drift", "resolved")
    here.plan(300)
    here.rows("UPDATE message SET state = 'sent', settled_at = :now", now=here.now)
    here.plan(3 * 86400)
    here.plan(3601)
    assert [row.key for row in here.rows("SELECT key FROM alert")] == ["disk"]
    assert [row.alert for row in here.rows("SELECT alert FROM notice")] == ["disk"]


@pytest.mark.parametrize("restart", [False, True])
def test_every_notification_ends_told_or_with_a_reason(desk: Callable[..., Desk], restart: bool) -> None:  # noqa: FBT001
    here = desk(channels=TWO)
    for number in range(40):
        status = "resolved" if number % 3 == 2 else "firing"
        here.publish("drift" if number % 2 else "job_failed", f"alert:{number % 7}", status)
        here.later(7)
        here.plan()
        if restart:
            here.restart()
    here.plan(3600)
    here.plan(3600)
    assert {state for state, _ in here.states()} <= {"told", "suppressed"}
    assert all((state == "suppressed") == (reason is not None) for state, reason in here.states())
