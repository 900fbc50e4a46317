from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.db.jsonb import dumps, plain, text
from ironclad.jobs.states import JobState


@dataclass
class Point:
    x: float
    name: str


class OnlyList:
    def tolist(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        (float("nan"), None),
        (float("-inf"), None),
        (np.float32(0.5), 0.5),
        (np.float64("inf"), None),
        (np.int64(2**40), 2**40),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (Decimal("1.5"), "1.5"),
        (JobState.QUEUED, "queued"),
        (Path("/a/b"), "/a/b"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        ((1, "a"), [1, "a"]),
        ({1}, [1]),
        (b"a\xffb", "a\\xffb"),
        ({Path("/k"): {"deep": np.float32(1)}}, {"/k": {"deep": 1.0}}),
        (Point(1.0, "p"), {"x": 1.0, "name": "p"}),
        (OnlyList(), True),
    ],
)
def test_every_type_has_its_plain_form(value: object, expected: object) -> None:
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)
    assert json.loads(dumps(value)) == expected


def test_a_class_is_named_not_taken_apart() -> None:
    assert "Point" in plain(Point)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("Björk 🎵", "Björk 🎵"),
        ("a\x00b", "a\\x00b"),
        (os.fsdecode(b"caf\xe9.mp3"), "caf\\xe9.mp3"),
        ("lone \ud800", "lone \\ud800"),
        ("both \x00 \udcff \ud800", "both \\x00 \\udcff \\ud800"),
    ],
)
def test_text_that_postgres_refuses_is_escaped(value: str, expected: str) -> None:
    assert text(value) == expected


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_storable(value: str) -> None:
    stored = text(value)
    assert stored.encode("utf-8").decode("utf-8") == stored
    assert "\x00" not in stored
    assert text(stored) == stored
