from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from ironclad.errors import Cancelled
from ironclad.metadata.convert import cover_name, front_cover, portable
from ironclad.metadata.images import identify
from ironclad.metadata.model import Picture, PictureType

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Encode = Callable[[str, tuple[int, int]], bytes]

FRONT = PictureType.FRONT_COVER


@pytest.mark.parametrize(("codec", "mime"), [("libwebp", "image/webp"), ("gif", "image/gif"), ("bmp", "image/bmp")])
def test_other_kinds_become_jpeg(codec: str, mime: str, encode_image: Encode, tmp_path: Path) -> None:
    data = encode_image(codec, (50, 40))
    assert identify(data) is not None
    picture = Picture(FRONT, mime, "d", 50, 40, data=data)
    (converted,), (loss,) = portable([picture], tmp_path)
    info = identify(converted.content())
    assert info is not None
    assert (info.mime, info.width, info.height) == ("image/jpeg", 50, 40)
    assert (converted.type, converted.mime, converted.description) == (FRONT, "image/jpeg", "d")
    assert mime in loss.reason
    assert portable([picture], tmp_path)[0][0].content() == converted.content(), "same picture, same bytes"
    assert [path.name for path in tmp_path.iterdir()] == ["picture-00-converted.jpg"]


def test_jpeg_and_png_stay_as_they_are(pictures: tuple[Picture, ...], tmp_path: Path) -> None:
    assert portable(pictures, tmp_path) == (pictures, ())
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_decoded_is_left_out_and_listed(webp: bytes, png: bytes, tmp_path: Path) -> None:
    good = Picture(PictureType.BACK_COVER, "image/png", data=png)
    kept, losses = portable([Picture(FRONT, "image/webp", data=webp[:40]), good], tmp_path)
    assert kept == (good,)
    assert [(loss.key, loss.value) for loss in losses] == [("PICTURE", "FRONT_COVER")]


def test_a_small_file_that_says_it_is_huge_is_refused(encode_image: Encode, tmp_path: Path) -> None:
    bmp = encode_image("bmp", (8, 8))
    bomb = bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:]
    kept, losses = portable([Picture(FRONT, "image/bmp", data=bomb)], tmp_path)
    assert kept == ()
    assert len(losses) == 1


def test_cancelling_goes_through(webp: bytes, tmp_path: Path) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        portable([Picture(FRONT, "image/webp", data=webp)], tmp_path, check=check)
    assert not list(tmp_path.iterdir())


def test_the_cover_of_the_folder() -> None:
    small, large = (Picture(FRONT, "image/jpeg", str(size), size, size) for size in (100, 900))
    back = Picture(PictureType.BACK_COVER, "image/png", "", 2000, 2000)
    assert front_cover([back, small, large]) is large
    assert front_cover([back]) is back
    assert front_cover([Picture(FRONT, "image/webp")]) is None
    assert front_cover([]) is None
    assert (cover_name(large), cover_name(back)) == ("cover.jpg", "cover.png")
