"""Delivery to real servers: what comes back, what is tried again and when, what is a dead letter; never a secret."""

from __future__ import annotations

import io
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sinks import Answer, HttpSink, MailSink

from ironclad.notify import courier as courier_module
from ironclad.notify import queue, through_apprise, webhook
from ironclad.notify.contract import NotDelivered
from ironclad.notify.courier import Courier, Delivery, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Desk = Any
EACH = [{"channels": ["ops"], "group_by": ["..."], "group_wait_seconds": 0}]


@pytest.fixture
def http() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


@pytest.fixture
def mail() -> Iterator[MailSink]:
    with MailSink() as sink:
        yield sink


def channel(url: str, **more: Any) -> dict[str, Any]:
    return {"ops": {"url": url, "rate_per_minute": 6000, "burst": 100, "timeout_seconds": 60, **more}}


def one(here: Desk, count: int = 1) -> Courier:
    for _ in range(count):
        here.publish()
    here.plan()
    courier: Courier = here.courier("ops")
    return courier


def test_an_http_service_gets_the_words(desk: Callable[..., Desk], http: HttpSink) -> None:
    here = desk(channels=channel(http.json_url), routes=EACH)
    assert one(here).deliver() == Delivery("sent", "HTTP 200")
    (call,) = http.received
    assert call.json["title"] == "[ERROR] 1 job failed"
    assert "event-000001" in call.json["message"]
    assert call.json["type"] == "failure"
    assert [row.state for row in here.messages()] == ["sent"]


def test_a_mail_arrives(desk: Callable[..., Desk], mail: MailSink) -> None:
    here = desk(channels=channel(mail.mail_url), routes=EACH)
    assert one(here).deliver() == Delivery("sent", "accepted")
    (call,) = mail.received
    assert call.text.startswith("[ERROR] 1 job failed")
    assert "event-000001" in call.text


@pytest.mark.parametrize(
    ("status", "outcome"), [(503, "retry"), (429, "retry"), (408, "retry"), (401, "dead"), (404, "dead")]
)
def test_an_http_status_says_whether_trying_again_helps(
    desk: Callable[..., Desk], http: HttpSink, status: int, outcome: str
) -> None:
    http.decide = lambda: Answer(status)
    here = desk(channels=channel(http.json_url), routes=EACH)
    result = one(here).deliver()
    assert isinstance(result, Delivery)
    assert (result.outcome, result.answer.split(" ")[:2]) == (outcome, ["HTTP", str(status)])


@pytest.mark.parametrize(("status", "outcome"), [(451, "retry"), (554, "dead")])
def test_so_does_an_smtp_code(desk: Callable[..., Desk], mail: MailSink, status: int, outcome: str) -> None:
    mail.decide = lambda: Answer(status)
    here = desk(channels=channel(mail.mail_url), routes=EACH)
    result = one(here).deliver()
    assert isinstance(result, Delivery)
    assert result.outcome == outcome
    assert f"SMTP {status}" in result.answer


def test_nobody_there_is_tried_again_with_growing_delays(desk: Callable[..., Desk]) -> None:
    here = desk(channels=channel("json://127.0.0.1:9/"), routes=EACH, backoff_seconds=5, backoff_max_seconds=60)
    courier = one(here)
    waits = []
    for _ in range(6):
        result = courier.deliver()
        assert isinstance(result, Delivery)
        assert result.outcome == "retry"
        wait = courier.deliver()
        assert isinstance(wait, float)
        waits.append(round(wait))
        here.later(wait)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_a_service_that_asks_to_wait_is_obeyed_also_for_other_messages(
    desk: Callable[..., Desk], http: HttpSink
) -> None:
    http.decide = lambda: Answer(429, headers={"Retry-After": "120"})
    here = desk(channels=channel(http.json_url), routes=EACH)
    courier = one(here, 2)
    courier.deliver()
    assert courier.deliver() == pytest.approx(120)
    assert http.calls == 1
    http.decide = Answer
    here.later(121)
    assert courier.deliver() == Delivery("sent", "HTTP 200")


def test_after_the_last_attempt_it_is_a_dead_letter_and_other_channels_hear_of_it(
    desk: Callable[..., Desk], http: HttpSink
) -> None:
    http.decide = lambda: Answer(500)
    here = desk(
        channels={**channel(http.json_url), "pager": {"url": "json://127.0.0.1:9/"}}, attempts=2,
        routes=[*EACH, {"kinds": ["channel_failing"], "channels": ["ops", "pager"]}],
    )  # fmt: skip
    courier = one(here, 2)
    for _ in range(4):
        assert isinstance(courier.deliver(), Delivery)
        here.later(3600)
    assert [row.state for row in here.messages()] == ["dead", "dead"]
    told = here.plan(30)
    assert [(message.channel, message.events) for message in told] == [("pager", 1)]
    assert "Notifications could not be delivered (ops)" in told[0].title
    http.decide = Answer
    here.publish()
    here.plan()
    assert courier.deliver() == Delivery("sent", "HTTP 200")
    assert [message.title[:10] for message in here.plan(300)] == ["[RESOLVED]"]


