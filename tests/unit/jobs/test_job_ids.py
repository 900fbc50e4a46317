from __future__ import annotations

import itertools
import re
import time
from typing import TYPE_CHECKING

from ironclad.jobs import ids
from ironclad.jobs.ids import trace_id, uuid7

if TYPE_CHECKING:
    import pytest


def test_a_job_id_is_a_uuid_of_version_7_that_tells_its_time() -> None:
    before = time.time_ns() // 1_000_000
    value = uuid7()
    after = time.time_ns() // 1_000_000
    assert (value.version, value.variant) == (7, "specified in RFC 4122")
    assert before <= value.int >> 80 <= after


def test_ids_are_ordered_within_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = 1_790_000_000_000 * 1_000_000
    found = []
    for step in range(0, 1_000_000, 300):  # every 300 ns
        monkeypatch.setattr(ids.time, "time_ns", lambda step=step: begin + step)
        found.append(uuid7())
    assert found == sorted(found)
    assert len({value.int >> 80 for value in found}) == 1
    assert all(value.version == 7 for value in found)


def test_ids_of_one_instant_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_790_000_000_000_999_999)
    found = [uuid7() for _ in range(1000)]
    assert len(set(found)) == 1000
    assert {value.int >> 64 for value in found} == {found[0].int >> 64}


def test_ids_made_one_after_the_other_are_mostly_in_order() -> None:
    found = [uuid7() for _ in range(2000)]
    swapped = sum(a > b for a, b in itertools.pairwise(found))
    assert swapped < 20  # two within a quarter of a microsecond


def test_a_trace_id_is_32_digits_and_never_zero() -> None:
    found = {trace_id() for _ in range(500)}
    assert len(found) == 500
    assert all(re.fullmatch(r"[0-9a-f]{32}", value) and set(value) != {"0"} for value in found)
