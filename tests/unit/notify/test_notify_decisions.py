"""The pure parts: words, schedules, matching, redaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.config import load
from ironclad.errors import ConfigError
from ironclad.jobs.notices import Severity, Status
from ironclad.notify import observe, schedule
from ironclad.notify.contract import Channel
from ironclad.notify.model import Event, matches
from ironclad.notify.muting import Muting, Silence
from ironclad.notify.redaction import redacted
from ironclad.notify.wording import compose
from ironclad.sections import InhibitSettings

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def event(number: int = 1, **fields: Any) -> Event:
    usual = {
        "id": number, "at": NOW, "kind": "job_failed", "alert": f"job:{number}", "status": Status.FIRING,
        "severity": Severity.ERROR, "labels": {"stage": "separate"}, "data": {},
    }  # fmt: skip
    return Event(**{**usual, **fields})


# --- words -----------------------------------------------------------------------------------------------------------


def test_a_message_says_what_why_what_to_do_and_the_command() -> None:
    data = {"code": "E_STALLED", "name": "Ana - Blue", "detail": "no sign of life", "job_uuid": "0192-aaaa-bbbbcccc"}
    words = compose([event(data=data)])
    assert words.title == "[ERROR] 1 job failed"
    for part in ("E_STALLED at separate", "made no progress", "What to do: Raise engine.stall_seconds", "Ana - Blue",
                 "no sign of life", "ironclad jobs show bbbbcccc", "ironclad retry"):  # fmt: skip
        assert part in words.text, part
    assert "<code>ironclad jobs show bbbbcccc</code>" in words.html
    assert words.firing


def test_a_storm_is_summed_up() -> None:
    events = [event(n, data={"code": "E_STALLED" if n % 3 else "E_NOT_AUDIO", "name": f"song {n}"}) for n in range(900)]
    words = compose(events)
    assert words.title == "[ERROR] 900 jobs failed"
    assert "600 times E_STALLED" in words.text
    assert "300 times E_NOT_AUDIO" in words.text
    assert "and 597 more" in words.text
    assert len(words.text) < 3000
    assert len(words.records) == 50


@given(st.text(max_size=400))
def test_whatever_a_file_is_called_it_does_no_harm(name: str) -> None:
    words = compose([event(data={"name": name, "code": "E_STALLED", "detail": name})])
    for text in (words.title, words.text, words.markdown):
        assert "@everyone" not in text
        assert "<!channel>" not in text
    assert "<script" not in words.html
    assert all(char == "\n" or char.isprintable() or ord(char) > 0x9F for char in words.text)
    words.text.encode()


def test_markup_of_a_name_is_taken_literally() -> None:
    words = compose([event(data={"name": "<b>*bold*</b> @everyone <!channel> `x"})])
    assert "<b>*bold*</b>" not in words.html
    assert "\\*bold\\*" in words.markdown
    assert "@everyone" not in words.text


def test_good_news_looks_like_it() -> None:
    words = compose([event(status=Status.RESOLVED, kind="disk_low", severity=Severity.CRITICAL)])
    assert words.title.startswith("[RESOLVED] The disk is almost full")
    assert not words.firing


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "until"),
    [("21:59", None), ("22:00", "07:00"), ("23:30", "07:00"), ("06:59", "07:00"), ("07:00", None)],
)
def test_quiet_hours_over_midnight(clock: str, until: str | None) -> None:
    zone = ZoneInfo("Europe/Berlin")
    now = datetime.fromisoformat(f"2026-01-05T{clock}:00").replace(tzinfo=zone)
    end = schedule.quiet_until(now, "22:00-07:00", zone)
    assert (None if end is None else f"{end:%H:%M}") == until
    assert end is None or timedelta(0) < end - now < timedelta(hours=10)


def test_quiet_hours_of_a_day() -> None:
    assert schedule.quiet_until(NOW, "11:00-13:00", UTC) == NOW + timedelta(hours=1)
    assert schedule.quiet_until(NOW, "13:00-14:00", UTC) is None
    assert schedule.quiet_until(NOW, "", UTC) is None


@given(st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001 - made aware
def test_a_digest_comes_after_what_it_tells_and_soon_enough(moment: datetime) -> None:
    zone = ZoneInfo("Europe/Berlin")
    for digest, longest in (("hourly", 1), ("daily", 25)):
        due = schedule.next_digest(moment, digest, "08:00", zone)
        assert timedelta(0) < due - moment <= timedelta(hours=longest)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_the_rate_is_never_exceeded(gaps: list[float]) -> None:
    now, arrival, sent = NOW, None, []
    for gap in gaps:
        now += timedelta(seconds=gap)
        arrival, wait = schedule.admit(arrival, now, 6.0, 3)
        if not wait:
            sent.append(now)
    for begin in sent:
        within = [one for one in sent if begin <= one < begin + timedelta(seconds=60)]
        assert len(within) <= 6 + 3


@given(st.integers(1, 200))
def test_delays_grow_and_are_bounded(failures: int) -> None:
    low = schedule.backoff(failures, 5.0, 3600.0, lambda low, _high: low)
    high = schedule.backoff(failures, 5.0, 3600.0, lambda _low, high: high)
    assert 2.5 <= low <= high <= 3600.0
    assert high == 2 * low


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120.0), (" 0 ", 0.0), ("Mon, 05 Jan 2026 12:01:00 GMT", 60.0), ("soon", None), ("", None)],
)
def test_both_forms_of_retry_after(value: str, seconds: float | None) -> None:
    assert observe.parse_retry_after(value, NOW) == seconds


# --- what is muted ---------------------------------------------------------------------------------------------------


def test_a_silence_without_patterns_silences_nothing() -> None:
    assert not matches({}, {"kind": "job_failed"})
    assert Muting([Silence(1, {}, NOW)], [], {}).reason(event()) is None


def test_an_alert_that_matches_both_sides_does_not_hold_itself_or_its_like_back() -> None:
    rule = InhibitSettings(source={"kind": "disk_low"}, target={"kind": "disk_*"})
    firing = {key: {"kind": "disk_low", "alert": key} for key in ("a", "b")}
    muting = Muting([], [rule], firing)
    assert muting.reason(event(kind="disk_low", alert="a")) is None
    assert muting.reason(event(kind="disk_slow", alert="c")) == "inhibited by a"


def test_labels_that_must_be_equal() -> None:
    rule = InhibitSettings(source={"kind": "disk_low"}, target={"kind": "job_*"}, equal=("host",))
    muting = Muting([], [rule], {"a": {"kind": "disk_low", "host": "one"}})
    assert muting.reason(event(labels={"host": "one"})) == "inhibited by a"
    assert muting.reason(event(labels={"host": "two"})) is None


# --- secrets and settings --------------------------------------------------------------------------------------------


def test_every_part_of_a_url_is_taken_out() -> None:
    channel = Channel(
        "ops", url="https://ana:pass%20word@host.example/T0KEN1/T0KEN2?key=s3cret99#frag9", secret="hmac-key"
    )
    said = "pass word and pass%20word for ana at host.example: T0KEN1 T0KEN2 s3cret99 frag9 hmac-key https://other/x"
    assert redacted(said, channel) == "*** and *** for ana at ***: *** *** *** *** *** ***"
    assert "pass" not in repr(channel)
    assert "hmac-key" not in repr(channel)


def settings(**environ: str) -> Any:
    return load(environ={f"IRONCLAD_NOTIFY__{name}": value for name, value in environ.items()}).notify


def test_a_url_comes_from_the_environment_and_is_not_shown() -> None:
    found = settings(CHANNELS__OPS__URL="json://host/secret")
    assert found.channels["ops"].url.get_secret_value() == "json://host/secret"
    assert "secret/" not in repr(found)
    assert "json://host" not in repr(found)


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ('[{"channels": []}]', "has no channels"),
        ('[{"channels": ["opps"]}]', "which is no channel; there is ops"),
        ('[{"channels": ["ops"], "escalate_to": ["pager"]}]', "names pager"),
    ],
)
def test_an_empty_or_wrong_list_of_channels_is_an_error(routes: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(CHANNELS__OPS__URL="json://host/", ROUTES=routes)


def test_a_time_zone_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ConfigError, match="timezone"):
        settings(TIMEZONE="Europe/Atlantis")
