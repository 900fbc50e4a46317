"""A small published library, and command lines on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from command_line import run_command
from stage_contexts import claimed, published_job

from ironclad.metadata.model import Picture, PictureType, TrackTags

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from typer.testing import Result

    from ironclad.config import Settings
    from ironclad.db.session import Database

Run = Callable[..., "Result"]
Publish = Callable[..., "UUID"]


@pytest.fixture
def run(environment: dict[str, str], settings: Settings) -> Run:
    """`run("library", "lint", IRONCLAD_X="…")` on the test's installation; None takes a variable away."""

    def invoke(*arguments: object, **more: str | None) -> Result:
        return run_command({**environment, **more}, *arguments)

    return invoke


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory, make_song: Callable[..., Path]) -> Path:
    return make_song(tmp_path_factory.mktemp("songs") / "song.flac", 1.0)


@pytest.fixture
def publish(database: Database, settings: Settings, song: Path, tmp_path: Path) -> Publish:
    """`publish(2, title="…", kinds=…)`: a succeeded job with track 2 of Ana's Colours in the library."""

    def go(number: int, *, kinds: tuple[str, ...] = ("instrumental",), **tags: Any) -> UUID:
        values = {
            "title": f"Song {number}", "artists": ("Ana",), "album_artists": ("Ana",), "album": "Colours",
            "date": "2020", "track": number, **tags,
        }  # fmt: skip
        front = Picture(PictureType.FRONT_COVER, "image/png", "", 1, 1, data=b"png")
        work = tmp_path / f"job-{values['title']}-{number}"
        claim = claimed(database, settings, work / "in.flac")
        return published_job(database, settings, claim, work, TrackTags(**values), song, (front,), kinds=kinds)

    return go
