"""A picture as a few coloured points, for screens of characters. Decoded in the sandbox: it may be anybody's."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ironclad import sandbox
from ironclad.errors import CorruptAudio
from ironclad.metadata import images

if TYPE_CHECKING:
    from pathlib import Path

_MIB: Final = 1 << 20
_LIMITS: Final = sandbox.SandboxLimits(
    cpu_seconds=10, wall_seconds=20.0, memory_bytes=2048 * _MIB, file_bytes=_MIB, reply_bytes=_MIB
)
_MAX_PIXELS: Final = 10_000 * 10_000
_HEAD: Final = 4096
LARGEST: Final = 256


@dataclass(frozen=True, slots=True)
class Raster:
    """A picture of `width` by `height` points."""

    width: int
    height: int
    rgb: bytes
    """Three bytes a point, row by row."""

    def point(self, x: int, y: int) -> tuple[int, int, int]:
        """Red, green and blue of one point, 0..255."""
        begin = 3 * (y * self.width + x)
        red, green, blue = self.rgb[begin : begin + 3]
        return red, green, blue


def raster(path: Path, width: int, height: int) -> Raster:
    """A picture scaled into `width` by `height` points, each at most `LARGEST`; its proportions are kept.

    Raises `CorruptAudio` for what is no picture or cannot be decoded, `DecodedTooLarge` for one with too many pixels.
    """
    if not 1 <= min(width, height) <= max(width, height) <= LARGEST:
        raise ValueError(f"{width} by {height} points")
    with path.open("rb") as file:
        kind = images.identify(file.read(_HEAD))
    if kind is None:
        raise CorruptAudio("it is no picture of a known kind")
    request = {
        "source": str(path.resolve()), "mime": kind.mime, "width": width, "height": height, "max_pixels": _MAX_PIXELS,
    }  # fmt: skip
    reply = sandbox.run("ironclad.metadata.convert_child:points", request, _LIMITS)
    found = Raster(int(reply["width"]), int(reply["height"]), base64.b64decode(reply["rgb"], validate=True))
    if len(found.rgb) != 3 * found.width * found.height or found.width > width or found.height > height:
        raise CorruptAudio("the picture has another size than was said")
    return found
