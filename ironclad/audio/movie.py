"""The exact length of an MP4 recording with a single audio track.

Its edit list says how long it plays, but counts in movie time, by default milliseconds; the track's own duration is
exact, but includes the encoder's delay, and in some files the padding. Where the two agree to one tick of movie time,
the track's is meant (ISO/IEC 14496-12, 8.6.6 and 8.4.2).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = 8


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each box."""
    at = 0
    while at + _HEADER <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length < _HEADER:
            return
        yield data[at + 4 : at + _HEADER], data[at + _HEADER : at + length]
        at += length


def _child(data: bytes, *path: bytes) -> bytes:
    """The body of the first box at the end of a path, or nothing."""
    for name in path:
        data = next((body for kind, body in _boxes(data) if kind == name), b"")
    return data


def edited_length(moov: bytes) -> int | None:
    """Samples that the only audio track plays, or None where that cannot be told more exactly than FFmpeg does.

    `moov` is the whole box. Needs one edit over a track whose time scale is its sample rate, as every encoder writes.
    """
    inside = _child(moov, b"moov")
    tracks = [body for name, body in _boxes(inside) if name == b"trak"]
    sound = [track for track in tracks if _child(track, b"mdia", b"hdlr")[8:12] == b"soun"]
    if len(sound) != 1:
        return None
    try:
        movie_scale, _ = _scale_and_duration(_child(inside, b"mvhd"))
        scale, duration = _scale_and_duration(_child(sound[0], b"mdia", b"mdhd"))
        edited, media_time = _only_edit(_child(sound[0], b"edts", b"elst"))
    except (struct.error, ValueError):
        return None
    length = duration - media_time
    # At a movie time scale as fine as the track's, the edit itself is exact.
    if not movie_scale or movie_scale == scale or abs(length * movie_scale - edited * scale) > scale:
        return None
    return length if length > 0 else None


def _scale_and_duration(header: bytes) -> tuple[int, int]:
    if header[:1] == b"\1":
        return struct.unpack_from(">IQ", header, 20)
    return struct.unpack_from(">II", header, 12)


def _only_edit(elst: bytes) -> tuple[int, int]:
    (count,) = struct.unpack_from(">I", elst, 4)
    if count != 1:
        raise ValueError("not one edit")
    duration, media_time = struct.unpack_from(">Qq" if elst[0] == 1 else ">Ii", elst, 8)
    if media_time < 0:
        raise ValueError("an empty edit")
    return duration, media_time
