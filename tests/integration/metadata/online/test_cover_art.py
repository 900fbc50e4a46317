from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ironclad.errors import MetadataServiceUnavailable
from ironclad.metadata.cache import FileCache
from ironclad.metadata.coverart import Archive, CoverArt
from ironclad.metadata.model import PictureType
from ironclad.metadata.rate import FileGate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ironclad.metadata.http import Manners


@pytest.fixture
def covers(service: Any, manners: Manners, tmp_path: Path, jpeg: bytes) -> Iterator[Callable[[], CoverArt]]:
    service.cover = jpeg
    made: list[CoverArt] = []

    def make() -> CoverArt:
        made.append(
            CoverArt(Archive(service.url, manners=manners), FileGate(tmp_path / "gate"), FileCache(tmp_path / "art"))
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_front_cover_of_a_release(covers: Callable[[], CoverArt], service: Any, jpeg: bytes) -> None:
    picture = covers().front(album_id="r1", release_group_id="rg1")
    assert picture is not None
    assert (picture.type, picture.mime, picture.width, picture.data) == (
        PictureType.FRONT_COVER,
        "image/jpeg",
        64,
        jpeg,
    )
    assert [asked.path for asked in service.asked] == ["/release/r1/front-1200"]


def test_else_that_of_its_group_and_misses_are_kept(covers: Callable[[], CoverArt], service: Any) -> None:
    for _ in range(2):
        assert covers().front(album_id="none", release_group_id="rg1") is not None
    assert [asked.path for asked in service.asked] == ["/release/none/front-1200", "/release-group/rg1/front-1200"]
    assert covers().front(album_id="none") is None
    assert covers().front() is None
    assert len(service.asked) == 2


def test_an_id_that_cannot_be_one_is_not_asked_for(covers: Callable[[], CoverArt], service: Any) -> None:
    assert covers().front(album_id="x" * 100_000, release_group_id="rg1") is not None
    assert [asked.path for asked in service.asked] == ["/release-group/rg1/front-1200"]


@pytest.mark.parametrize("fault", ["503", "cut", "half", "html"])
def test_a_fault_is_asked_again(fault: str, covers: Callable[[], CoverArt], service: Any) -> None:
    service.faults.append(fault)
    assert covers().front(album_id="r1") is not None
    assert len(service.asked) == 2


def test_what_is_no_picture_is_no_cover(covers: Callable[[], CoverArt], service: Any) -> None:
    service.cover = b"<html>moved</html>"
    with pytest.raises(MetadataServiceUnavailable, match="picture"):
        covers().front(album_id="r1")
