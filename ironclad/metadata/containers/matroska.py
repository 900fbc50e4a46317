"""Matroska and WebM, which mutagen does not know: tags and attached pictures, read with FFmpeg's libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import av

from ironclad.metadata.fields import canonical
from ironclad.metadata.model import PictureType

if TYPE_CHECKING:
    from pathlib import Path

    from ironclad.metadata.collect import Collector

_KEYS: Final = {"PART_NUMBER": "TRACKNUMBER", "TOTAL_PARTS": "TRACKTOTAL", "DATE_RELEASED": "DATE"}
_OF_THE_FILE: Final = frozenset({"CREATION_TIME", "DURATION"})


def read(path: Path, into: Collector) -> None:
    """Hand the tags of the whole file, and its pictures, to the collector; those of single streams are left."""
    # The container is named, so that FFmpeg takes the file for nothing else.
    with av.open(str(path), format="matroska", metadata_errors="replace") as file:
        for name, value in file.metadata.items():
            key = canonical(name)
            if key not in _OF_THE_FILE:
                into.add(_KEYS.get(key, key), value)
        for stream in file.streams.video:
            if stream.disposition & av.stream.Disposition.attached_pic:
                name = stream.metadata.get("filename", "")
                kind = PictureType.FRONT_COVER if name.lower().startswith("cover") else PictureType.OTHER
                packet = next(iter(file.demux(stream)), None)  # FFmpeg hands pictures out before any sound
                into.add_picture(
                    kind, stream.metadata.get("mimetype", ""), "", b"" if packet is None else bytes(packet)
                )
