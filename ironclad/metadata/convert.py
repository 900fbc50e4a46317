"""Pictures in a form that every player reads: JPEG or PNG. Others are converted, in the sandbox."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ironclad import sandbox
from ironclad.errors import ErrorKind, IroncladError
from ironclad.metadata import images
from ironclad.metadata.model import Picture, PictureType
from ironclad.metadata.report import Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_MIB = 1 << 20
_LIMITS = sandbox.SandboxLimits(cpu_seconds=30, wall_seconds=60.0, memory_bytes=2048 * _MIB, file_bytes=64 * _MIB)
_MAX_PIXELS = 10_000 * 10_000
_PORTABLE = frozenset({images.JPEG, images.PNG})


def portable(
    pictures: Iterable[Picture], folder: Path, *, check: Callable[[], None] | None = None
) -> tuple[tuple[Picture, ...], tuple[Loss, ...]]:
    """The pictures with those that are neither JPEG nor PNG converted to JPEG in `folder`, and what changed or failed.

    A picture that cannot be decoded is left out and listed. Raises what `check` raises, and `DiskFull`.
    """
    kept: list[Picture] = []
    losses: list[Loss] = []
    for number, picture in enumerate(pictures):
        if picture.mime in _PORTABLE:
            kept.append(picture)
            continue
        try:
            kept.append(_converted(picture, folder, number, check))
            losses.append(Loss("PICTURE", f"converted from {picture.mime} to JPEG", picture.type.name))
        except IroncladError as exc:
            if exc.kind is ErrorKind.CONTROL or exc.code in {"E_DISK_FULL", "E_STORAGE"}:
                raise
            losses.append(Loss("PICTURE", f"{picture.mime} could not be converted: {exc.what()}", picture.type.name))
    return tuple(kept), tuple(losses)


def front_cover(pictures: Iterable[Picture]) -> Picture | None:
    """The picture for the album folder's `cover.jpg` (`cover.png`): the largest front cover, else the first picture."""
    usable = [picture for picture in pictures if picture.mime in _PORTABLE]
    fronts = [picture for picture in usable if picture.type == PictureType.FRONT_COVER]
    if fronts:
        return max(fronts, key=lambda picture: picture.width * picture.height)
    return usable[0] if usable else None


def cover_name(picture: Picture) -> str:
    """The name under which Plex, Jellyfin and Navidrome look for an album's cover: `cover.jpg` or `cover.png`."""
    return f"cover{images.SUFFIXES[picture.mime]}"


def _converted(picture: Picture, folder: Path, number: int, check: Callable[[], None] | None) -> Picture:
    source = folder / f"convert-{number:02}{images.SUFFIXES[picture.mime]}"
    target = folder / f"picture-{number:02}-converted.jpg"
    stored = picture.stored(source)
    request = {
        "source": str(source.resolve()),
        "target": str(target.resolve()),
        "mime": picture.mime,
        "max_pixels": _MAX_PIXELS,
    }
    try:
        reply = sandbox.run("ironclad.metadata.convert_child:main", request, _LIMITS, check=check)
    finally:
        source.unlink(missing_ok=True)
    return replace(stored, mime=images.JPEG, width=int(reply["width"]), height=int(reply["height"]), path=target)
