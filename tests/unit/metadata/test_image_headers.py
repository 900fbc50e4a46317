from __future__ import annotations

import struct

import pytest

from ironclad.metadata.images import SUFFIXES, ImageInfo, identify

JPEG = (
    b"\xff\xd8\xff\xe0\x00\x04ab" + b"\xff\xff\xd0" + b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 48, 64) + b"\0" * 9
)
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\0" * 9


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (JPEG, ImageInfo("image/jpeg", 64, 48)),
        (b"\xff\xd8\xff\xda\x00\x02rest of the scan", ImageInfo("image/jpeg", 0, 0)),
        (b"\xff\xd8\xff\xe0\x00\x04ab" + b"junk" * 5, ImageInfo("image/jpeg", 0, 0)),
        (PNG, ImageInfo("image/png", 640, 480)),
        (b"GIF89a" + struct.pack("<HH", 3, 2), ImageInfo("image/gif", 3, 2)),
        (b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 10 + struct.pack("<HH", 50, 40), ImageInfo("image/webp", 50, 40)),
        (b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 49 | 39 << 14), ImageInfo("image/webp", 50, 40)),
        (b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + b"\x31\0\0\x27\0\0", ImageInfo("image/webp", 50, 40)),
        (b"BM" + b"\0" * 16 + struct.pack("<ii", 5, -4) + b"\0" * 4, ImageInfo("image/bmp", 5, 4)),
        (b"II*\0" + b"\0" * 8, ImageInfo("image/tiff", 0, 0)),
        (b"\0\0\0\x20ftypavif", ImageInfo("image/avif", 0, 0)),
    ],
)
def test_kind_and_size(data: bytes, expected: ImageInfo) -> None:
    assert identify(data) == expected
    assert expected.mime in SUFFIXES


@pytest.mark.parametrize("data", [b"", b"<html>", PNG[:18], b"GIF89a", b"BM1234", b"WAVEfmt WEBP", b"\xff\xd8"])
def test_other_bytes_are_no_image(data: bytes) -> None:
    assert identify(data) is None


@pytest.mark.parametrize("length", range(len(JPEG)))
def test_a_cut_jpeg_never_raises(length: int) -> None:
    info = identify(JPEG[:length])
    assert info is None or info.mime == "image/jpeg"
