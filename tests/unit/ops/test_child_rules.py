from __future__ import annotations

import json

import pytest

from ironclad.ops.child import Backoff, last_error, why

ERROR = json.dumps({"event": "service_failed", "error": {"code": "E_X", "what": "What.", "detail": "detail"}})


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(first_seconds=0.5, most_seconds=30.0)
    assert [backoff.delay(n) for n in (1, 2, 3, 7, 100, 10_000)] == [0.5, 1.0, 2.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("code", "tail", "expected"),
    [
        (1, (), "exit code 1"),
        (1, ("first", "last", " "), "exit code 1: last"),
        (-9, ("last",), "killed by SIGKILL"),
        (-250, ("last",), "exit code -250: last"),
        (None, (), "it died"),
        (78, ("{not json}", ERROR, '{"event": "later"}', "text"), "E_X: What. detail"),
    ],
)
def test_why_a_process_ended_in_one_line(code: int | None, tail: tuple[str, ...], expected: str) -> None:
    assert why(code, tail) == expected


def test_the_last_error_of_a_log_is_found() -> None:
    assert last_error((ERROR,)) == {"code": "E_X", "what": "What.", "detail": "detail"}
    assert last_error(("text", '{"error": "a string"}', "{broken")) is None
