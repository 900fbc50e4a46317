from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ironclad.metadata.model import Picture, PictureType, Problem, SyncedLine, TrackTags
from ironclad.metadata.report import Loss

if TYPE_CHECKING:
    from pathlib import Path


def test_tags_survive_json() -> None:
    tags = TrackTags(
        title="T", artists=("a", "b"), track=0, compilation=True, synced_lyrics=(SyncedLine(5, "x"),),
        extra={"K": ("v", "w")},
    )  # fmt: skip
    data = json.loads(json.dumps(tags.to_dict()))
    assert TrackTags.from_dict(data) == tags
    assert set(data) == {"schema_version", "title", "artists", "track", "compilation", "synced_lyrics", "extra"}


@pytest.mark.parametrize(
    "data", [{}, {"schema_version": 99}, {"schema_version": "1"}, {"schema_version": 1, "tittle": "x"}]
)
def test_other_data_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"schema|tittle"):
        TrackTags.from_dict(data)


def test_display_artist() -> None:
    assert TrackTags(artists=("a", "b")).display_artist == "a, b"
    assert TrackTags().display_artist == ""


def test_a_picture_moves_into_a_file_and_back(tmp_path: Path) -> None:
    picture = Picture(PictureType.FRONT_COVER, "image/png", "d", 3, 2, data=b"bytes")
    with pytest.raises(ValueError, match="file"):
        picture.to_dict()
    stored = picture.stored(tmp_path / "picture-00.png")
    assert stored.data == b""
    assert stored.content() == b"bytes"
    data = json.loads(json.dumps(stored.to_dict()))
    assert Picture.from_dict(data, tmp_path) == stored


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "a/b", "", "."])
def test_a_picture_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    data = {"type": 3, "mime": "image/png", "description": "", "width": 1, "height": 1, "file": name}
    with pytest.raises(ValueError, match="not the name"):
        Picture.from_dict(data, tmp_path)


def test_a_picture_without_bytes_says_so() -> None:
    with pytest.raises(ValueError, match="neither"):
        Picture(PictureType.OTHER, "image/png").content()


def test_unknown_picture_types_are_other() -> None:
    assert PictureType.of(200) is PictureType.OTHER
    assert PictureType.of(-1) is PictureType.OTHER
    assert PictureType.of(3) is PictureType.FRONT_COVER


def test_problems_and_losses_survive_json() -> None:
    problem = Problem("code", "KEY", "detail")
    assert Problem.from_dict(json.loads(json.dumps(problem.to_dict()))) == problem
    loss = Loss("KEY", "reason", "v" * 500)
    assert len(loss.value) == 120
    assert Loss.from_dict(json.loads(json.dumps(loss.to_dict()))) == loss
