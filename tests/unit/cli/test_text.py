from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.cli import text
from ironclad.errors import BadRequest

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@given(st.text(st.characters()))
def test_nothing_that_steers_a_terminal_comes_through(value: str) -> None:
    shown = text.printable(value)
    assert not any(unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} for one in shown)
    assert not any(one in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c" for one in shown)
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("line\nbreak", "line\\nbreak"),
        ("\udcff", "\\udcff"),
        ("evil\u202egpj.mp3", "evil\\u202egpj.mp3"),
        ("Café ☕ 日本 [bold]", "Café ☕ 日本 [bold]"),
    ],
)
def test_harmful_characters_are_shown_as_escapes_and_all_others_stay(raw: str, shown: str) -> None:
    assert text.printable(raw) == shown


def test_line_ends_stay_where_lines_are_meant() -> None:
    assert text.printable("a\n  - b\x07", lines=True) == "a\n  - b\\x07"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (42, "42 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"),
        (7800, "2 h 10 min"), (273600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_are_as_long_as_people_need(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("delta", "shown"),
    [
        (timedelta(seconds=0.4), "now"), (timedelta(seconds=12), "12 s ago"), (timedelta(minutes=61), "1 h ago"),
        (timedelta(minutes=5), "5 min ago"), (timedelta(days=3), "3 d ago"), (-timedelta(seconds=5), "in 5 s"),
    ],
)  # fmt: skip
def test_times_are_told_from_now(delta: timedelta, shown: str) -> None:
    assert text.ago(NOW - delta, NOW) == shown


def test_never_is_a_dash() -> None:
    assert text.ago(None) == "-"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_256_427, "1.3 MB"), (5e12, "5.0 TB"), (5e15, "5000.0 TB")],
)  # fmt: skip
def test_sizes_have_decimal_units(count: float, shown: str) -> None:
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("since", "at"),
    [
        ("15m", NOW - timedelta(minutes=15)), ("2H", NOW - timedelta(hours=2)), ("3 d", NOW - timedelta(days=3)),
        ("1w", NOW - timedelta(weeks=1)), ("90s", NOW - timedelta(seconds=90)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:00+01:00", datetime(2026, 1, 31, 9, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_a_moment_is_a_time_ago_or_a_date(since: str, at: datetime) -> None:
    assert text.parse_since(since, NOW) == at


@pytest.mark.parametrize("since", ["", "yesterday", "3y", "-2h", "99999999999999999999d"])
def test_what_is_no_time_is_refused_with_examples(since: str) -> None:
    with pytest.raises(BadRequest, match="15m, 2h, 3d"):
        text.parse_since(since, NOW)


def test_short_ids_are_the_end_that_commands_accept() -> None:
    assert text.short_id("01a2035f-8f76-7664-9c35-636d89bcf644") == "89bcf644"


@pytest.mark.parametrize(
    ("until", "at"),
    [
        ("12h", NOW + timedelta(hours=12)),
        ("90d", NOW + timedelta(days=90)),
        ("2030-01-31", datetime(2030, 1, 31, tzinfo=UTC)),
    ],
)
def test_a_time_to_come(until: str, at: datetime) -> None:
    assert text.parse_until(until, NOW) == at


@pytest.mark.parametrize("until", ["", "soon", "0d", "2026-02-28", "999999999999w"])
def test_what_is_past_or_no_time_is_refused(until: str) -> None:
    with pytest.raises(BadRequest):
        text.parse_until(until, NOW)


@pytest.mark.parametrize(("number", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1200, "1,200 files")])
def test_a_number_of_things(number: int, said: str) -> None:
    assert text.counted(number, "file") == said
