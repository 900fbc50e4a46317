"""RIFF INFO lists (WAV): the tags of programs that know no ID3. Reading only; mutagen does not."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from ironclad.metadata.collect import Collector

_KEYS = {
    b"INAM": "TITLE", b"IART": "ARTIST", b"IPRD": "ALBUM", b"ICRD": "DATE", b"IGNR": "GENRE", b"ICMT": "COMMENT",
    b"ITRK": "TRACKNUMBER", b"IPRT": "TRACKNUMBER", b"ICOP": "COPYRIGHT", b"IMUS": "COMPOSER", b"IENG": "ENGINEER",
    b"IPRO": "PRODUCER", b"ILNG": "LANGUAGE", b"IMED": "MEDIA", b"IWRI": "LYRICIST", b"IBPM": "BPM",
    b"ICNT": "RELEASECOUNTRY", b"ISFT": "ENCODER", b"ITCH": "ENCODEDBY", b"IKEY": "KEYWORDS", b"ISBJ": "SUBJECT",
}  # fmt: skip
_MAX_LIST = 1 << 20
_MAX_CHUNKS = 1000


def read(file: BinaryIO, into: Collector) -> None:
    """Hand the values of every `LIST INFO` chunk of a RIFF file to the collector; nothing for other files."""
    header = file.read(12)
    if header[:4] not in {b"RIFF", b"RF64"} or header[8:12] != b"WAVE":
        return
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:  # noqa: PLR2004 -- a chunk's header
            return
        name, size = struct.unpack("<4sI", head)
        if name == b"LIST" and size <= _MAX_LIST:
            data = file.read(size)
            if data[:4] == b"INFO":
                _read_info(data[4:], into)
            file.seek(size & 1, 1)
        else:
            file.seek(size + (size & 1), 1)


def _read_info(data: bytes, into: Collector) -> None:
    at = 0
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        value = data[at + 8 : at + 8 + size].split(b"\0")[0]
        key = _KEYS.get(name, "")
        if not key:
            into.problem("not-carried", name.decode("latin-1"), "an INFO value without a known meaning")
        elif not into.has(key):
            _add(key, value, into)
        at += 8 + size + (size & 1)


def _add(key: str, value: bytes, into: Collector) -> None:
    try:
        into.add(key, value.decode("utf-8"))
    except UnicodeDecodeError:  # the format has no encoding: the rest is some code page
        into.add(key, value.decode("latin-1"), legacy=True)
