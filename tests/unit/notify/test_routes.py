"""Who is told of an event, by which route's rules, and in which group."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ironclad.jobs.notices import Severity, Status
from ironclad.notify.model import Event
from ironclad.notify.routing import ESCALATED, Router
from ironclad.sections import NotifySettings

CHANNELS = {"ops": {"url": "json://127.0.0.1:9/"}, "pager": {"url": "json://127.0.0.1:9/p"}}


def event(**fields: Any) -> Event:
    usual = {
        "id": 1, "at": datetime(2026, 1, 5, 12, 0, tzinfo=UTC), "kind": "job_failed", "alert": "job:1",
        "status": Status.FIRING, "severity": Severity.ERROR, "labels": {"code": "E_STALLED", "user": "ana"},
    }  # fmt: skip
    return Event(**{**usual, **fields})


def router(*routes: dict[str, Any], **more: Any) -> Router:
    return Router(NotifySettings.model_validate({"channels": CHANNELS, "routes": list(routes), **more}))


def told(routes: Router, one: Event) -> dict[str, str]:
    return {target.channel: target.route for target in routes.targets(one)}


def test_without_routes_every_channel_hears_everything() -> None:
    assert told(router(), event(severity=Severity.INFO)) == {"ops": "default", "pager": "default"}


def test_the_first_route_that_names_a_channel_decides_how_it_is_told() -> None:
    routes = router({"name": "first", "channels": ["ops"]}, {"name": "second", "channels": ["ops", "pager"]})
    assert told(routes, event()) == {"ops": "first", "pager": "second"}


def test_a_route_goes_by_kind_and_severity_and_labels_together() -> None:
    routes = router(
        {"name": "his", "kinds": ["job_*"], "severity": "error", "labels": {"user": "ana"}, "channels": ["ops"]},
        {"name": "rest", "channels": ["pager"]},
    )
    assert told(routes, event()) == {"ops": "his", "pager": "rest"}
    for other in ({"kind": "disk_low"}, {"severity": Severity.WARNING}, {"labels": {"user": "bob"}}, {"labels": {}}):
        assert told(routes, event(**other)) == {"pager": "rest"}, other


def test_a_mute_is_obeyed_though_it_names_channels() -> None:
    routes = router({"labels": {"user": "ana"}, "mute": True, "channels": ["ops"]})
    assert told(routes, event()) == {}


def test_a_failure_that_no_route_matches_is_told_and_less_is_not() -> None:
    routes = router({"kinds": ["disk_low"], "channels": ["ops"]})
    assert told(routes, event()) == {"ops": "default", "pager": "default"}
    assert told(routes, event(severity=Severity.WARNING)) == {}


def test_a_broken_channel_is_not_told_of_itself() -> None:
    broken = event(kind="channel_failing", labels={"channel": "pager"})
    assert told(router(), broken) == {"ops": "default"}
    assert told(router(), event(labels={"channel": "pager"})) == {"ops": "default", "pager": "default"}


def test_who_is_escalated_to_hears_at_once() -> None:
    routes = router(group_wait_seconds=45.0)
    assert routes.policy("default").wait == 45.0
    assert routes.policy(ESCALATED).wait == 0.0
    assert routes.policy("one that is gone").wait == 45.0


def test_a_route_has_its_own_rules_and_the_usual_ones_for_the_rest() -> None:
    routes = router(
        {"name": "few", "channels": ["ops"], "threshold": 5, "threshold_minutes": 2.0, "group_wait_seconds": 0.0},
        {"name": "daily", "channels": ["pager"], "digest": "daily"},
        group_by=("code",),
    )
    few, daily = routes.policy("few"), routes.policy("daily")
    assert (few.threshold, few.window, few.wait, few.interval, few.group_by) == (5, 120.0, 0.0, 300.0, ("code",))
    assert daily.group_by == ()  # a digest is one message, whatever is in it


def test_a_group_is_what_has_the_same_labels() -> None:
    routes = router(group_by=("code",))
    keys = [routes.target(event(id=n, labels={"code": code}), "ops", "default").group_key for n, code in
            enumerate(("E_STALLED", "E_STALLED", "E_NOT_AUDIO"))]  # fmt: skip
    assert keys[0] == keys[1] != keys[2]
    each = router(group_by=("...",))
    assert len({each.target(event(id=n), "ops", "default").group_key for n in range(3)}) == 3
