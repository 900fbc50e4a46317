"""Ogg pages: a stream number that depends on the content alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from blake3 import blake3
from mutagen.ogg import OggPage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def settle_serial(path: Path) -> None:
    """Replace the random stream serial number that encoders choose (RFC 3533, section 6) by a digest of the stream.

    Two runs on one input then give one file. The number must differ only between streams that are joined in one file,
    and different streams still have different ones. Page checksums are recomputed; sizes stay.
    """
    with path.open("r+b") as file:
        hasher = blake3()
        for _, page in _pages(file):
            for packet in page.packets:
                hasher.update(packet)
        serial = int.from_bytes(hasher.digest(length=4), "little")
        file.seek(0)
        for start, page in _pages(file):
            end = file.tell()
            page.serial = serial
            file.seek(start)
            file.write(page.write())
            file.seek(end)


def _pages(file: BinaryIO) -> Iterator[tuple[int, OggPage]]:
    """Each page and where it begins."""
    while True:
        start = file.tell()
        try:
            page = OggPage(file)
        except EOFError:
            return
        yield start, page