def test_a_rate_is_kept_across_restarts(desk: Callable[..., Desk], http: HttpSink) -> None:
    here = desk(channels=channel(http.json_url, rate_per_minute=60, burst=2), routes=EACH)
    one(here, 4)
    assert isinstance(here.courier("ops").deliver(), Delivery)
    assert isinstance(here.courier("ops").deliver(), Delivery)
    assert here.courier("ops").deliver() == pytest.approx(1.0)
    here.later(1.0)
    assert isinstance(here.courier("ops").deliver(), Delivery)


def test_one_that_comes_back_from_the_dead_changes_nothing(desk: Callable[..., Desk], http: HttpSink) -> None:
    here = desk(channels=channel(http.json_url), routes=EACH)
    courier = one(here)
    with here.database.session() as session:
        zombie = queue.claim(session, "ops", here.settings.channels["ops"], here.now)
    assert isinstance(zombie, queue.Claimed)
    assert courier.deliver() is None  # it is on its way
    here.later(3600)
    assert courier.deliver() == Delivery("sent", "HTTP 200")
    with here.database.session() as session:
        assert not queue.sent(session, zombie, "HTTP 200", here.now)
    with here.database.session() as session:
        failure = queue.failed(session, zombie, _refused(), here.settings, here.now)
    assert failure == "lost"
    assert [(row.state, row.attempt) for row in here.messages()] == [("sent", 2)]


class Ear:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []

    def delivered(self, channel: str, seconds: float, events: int) -> None:
        raise AssertionError((channel, seconds, events))

    def refused(self, channel: str, outcome: str, answer: str) -> None:
        self.heard.append((channel, outcome, answer))


def _refused() -> Any:
    return NotDelivered("no", permanent=True)


def test_a_message_of_a_process_that_died_is_taken_at_once(desk: Callable[..., Desk], http: HttpSink) -> None:
    here = desk(channels=channel(http.json_url), routes=EACH)
    courier = one(here)
    with here.database.session() as session:
        queue.claim(session, "ops", here.settings.channels["ops"], here.now)
    here.rows("UPDATE message SET process = regexp_replace(process, '/[0-9]+$', '/1')")  # this pid, started otherwise
    assert courier.deliver() == Delivery("sent", "HTTP 200")


def test_a_service_that_hangs_is_no_endless_delivery_and_others_hear_of_it(desk: Callable[..., Desk]) -> None:
    here = desk(
        channels={**channel("json://127.0.0.1:9/"), "pager": {"url": "json://127.0.0.1:9/"}}, attempts=2,
        routes=[*EACH, {"kinds": ["channel_failing"], "channels": ["ops", "pager"]}],
    )  # fmt: skip
    ear = Ear()
    courier = here.courier("ops", ear=ear)
    here.publish()
    here.plan()
    for attempt in (1, 2):
        with here.database.session() as session:
            queue.take_back(session, "ops", here.settings, here.now)
            hanging = queue.claim(session, "ops", here.settings.channels["ops"], here.now)
        assert isinstance(hanging, queue.Claimed)
        assert hanging.message.attempt == attempt
        here.later(3600)
    assert courier.deliver() is None
    assert [(row.state, row.answer, row.attempt) for row in here.messages()] == [("dead", queue.UNANSWERED, 2)]
    assert ear.heard == [("ops", "dead", queue.UNANSWERED)]
    assert [message.channel for message in here.plan(30)] == ["pager"]


def test_a_message_that_ends_every_notifier_is_a_dead_letter(desk: Callable[..., Desk]) -> None:
    here = desk(channels=channel("json://127.0.0.1:9/"), routes=EACH, attempts=1)
    courier = one(here)
    with here.database.session() as session:
        queue.claim(session, "ops", here.settings.channels["ops"], here.now)
    here.rows("UPDATE message SET process = regexp_replace(process, '/[0-9]+$', '/1')")
    assert courier.deliver() is None
    assert [row.state for row in here.messages()] == ["dead"]


