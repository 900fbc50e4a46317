"""Tells what a file is by its first bytes, so that FFmpeg gets one demuxer by name and guesses nothing.

The list is closed: text (a playlist that names other files, above all), archives, pictures and formats that are not
on it never reach a demuxer.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from ironclad.audio.mpeg import find_adts, find_mpeg_audio
from ironclad.errors import EmptyFile, NoSamples, NotAudio, TruncatedAudio

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = 64
_SCAN = 1 << 17
_MAX_TAGS = 8
_SHORTEST = 16
_ID3_HEADER = 10
_ID3_FOOTER_FLAG = 0x10
_APE_HEADER = 32

_MAGIC: Final[tuple[tuple[str, int, bytes], ...]] = (
    ("flac", 0, b"fLaC"),
    ("ogg", 0, b"OggS"),
    ("wav", 8, b"WAVE"),
    ("w64", 0, b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"),
    ("aiff", 8, b"AIFF"),
    ("aiff", 8, b"AIFC"),
    ("mov", 4, b"ftyp"),
    ("mov", 4, b"moov"),
    ("mov", 4, b"mdat"),
    ("mov", 4, b"wide"),
    ("mov", 4, b"free"),
    ("mov", 4, b"skip"),
    ("asf", 0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ("caf", 0, b"caff"),
    ("matroska", 0, b"\x1a\x45\xdf\xa3"),
    ("au", 0, b".snd"),
    ("wv", 0, b"wvpk"),
    ("tta", 0, b"TTA1"),
)
_OUTER: Final = {"wav": (b"RIFF", b"RF64", b"BW64"), "aiff": (b"FORM",)}
"""What must stand at offset 0 of the containers whose type stands at offset 8."""

_REFUSED: Final[tuple[tuple[str, int, bytes], ...]] = (
    ("DSD (DSF)", 0, b"DSD "),
    ("DSD (DSDIFF)", 0, b"FRM8"),
    ("Monkey's Audio (APE)", 0, b"MAC "),
    ("Musepack", 0, b"MPCK"),
    ("Musepack", 0, b"MP+"),
    ("TAK", 0, b"tBaK"),
    ("OptimFROG", 0, b"OFR "),
    ("RealMedia", 0, b".RMF"),
    ("MIDI", 0, b"MThd"),
    ("an AVI film", 8, b"AVI "),
    ("a ZIP archive", 0, b"PK\x03\x04"),
    ("a RAR archive", 0, b"Rar!"),
    ("a 7-Zip archive", 0, b"7z\xbc\xaf"),
    ("a gzip archive", 0, b"\x1f\x8b"),
    ("a PDF document", 0, b"%PDF"),
    ("a JPEG picture", 0, b"\xff\xd8\xff"),
    ("a PNG picture", 0, b"\x89PNG"),
    ("a GIF picture", 0, b"GIF8"),
    ("a program", 0, b"\x7fELF"),
    ("a Windows program", 0, b"MZ"),
    ("a playlist", 0, b"#EXTM3U"),
    ("a playlist", 0, b"[playlist]"),
)
_MARKUP: Final = (b"<!doctype", b"<html", b"<?xml", b"<asx", b"<smil", b"<mpd")


@dataclass(frozen=True, slots=True)
class Sniffed:
    """Which demuxer reads the file, and from where."""

    demuxer: str
    """FFmpeg's name of the demuxer."""
    start: int
    """Offset of the first byte after leading tags and junk."""


class Window(io.RawIOBase):
    """An open file from `start` on, seekable, as FFmpeg's only view of the disk."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        super().__init__()
        self._fd = fd
        self._start = start
        self.length = size - start
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than Buffer
        """Read into `buffer`; the number of bytes read, 0 at the end."""
        data = os.pread(self._fd, min(len(buffer), max(0, self.length - self._position)), self._start + self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; negative targets stop at the beginning."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Where it stands."""
        return self._position


def sniff(file: BinaryIO, size: int) -> Sniffed:
    """Decide which demuxer reads `file`.

    Raises `EmptyFile`, `NotAudio` (naming what the file is, where that can be told), `NoSamples` for tags without
    audio and `TruncatedAudio` for a file that ends inside its tag.
    """
    if size == 0:
        raise EmptyFile
    if size < _SHORTEST:
        raise NotAudio(f"{size} bytes")
    start = _after_tags(file, size)
    head = _at(file, start, _HEAD)
    for demuxer, offset, magic in _MAGIC:
        if head[offset : offset + len(magic)] == magic and head[:4] in _OUTER.get(demuxer, (head[:4],)):
            return Sniffed(demuxer, start)
    for name, offset, magic in _REFUSED:
        if head[offset : offset + len(magic)] == magic:
            raise NotAudio(f"it is {name}, which Ironclad does not read")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_MARKUP):
        raise NotAudio("it is a web page or another text with markup")
    return _raw_stream(_at(file, start, _SCAN), start, size)


def _raw_stream(data: bytes, start: int, size: int) -> Sniffed:
    """MPEG audio has no magic: a run of frame headers that point at each other decides."""
    whole = start + len(data) >= size
    finders: tuple[tuple[str, Callable[[bytes, bool], int | None]], ...] = (
        ("mp3", find_mpeg_audio),
        ("aac", find_adts),
    )
    found = [(position, demuxer) for demuxer, find in finders if (position := find(data, whole)) is not None]
    if found:
        position, demuxer = min(found)
        return Sniffed(demuxer, start + position)
    if data and not data.strip(b"\0"):
        raise NotAudio("it holds zeros only")
    if b"\0" not in data[:1024] and _is_text(data[:1024]):
        raise NotAudio("it is text")
    raise NotAudio


def _is_text(data: bytes) -> bool:
    try:
        data[: max(0, len(data) - 4)].decode("utf-8")  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _after_tags(file: BinaryIO, size: int) -> int:
    """The offset behind ID3v2 and APEv2 tags (and zero padding between them) at the beginning."""
    start = 0
    for _ in range(_MAX_TAGS):
        head = _at(file, start, _APE_HEADER)
        if head.startswith(b"ID3") and len(head) >= _ID3_HEADER:
            length = _ID3_HEADER + _synchsafe(head[6:10]) + (_ID3_HEADER if head[5] & _ID3_FOOTER_FLAG else 0)
        elif head.startswith(b"APETAGEX") and len(head) == _APE_HEADER:
            length = _APE_HEADER + int.from_bytes(head[12:16], "little")
        else:
            return start
        start += length
        if start > size:
            raise TruncatedAudio("it ends inside its tag")
        start += _zeros(_at(file, start, _SCAN))
        if start >= size:
            raise NoSamples("it holds tags and no audio")
    return start


def _synchsafe(data: bytes) -> int:
    return (data[0] & 0x7F) << 21 | (data[1] & 0x7F) << 14 | (data[2] & 0x7F) << 7 | data[3] & 0x7F


def _zeros(data: bytes) -> int:
    return len(data) - len(data.lstrip(b"\0"))
