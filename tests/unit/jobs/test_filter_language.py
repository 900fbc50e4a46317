"""The filter language: what it understands, and where it points when it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.jobs.search import TEXT, Filter, FilterError, Term, parse

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("   ", ()),
        ("blue", (Term(TEXT, ("blue",)),)),
        ('"kind of blue"', (Term(TEXT, ("kind of blue",)),)),
        ("state:failed", (Term("state", ("failed",)),)),
        ("STATE:Failed,queued", (Term("state", ("failed", "queued")),)),
        ('-user:ana title:"a, b"', (Term("user", ("ana",), negated=True), Term("title", ("a, b",)))),
        ('artist:"Miles Davis"', (Term("artist", ("Miles Davis",)),)),
        ("error:e_not_audio", (Term("error", ("E_NOT_AUDIO",)),)),
        ("error:Input", (Term("error", ("input",)),)),
        ("held:yes", (Term("held", (True,)),)),
        ("since:2d", (Term("since", (datetime(2026, 3, 2, 5, 6, 7, tzinfo=UTC),)),)),
        ("until:2026-01-31", (Term("until", (datetime(2026, 1, 31, tzinfo=UTC),)),)),
        ("https://x.org/a", (Term(TEXT, ("https://x.org/a",)),)),
        ("id:ABCD12", (Term("id", ("abcd12",)),)),
        ("AC/DC 10:15", (Term(TEXT, ("AC/DC",)), Term(TEXT, ("10:15",)))),
    ],
)
def test_what_is_understood(text: str, terms: tuple[Term, ...]) -> None:
    assert parse(text, NOW) == Filter(terms, text.strip())


@pytest.mark.parametrize(
    ("text", "position", "part"),
    [
        ("blue stat:failed", 5, "Did you mean state?"),
        ("zzzzzz:1", 0, "There is state, user"),
        ("state:faled", 6, "Did you mean failed?"),
        ("user:ana state:x", 15, "There is received"),
        ('title:"kind of', 6, "not closed"),
        ("state: failed", 0, "needs a value"),
        ("state:,", 6, "needs a value"),
        ("blue -", 5, "empty term"),
        ('""', 0, "empty term"),
        ("since:yesterday", 6, "is no time"),
        ("since:999999w", 6, "is no time"),
        ("held:maybe", 5, "There is no held"),
        ("stage:seperate", 6, "Did you mean separate?"),
        ("id:xyz", 3, "no part of a job id"),
        ("a" * 501, 500, "longer than 500"),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, position: int, part: str) -> None:
    with pytest.raises(FilterError) as raised:
        parse(text, NOW)
    assert raised.value.position == position
    assert part in str(raised.value)
    assert raised.value.pointer() == " " * position + "^"
    assert raised.value.code == "E_BAD_REQUEST"


@given(st.text(max_size=60))
def test_any_text_is_understood_or_pointed_at(text: str) -> None:
    wrong: FilterError | None = None
    found = Filter()
    try:
        found = parse(text, NOW)
    except FilterError as exc:
        wrong = exc
    assert all(term.values for term in found.terms)
    assert wrong is None or 0 <= wrong.position <= len(text)