def test_the_webhook_is_signed_and_says_the_same_id_each_time(desk: Callable[..., Desk], http: HttpSink) -> None:
    http.decide = iter([Answer(503), Answer()]).__next__
    here = desk(channels=channel(http.url, type="webhook", secret="shared-secret"), routes=EACH)
    courier = one(here)
    courier.deliver()
    here.later(3600)
    assert courier.deliver() == Delivery("sent", "HTTP 200 OK")
    first, second = http.received
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == second.json["id"]
    assert (first.headers["X-Ironclad-Attempt"], second.headers["X-Ironclad-Attempt"]) == ("1", "2")
    stamp, given = second.headers[webhook.TIMESTAMP], second.headers[webhook.SIGNATURE]
    assert webhook.verify("shared-secret", stamp, second.body, given, now=float(stamp) + 299)
    assert not webhook.verify("shared-secret", stamp, second.body, given, now=float(stamp) + 301)
    assert not webhook.verify("shared-secret", str(int(stamp) + 1), second.body, given, now=float(stamp))
    assert not webhook.verify("shared-secret", stamp, second.body + b" ", given, now=float(stamp))
    assert not webhook.verify("other", stamp, second.body, given, now=float(stamp))
    assert second.json["alerts"][0]["data"]["name"] == "event-000001"


@pytest.mark.parametrize(
    "url",
    [
        "json://operator:hunter22secret@127.0.0.1:9/hook/T0KEN-abcdef?+X-Key=s3cr3t-header",
        "nonsense://hunter22secret/T0KEN-abcdef",
        "slack://T0KEN-abcdef/hunter22secret",
        "hunter22secret T0KEN-abcdef",
    ],
)
def test_no_secret_of_a_url_is_ever_said(
    desk: Callable[..., Desk], capfd: pytest.CaptureFixture[str], url: str
) -> None:
    log = io.StringIO()
    handler = logging.StreamHandler(log)  # not caplog: that one listens also where nothing is passed on
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        here = desk(channels=channel(url), routes=EACH, attempts=1)
        result = one(here).deliver()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert isinstance(result, Delivery)
    tables = ("message", "notify_channel", "notice")
    seen = [repr(here.rows(f"SELECT * FROM {table}")) for table in tables]
    seen += [result.answer, log.getvalue(), repr(here.settings), *capfd.readouterr()]
    for text in seen:
        for secret in ("hunter22secret", "T0KEN-abcdef", "s3cr3t-header"):
            assert secret not in text


def test_one_thing_that_cannot_be_sent_does_not_stop_the_next(desk: Callable[..., Desk], http: HttpSink) -> None:
    http.decide = iter([Answer(400), Answer()]).__next__
    here = desk(channels=channel(http.json_url), routes=EACH)
    courier = one(here, 2)
    results = [courier.deliver(), courier.deliver()]
    assert [result.outcome for result in results if isinstance(result, Delivery)] == ["dead", "sent"]


def test_a_slow_gateway_is_waited_for_as_long_as_the_channel_says(desk: Callable[..., Desk], http: HttpSink) -> None:
    def slow() -> Answer:
        time.sleep(4.5)  # longer than Apprise would wait by itself: the slowness is what is tested
        return Answer()

    http.decide = slow
    here = desk(channels=channel(http.json_url, timeout_seconds=60), routes=EACH)
    assert one(here).deliver() == Delivery("sent", "HTTP 200")


def test_a_mail_server_is_waited_for_as_long_too(
    desk: Callable[..., Desk], mail: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at each message before it takes it; whoever does not wait sends it again and again."""

    def slow() -> Answer:
        time.sleep(1.5)  # longer than there is to connect: the slowness is what is tested
        return Answer()

    monkeypatch.setattr(through_apprise, "_CONNECT_SECONDS", 0.5)
    mail.decide = slow
    here = desk(channels=channel(mail.mail_url, timeout_seconds=60), routes=EACH)
    result = one(here).deliver()
    assert isinstance(result, Delivery)
    assert (result.outcome, len(mail.received)) == ("sent", 1)


def test_a_courier_that_is_stopped_at_any_moment_ends_at_once(
    desk: Callable[..., Desk], http: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is between the question whether to go on and the wait for news."""
    monkeypatch.setattr(courier_module, "_IDLE_SECONDS", 3600.0)
    rounds: list[Round] = []
    made = threading.Event()

    class Stopping(threading.Event):
        def is_set(self) -> bool:
            answer = super().is_set()
            made.wait(60)
            self.set()  # somebody stops it right after it has asked
            rounds[0].wake()
            return answer

    here = desk(channels=channel(http.json_url), routes=EACH)
    rounds.append(Round(here.courier("ops"), Stopping()))
    made.set()
    assert rounds[0].join(60)
