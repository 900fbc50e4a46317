"""ASF attributes (WMA): reading only."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from mutagen.asf._attrs import ASFBoolAttribute, ASFByteArrayAttribute, ASFGUIDAttribute

from ironclad.metadata.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ironclad.metadata.collect import Collector

_KEYS = {entry.asf.upper(): entry.key for entry in FIELDS if entry.asf} | {
    "WM/COMMENTS": "COMMENT",
    "WM/ORIGINALRELEASEYEAR": "ORIGINALDATE",
}


def read(attributes: Iterable[tuple[str, Any]], into: Collector) -> None:
    """Hand every attribute to the collector."""
    for name, value in attributes:
        if name == "WM/Picture":
            _read_picture(bytes(value.value), into)
        elif isinstance(value, ASFByteArrayAttribute | ASFGUIDAttribute):
            into.problem("not-carried", name, "a binary attribute without a place in other formats")
        elif isinstance(value, ASFBoolAttribute):
            into.add(_KEYS.get(name.upper(), name), "1" if value.value else "0")
        else:
            into.add(_KEYS.get(name.upper(), name), str(value))


def _read_picture(data: bytes, into: Collector) -> None:
    """Type (1 byte), length (4, little endian), MIME and description (UTF-16-LE, NUL-terminated), image."""
    try:
        kind, size = struct.unpack_from("<BI", data)
        mime, at = _utf16(data, 5)
        description, at = _utf16(data, at)
    except (struct.error, ValueError) as exc:
        into.problem("not-an-image", "PICTURE", f"unreadable picture attribute: {exc}")
        return
    into.add_picture(kind, mime, description, data[at : at + size])


def _utf16(data: bytes, at: int) -> tuple[str, int]:
    end = at
    while data[end : end + 2] != b"\0\0":
        if end >= len(data):
            raise ValueError("text without an end")
        end += 2
    return data[at:end].decode("utf-16-le", "replace"), end + 2
