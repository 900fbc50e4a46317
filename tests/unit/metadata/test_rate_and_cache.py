from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ironclad.errors import Cancelled, IroncladError
from ironclad.metadata.cache import Cached, FileCache
from ironclad.metadata.rate import FileGate, wait

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_points_in_time_are_an_interval_apart(tmp_path: Path) -> None:
    clock = Clock()
    one, other = (FileGate(tmp_path / "gate", clock=clock) for _ in range(2))
    assert [one.reserve(1), other.reserve(1), one.reserve(1)] == [0, 1, 2]
    clock.now += 10
    assert other.reserve(1) == 0


@pytest.mark.parametrize("content", ["", "nonsense", "nan", "inf", "99999999999"])
def test_a_broken_gate_opens(content: str, tmp_path: Path) -> None:
    (tmp_path / "gate").write_text(content)
    gate = FileGate(tmp_path / "gate", clock=Clock())
    assert gate.reserve(1) == 0
    assert gate.reserve(1) == 1


def test_a_gate_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(IroncladError):
        FileGate(tmp_path / "missing" / "gate").reserve(1)


def test_waiting_sleeps_in_steps_and_can_be_stopped() -> None:
    slept: list[float] = []

    def check() -> None:
        if len(slept) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        wait(100, check, sleep=slept.append)
    assert len(slept) == 3
    assert max(slept) <= 0.1
    wait(0, check)
    wait(-1, check)


def test_answers_and_misses_are_kept_until_they_expire(tmp_path: Path) -> None:
    clock = Clock()
    cache = FileCache(tmp_path, clock=clock)
    assert cache.get("a") is None
    cache.put("a", b"answer", seconds=10)
    cache.put("b", None, seconds=5)
    assert (cache.get("a"), cache.get("b")) == (Cached(b"answer"), Cached(None))
    clock.now += 6
    assert (cache.get("a"), cache.get("b")) == (Cached(b"answer"), None)
    cache.put("a", b"", seconds=10)
    assert cache.get("a") == Cached(b"")
    clock.now += 11
    assert cache.get("a") is None


@pytest.mark.parametrize("damage", ["note", "content", "no content", "other key"])
def test_a_damaged_entry_is_a_miss(damage: str, tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put("a", b"answer", seconds=100)
    (note,) = tmp_path.rglob("*.json")
    content = note.with_suffix(".bin")
    match damage:
        case "note":
            note.write_bytes(note.read_bytes()[:10])
        case "content":
            content.write_bytes(b"answe")
        case "no content":
            content.unlink()
        case _:
            note.write_text(note.read_text().replace('"a"', '"b"'))
    assert cache.get("a") is None
