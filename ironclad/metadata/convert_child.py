"""Decodes one picture, and encodes it as JPEG or as a few points, with FFmpeg's libraries. Runs in a limited child."""

from __future__ import annotations

import base64
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from ironclad.errors import CorruptAudio, DecodedTooLarge
from ironclad.metadata import images

if TYPE_CHECKING:
    from collections.abc import Callable

_DECODERS = {
    images.JPEG: "jpeg_pipe",
    images.PNG: "png_pipe",
    images.WEBP: "webp_pipe",
    images.GIF: "gif",
    images.BMP: "bmp_pipe",
    images.TIFF: "tiff_pipe",
    images.AVIF: "mov",
}
_QUALITY = 2
"""FFmpeg's scale, 2 (best) to 31: 2 is about JPEG quality 95."""


def main(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """Target of the sandbox. Request: `source`, `target`, `mime`, `max_pixels`; reply: `width` and `height`.

    Raises `CorruptAudio` for a picture that cannot be decoded and `DecodedTooLarge` for one with too many pixels.
    """
    frame = _decoded(request)
    Path(request["target"]).write_bytes(_jpeg(frame))
    return {"width": frame.width, "height": frame.height}


def points(request: dict[str, Any], _report: Callable[[float], None]) -> dict[str, Any]:
    """Target of the sandbox. Request: `source`, `mime`, `width`, `height`, `max_pixels`; reply: a raster that fits in.

    Raises as `main`.
    """
    frame = _decoded(request)
    scale = min(request["width"] / frame.width, request["height"] / frame.height)
    width, height = (max(1, int(size * scale)) for size in (frame.width, frame.height))
    plane = frame.reformat(width=width, height=height, format="rgb24").planes[0]
    data = memoryview(plane)
    rows = [bytes(data[y * plane.line_size : y * plane.line_size + 3 * width]) for y in range(height)]
    return {"width": width, "height": height, "rgb": base64.b64encode(b"".join(rows)).decode("ascii")}


def _decoded(request: dict[str, Any]) -> av.VideoFrame:
    try:
        return _first_frame(request["source"], _DECODERS[request["mime"]], request["max_pixels"])
    except (av.error.FFmpegError, ValueError, IndexError) as exc:
        raise CorruptAudio(f"the picture cannot be decoded: {exc}") from exc


def _first_frame(source: str, container: str, max_pixels: int) -> av.VideoFrame:
    # The container is named, so that FFmpeg cannot take a picture for a playlist that points elsewhere.
    with av.open(source, format=container) as file:
        stream = file.streams.video[0]
        if stream.width * stream.height > max_pixels:
            raise DecodedTooLarge(f"{stream.width} x {stream.height} pixels")
        for frame in file.decode(stream):
            return frame
    raise CorruptAudio("the picture has no frame")


def _jpeg(frame: av.VideoFrame) -> bytes:
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height = frame.width, frame.height
    context.pix_fmt = "yuvj444p"
    context.time_base = Fraction(1)
    context.qmin = context.qmax = _QUALITY
    context.options = {"flags": "+bitexact"}  # no encoder version in the file: same picture, same bytes
    converted = frame.reformat(format="yuvj444p")
    converted.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(converted), *context.encode(None)])
