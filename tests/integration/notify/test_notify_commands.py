"""`ironclad notify …` on a real database and a real server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from command_line import run_command
from sinks import Answer, HttpSink

from ironclad.cli.commands.notify import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Desk = Any
EACH = [{"channels": ["ops"], "group_by": ["..."], "group_wait_seconds": 0}]


@pytest.fixture
def http() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


@pytest.fixture
def run(environment: dict[str, str], http: HttpSink) -> Callable[..., Any]:
    """`run("list")`: what `ironclad notify list --json` prints; with `fails=…`, its exit code and what it said."""

    def invoke(*arguments: object, fails: bool = False) -> Any:
        channel = {"IRONCLAD_NOTIFY__CHANNELS__OPS__URL": http.json_url}
        result = run_command({**environment, **channel}, "notify", *arguments, "--json")
        if fails:
            return result.exit_code, result.stderr
        assert result.exit_code == 0, result.stderr
        data = json.loads(result.stdout)
        words = [str(word) for word in arguments]
        known = next(JSON[name] for name in JSON if words[: name.count(" ")] == name.split(" ")[1:])
        assert set(data) == set(known)
        return data

    return invoke


def test_a_channel_is_tried_for_real(run: Callable[..., Any], http: HttpSink) -> None:
    assert run("test", "ops")["answer"] == "HTTP 200"
    assert http.received[0].json["title"] == "[TEST] Ironclad can reach you"
    http.decide = lambda: Answer(503)
    code, said = run("test", "ops", fails=True)
    assert (code, "HTTP 503" in said) == (4, True)
    assert run("test", "nobody", fails=True)[0] == 5


def test_alerts_are_listed_shown_and_acknowledged(run: Callable[..., Any], desk: Callable[..., Desk]) -> None:
    here = desk()
    here.publish("disk_low", "disk", data={"detail": "no room"})
    here.publish()
    here.plan()
    here.plan(30)
    found = run("list")
    assert {alert["key"] for alert in found["alerts"]} == {"disk", "job_failed:2"}
    assert found["overview"]["firing"] == 2
    shown = run("show", "disk")
    assert shown["alert"]["data"]["detail"] == "no room"
    assert [(row["channel"], row["state"]) for row in shown["told"]] == [("ops", "told")]
    assert run("ack", "disk") == {"acknowledged": "disk"}
    assert run("list")["alerts"][0]["acked_by"] or run("list")["alerts"][1]["acked_by"]
    assert run("show", "nothing", fails=True)[0] == 5


def test_of_what_changed_very_often_the_latest_is_shown(run: Callable[..., Any], desk: Callable[..., Desk]) -> None:
    here = desk()
    first = here.publish("disk_low", "disk")
    here.rows(
        "INSERT INTO notice (kind, alert, status, severity) SELECT kind, alert, status, severity FROM notice "
        "CROSS JOIN generate_series(1, 250) WHERE id = :first",
        first=first,
    )
    last = here.publish("disk_low", "disk", "resolved")
    here.plan()
    shown = [row["id"] for row in run("show", "disk")["told"]]
    assert len(shown) == 200
    assert shown == sorted(shown)
    assert shown[-1] == last


def test_silences_come_and_go(run: Callable[..., Any], desk: Callable[..., Desk]) -> None:
    assert desk() is not None
    number = run("silence", "add", "code=E_NOT_*", "user=ana", "--for", "2h", "--comment", "known")["silence"]
    (silence,) = run("silence", "list")["silences"]
    assert silence["matchers"] == {"code": "E_NOT_*", "user": "ana"}
    assert run("silence", "remove", number) == {"removed": number}
    assert run("silence", "list")["silences"] == []
    assert run("silence", "remove", number, fails=True)[0] == 5
    for wrong in (["code"], ["=x"], ["code="]):
        assert run("silence", "add", *wrong, "--for", "2h", fails=True)[0] == 2
    assert run("silence", "add", "code=x", "--for", "2999-01-01", fails=True)[0] == 2


def test_dead_letters_are_listed_sent_again_and_dropped(
    run: Callable[..., Any], desk: Callable[..., Desk], http: HttpSink
) -> None:
    http.decide = lambda: Answer(404)
    here = desk(channels={"ops": {"url": http.json_url, "rate_per_minute": 6000}}, routes=EACH)
    here.publish()
    here.publish()
    here.plan()
    courier = here.courier("ops")
    courier.deliver()
    courier.deliver()
    found = run("dead", "list")["messages"]
    assert [letter["answer"] for letter in found] == ["HTTP 404 Not Found"] * 2
    assert run("dead", "drop", found[0]["message_uuid"]) == {"dropped": 1}
    assert run("dead", "resend", fails=True)[0] == 2
    assert run("dead", "resend", "--all", "--channel", "nobody", fails=True)[0] == 2
    assert run("dead", "resend", "--all") == {"resent": 1}
    http.decide = Answer
    here.later(3600)  # the command goes by the real clock
    assert courier.deliver().outcome == "sent"
    assert run("dead", "list")["messages"] == []


def test_without_a_channel_it_does_not_promise_to_send(environment: dict[str, str], desk: Callable[..., Desk]) -> None:
    desk().publish("disk_low", "disk", data={"name": "pipeline-data", "detail": "no room"})
    assert "1 wait to be sent" in (said := run_command(environment, "notify", "list").stdout)
    assert "No channel is set" in said
    with_one = {**environment, "IRONCLAD_NOTIFY__CHANNELS__ME__URL": "json://127.0.0.1:9/"}
    assert "No channel is set" not in run_command(with_one, "notify", "list").stdout


def test_it_reads_well_without_json(environment: dict[str, str], desk: Callable[..., Desk]) -> None:
    here = desk()
    here.publish("disk_low", "disk", data={"name": "pipeline-data", "detail": "no room"})
    here.plan()
    listed = run_command(environment, "notify", "list").stdout
    assert "pipeline-data" in listed
    assert "critical" in listed
    assert "There is no silence." in run_command(environment, "notify", "silence", "list").stdout
    assert "no room" in run_command(environment, "notify", "show", "disk").stdout
