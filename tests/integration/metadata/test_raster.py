"""Pictures as a few points: scaled in their proportions, decoded in the sandbox, refused when they are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from ironclad.errors import CorruptAudio
from ironclad.metadata.raster import Raster, raster

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, codec: str, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Path:
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    context = av.CodecContext.create(codec, "w")
    context.width, context.height = frame.width, frame.height
    context.pix_fmt = "yuvj444p" if codec == "mjpeg" else "rgb24"
    context.time_base = 1  # type: ignore[assignment]  # a fraction, as PyAV makes one of it
    frame = frame.reformat(format=context.pix_fmt)
    frame.pts = 0
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))
    return path


def halves(width: int, height: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Red above, blue below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, :, 0] = 255
    pixels[height // 2 :, :, 2] = 255
    return pixels


@pytest.mark.parametrize(("name", "codec"), [("a.png", "png"), ("a.jpg", "mjpeg")])
def test_a_picture_keeps_its_colours_and_proportions(tmp_path: Path, name: str, codec: str) -> None:
    found = raster(write(tmp_path / name, codec, halves(60, 30)), 20, 20)
    assert (found.width, found.height) == (20, 10)
    red, blue = found.point(3, 0), found.point(19, 9)
    assert red[0] > 240
    assert max(red[1:]) < 20
    assert blue[2] > 240
    assert max(blue[:2]) < 20


def test_a_sliver_has_at_least_one_point(tmp_path: Path) -> None:
    found = raster(write(tmp_path / "a.png", "png", halves(200, 2)), 10, 10)
    assert (found.width, found.height, len(found.rgb)) == (10, 1, 30)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x89PNG\r\n\x1a\n" + bytes(60), b"\xff\xd8\xff\xe0 and no more"])
def test_what_is_no_picture_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(CorruptAudio):
        raster(path, 20, 20)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (300, 5)])
def test_sizes_are_bounded(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="points"):
        raster(tmp_path / "a.jpg", *size)


def test_points_are_read_row_by_row() -> None:
    assert Raster(2, 2, bytes(range(12))).point(1, 1) == (9, 10, 11)
