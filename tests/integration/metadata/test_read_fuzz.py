"""Damaged files of every kind: always an answer, never an exception."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from ironclad.metadata.caps import Caps
from ironclad.metadata.read import Reading
from ironclad.metadata.read_child import read_file
from ironclad.metadata.write import FORMATS, write_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ironclad.metadata.model import Picture, TrackTags

ROUNDS = 60


def damaged(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    match rng.randrange(4):
        case 0:  # bits in the first kilobytes, where tags are
            for _ in range(rng.randrange(1, 40)):
                data[rng.randrange(min(len(data), 6000))] = rng.randrange(256)
        case 1:  # bits anywhere
            for _ in range(rng.randrange(1, 40)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        case 2:
            del data[rng.randrange(len(data)) :]
        case _:  # a piece repeated or lost
            start, size = rng.randrange(len(data)), rng.randrange(1, 400)
            data[start : start + size] = data[start : start + size] * rng.choice([0, 2])
    return bytes(data)


@pytest.mark.parametrize("name", sorted({*FORMATS, "wma", "wv", "aiff", "aac"}))
def test_damage_is_survived(
    name: str, audio: Callable[..., Path], full_tags: TrackTags, pictures: tuple[Picture, ...], tmp_path: Path
) -> None:
    path = audio(name)
    if name in FORMATS:
        write_tags(path, full_tags, pictures)
    good = path.read_bytes()
    rng = random.Random(f"tags of {name}")  # noqa: S311 -- reproducible, not secret
    for _ in range(ROUNDS):
        path.write_bytes(damaged(good, rng))
        reading = Reading.from_dict(read_file(path, tmp_path, Caps()), tmp_path)
        assert Reading.from_dict(reading.to_dict(), tmp_path) == reading
