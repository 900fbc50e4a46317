"""What a group tells now: thresholds, quiet hours, what is over or muted; corners of schedules and inhibition."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ironclad.jobs.notices import Severity, Status
from ironclad.notify import grouping, schedule
from ironclad.notify.grouping import FEW, LOOK_AGAIN, OVER, UNWANTED, Decision, Pending
from ironclad.notify.model import Event
from ironclad.notify.muting import Muting
from ironclad.notify.routing import Policy
from ironclad.sections import InhibitSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
POLICY = Policy("ops", group_by=("kind",), wait=30.0, interval=300.0, repeat=14_400.0)
FEWER = replace(POLICY, threshold=3, window=600.0)


def event(number: int, *, ago: float = 0.0, **fields: Any) -> Event:
    usual = {
        "id": number, "at": NOW - timedelta(seconds=ago), "kind": "job_failed", "alert": f"job:{number}",
        "status": Status.FIRING, "severity": Severity.ERROR,
    }  # fmt: skip
    return Event(**{**usual, **fields})


def decide(
    *events: Event, policy: Policy = POLICY, muted: Mapping[int, str] | None = None, heard: Status | None = None,
    **more: Any,
) -> Decision:  # fmt: skip
    reasons = muted or {}
    pending = [Pending(one, heard) for one in events]
    return grouping.decide(pending, policy, NOW, muted=lambda one: reasons.get(one.id), **more)


def told(decision: Decision) -> list[int]:
    return [one.id for one in decision.tell]


# --- when a group is due ---------------------------------------------------------------------------------------------


def test_the_first_message_comes_after_the_wait_of_the_first_event_and_news_after_the_interval() -> None:
    pending = [Pending(event(1, ago=20)), Pending(event(2, ago=5))]
    assert grouping.due(pending, POLICY, None, None) == NOW + timedelta(seconds=10)
    assert grouping.due(pending, POLICY, NOW - timedelta(seconds=100), None) == NOW + timedelta(seconds=200)
    assert grouping.due(pending, POLICY, NOW - timedelta(seconds=900), None) == NOW + timedelta(seconds=10)


def test_what_was_routed_late_waits_from_then_on() -> None:
    late = event(1, ago=3600, routed_at=NOW)
    assert grouping.due([Pending(late)], POLICY, None, None) == NOW + timedelta(seconds=30)


def test_a_digest_that_is_due_this_very_moment_is_not_missed_nor_sent_twice() -> None:
    at_eight = NOW.replace(hour=8)
    assert schedule.next_digest(at_eight, "daily", "08:00", UTC) == at_eight + timedelta(days=1)
    assert schedule.next_digest(at_eight - timedelta(seconds=1), "daily", "08:00", UTC) == at_eight
    daily = replace(POLICY, digest="daily", digest_at="08:00")
    assert grouping.due([Pending(event(1))], daily, None, UTC) == at_eight + timedelta(days=1)


def test_only_what_lasts_and_was_told_is_repeated() -> None:
    assert grouping.repeat_at(NOW, POLICY, lasting=True) == NOW + timedelta(hours=4)
    assert grouping.repeat_at(NOW, POLICY, lasting=False) is None
    assert grouping.repeat_at(None, POLICY, lasting=True) is None


# --- one alert -------------------------------------------------------------------------------------------------------


def test_several_changes_of_one_alert_are_told_once_as_it_is_now() -> None:
    decision = decide(event(1, alert="disk"), event(2, alert="disk", severity=Severity.CRITICAL), event(3))
    assert told(decision) == [2, 3]
    assert decision.settled == (1, 2, 3)


def test_what_was_over_before_it_was_told_is_not_told() -> None:
    decision = decide(event(1, alert="disk"), event(2, alert="disk", status=Status.RESOLVED))
    assert told(decision) == []
    assert decision.suppressed == ((1, OVER), (2, OVER))


@pytest.mark.parametrize("wanted", [True, False])
def test_the_end_of_what_was_told_is_told_to_who_wants_it(*, wanted: bool) -> None:
    end = event(2, alert="disk", status=Status.RESOLVED)
    decision = decide(end, heard=Status.FIRING, wants_resolved=wanted)
    assert told(decision) == ([2] if wanted else [])
    assert decision.suppressed == (() if wanted else ((2, UNWANTED),))


# --- what is muted, and quiet hours ----------------------------------------------------------------------------------


def test_a_muted_alert_waits_and_a_muted_note_is_not_told_later() -> None:
    note = event(2, status=Status.NOTE)
    decision = decide(event(1), note, event(3), muted={1: "silence 7", 2: "silence 7"})
    assert told(decision) == [3]
    assert decision.suppressed == ((2, "silence 7"),)
    assert decision.look_at == NOW + timedelta(seconds=LOOK_AGAIN)


def test_in_quiet_hours_only_the_critical_is_told_and_the_rest_waits_for_their_end() -> None:
    end = NOW + timedelta(hours=3)
    note = event(3, status=Status.NOTE)
    decision = decide(event(1), event(2, severity=Severity.CRITICAL), note, quiet_until=end)
    assert told(decision) == [2]
    assert decision.settled == (2,)
    assert decision.suppressed == ()
    assert decision.look_at == end


@pytest.mark.parametrize("muted", [1, 2])
def test_the_nearest_of_several_moments_is_looked_at(muted: int) -> None:
    """A mute is looked at again in a minute, though quiet hours end much later, whichever comes first in the group."""
    decision = decide(event(1), event(2), muted={muted: "silence 7"}, quiet_until=NOW + timedelta(hours=3))
    assert decision.look_at == NOW + timedelta(seconds=LOOK_AGAIN)


def test_an_alert_never_holds_itself_back_though_it_changed() -> None:
    rule = InhibitSettings(source={"kind": "disk_*", "severity": "critical"}, target={"kind": "disk_*"})
    before = {"kind": "disk_low", "severity": "critical", "alert": "a"}
    muting = Muting([], [rule], {"a": before})
    assert muting.reason(event(1, kind="disk_low", alert="a", severity=Severity.WARNING)) is None
    assert muting.reason(event(2, kind="disk_low", alert="b", severity=Severity.WARNING)) == "inhibited by a"


# --- thresholds ------------------------------------------------------------------------------------------------------


def test_fewer_than_the_threshold_wait_for_more_until_the_window_has_passed_them_by() -> None:
    decision = decide(event(1, ago=700), event(2, ago=100), event(3, ago=50), policy=FEWER)
    assert told(decision) == []
    assert decision.settled == ()
    assert decision.suppressed == ((1, FEW),)
    assert decision.look_at == NOW + timedelta(seconds=500)


def test_the_threshold_is_met_by_exactly_that_many_also_with_those_told_lately() -> None:
    events = [event(number, ago=10) for number in (1, 2, 3)]
    assert told(decide(*events, policy=FEWER)) == [1, 2, 3]
    assert told(decide(*events[:2], policy=FEWER, recently=1)) == [1, 2]
    assert told(decide(*events[:2], policy=FEWER)) == []


def test_good_news_is_not_held_back_by_a_threshold() -> None:
    end = Pending(event(9, alert="disk", status=Status.RESOLVED), Status.FIRING)
    decision = grouping.decide([end, Pending(event(1))], FEWER, NOW, muted=lambda _: None)
    assert told(decision) == [9]
    assert decision.settled == (9,)
