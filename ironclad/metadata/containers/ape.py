"""APEv2 items (Monkey's Audio, WavPack, Musepack, OptimFROG, TAK, and stray ones in MP3): reading only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mutagen.apev2 import BINARY

from ironclad.metadata.fields import FIELDS
from ironclad.metadata.model import PictureType

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ironclad.metadata.collect import Collector

_KEYS = {entry.ape.upper(): entry.key for entry in FIELDS if entry.ape} | {"ALBUMARTIST": "ALBUMARTIST"}
_COVERS = {
    "COVER ART (FRONT)": PictureType.FRONT_COVER,
    "COVER ART (BACK)": PictureType.BACK_COVER,
    "COVER ART (ARTIST)": PictureType.ARTIST,
    "COVER ART (MEDIA)": PictureType.MEDIA,
    "COVER ART (LEAFLET)": PictureType.LEAFLET,
    "COVER ART (ICON)": PictureType.FILE_ICON,
}


def read(items: Iterable[tuple[str, Any]], into: Collector) -> None:
    """Hand every item to the collector."""
    for key, value in items:
        name = key.upper()
        if name.startswith("COVER ART"):
            # The item is the file's name, a NUL, then the image.
            description, _, data = bytes(value.value).partition(b"\0")
            kind = _COVERS.get(name, PictureType.OTHER)
            into.add_picture(kind, "", _caption(description), data)
        elif value.kind == BINARY:
            into.problem("not-carried", key, "a binary item without a place in other formats")
        else:
            into.add(_KEYS.get(name, name), str(value))


def _caption(name: bytes) -> str:
    """The description in a cover's file name: a bare `Cover Art (Front).jpg` says nothing."""
    text = name.decode("utf-8", "replace")
    return "" if text.lower().startswith(("cover art (", "cover.")) else text
