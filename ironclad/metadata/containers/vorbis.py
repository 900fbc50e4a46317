"""Vorbis comments (FLAC, Ogg Vorbis, Opus, Speex, Ogg FLAC): the canonical vocabulary itself."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from mutagen import MutagenError
from mutagen.flac import Picture as FlacPicture

from ironclad.metadata.report import Loss

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ironclad.metadata.collect import Collector
    from ironclad.metadata.fields import Raw
    from ironclad.metadata.model import Picture

_BLOCK_KEY = "METADATA_BLOCK_PICTURE"
_MAX_BLOCK = (1 << 24) - 1
"""FLAC metadata blocks have a 24-bit length (RFC 9639, section 8.1)."""


def read(comments: Iterable[tuple[str, str]], pictures: Iterable[Any], into: Collector) -> None:
    """Hand comments and FLAC picture blocks to the collector."""
    for key, value in comments:
        match key.upper():
            case "METADATA_BLOCK_PICTURE":
                _read_block(value, into)
            case "COVERART":  # before 2008; its type and MIME tags say nothing that the image does not
                _read_cover(value, into)
            case "COVERARTMIME" | "COVERARTTYPE" | "COVERARTDESCRIPTION":
                pass
            case _:
                into.add(key, value)
    for picture in pictures:
        into.add_picture(picture.type, picture.mime, picture.desc, picture.data)


def _read_block(value: str, into: Collector) -> None:
    try:
        picture = FlacPicture(base64.b64decode(value, validate=True))
    except (binascii.Error, MutagenError, ValueError) as exc:
        into.problem("not-an-image", "PICTURE", f"unreadable picture block: {exc}")
        return
    into.add_picture(picture.type, picture.mime, picture.desc, picture.data)


def _read_cover(value: str, into: Collector) -> None:
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        into.problem("not-an-image", "PICTURE", f"unreadable cover: {exc}")
        return
    into.add_picture(3, "", "", data)


def write(raw: Raw, comments: Any) -> None:
    """Put canonical keys into empty comments, in sorted order: the same tags give the same bytes."""
    for key in sorted(raw):
        comments[key] = raw[key]


def blocks(pictures: tuple[Picture, ...]) -> tuple[list[FlacPicture], list[Loss]]:
    """Pictures as FLAC picture blocks, and those too large for one."""
    made: list[FlacPicture] = []
    losses: list[Loss] = []
    for picture in pictures:
        block = FlacPicture()
        block.type = int(picture.type)
        block.mime = picture.mime
        block.desc = picture.description
        block.width, block.height = picture.width, picture.height
        # Colour depth: the field is informative and 24 is what JPEG and true-colour PNG have.
        block.depth = 24
        block.data = picture.content()
        if len(block.write()) > _MAX_BLOCK:
            losses.append(Loss("PICTURE", "FLAC picture blocks end at 16 MiB", picture.type.name))
        else:
            made.append(block)
    return made, losses


def encoded(pictures: tuple[Picture, ...]) -> tuple[list[str], list[Loss]]:
    """Pictures as METADATA_BLOCK_PICTURE values for Ogg, and those that could not be made."""
    made, losses = blocks(pictures)
    return [base64.b64encode(block.write()).decode("ascii") for block in made], losses


PICTURE_KEY = _BLOCK_KEY
"""The comment that holds a picture block in Ogg."""
