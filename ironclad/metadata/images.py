"""What an embedded picture is, told from its first bytes: no decoder is trusted with it here."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

JPEG, PNG, GIF, WEBP, BMP, TIFF, AVIF = (
    f"image/{kind}" for kind in ("jpeg", "png", "gif", "webp", "bmp", "tiff", "avif")
)

SUFFIXES = {JPEG: ".jpg", PNG: ".png", GIF: ".gif", WEBP: ".webp", BMP: ".bmp", TIFF: ".tif", AVIF: ".avif"}
"""File name suffix of each kind of image that is recognised."""

_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Kind and size in pixels; 0 by 0 where the header does not say."""

    mime: str
    width: int
    height: int


def identify(data: bytes) -> ImageInfo | None:
    """The kind and size of an encoded image, or None if it is not one of JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF."""
    for mime, offset, magics, measure in _KINDS:
        if data.startswith(magics, offset) and (mime != WEBP or data.startswith(b"RIFF")):
            try:
                return ImageInfo(mime, *measure(data))
            except struct.error:
                return None
    return None


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


def _unmeasured(_data: bytes) -> tuple[int, int]:
    return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from the first frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:  # noqa: PLR2004 -- every marker begins with it
            return 0, 0
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 -- fill byte
            at += 1
        elif marker in _JPEG_STANDALONE:
            at += 2
        elif marker in _JPEG_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


_KINDS: tuple[tuple[str, int, tuple[bytes, ...], Callable[[bytes], tuple[int, int]]], ...] = (
    (JPEG, 0, (b"\xff\xd8\xff",), _jpeg_size),
    (PNG, 0, (b"\x89PNG\r\n\x1a\n",), _png_size),
    (GIF, 0, (b"GIF87a", b"GIF89a"), _gif_size),
    (WEBP, 8, (b"WEBP",), _webp_size),
    (BMP, 0, (b"BM",), _bmp_size),
    (TIFF, 0, (b"II*\0", b"MM\0*"), _unmeasured),
    (AVIF, 4, (b"ftypavif", b"ftypavis"), _unmeasured),
)
