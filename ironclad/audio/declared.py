"""What the headers of a file promise, read by our own few lines because FFmpeg does not tell.

FFmpeg's `duration` is exact for most containers, but estimated without a word for others, and for a file that was cut
it may be computed from what is left.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from ironclad.audio.movie import edited_length
from ironclad.audio.mpeg import parse_mpeg, xing_promise

if TYPE_CHECKING:
    from ironclad.audio.sniff import Sniffed

_HEAD = 4096
_OGG_TAIL = 1 << 17
_OGG_PAGE = 27
_OGG_LAST = 4
_MAX_BOXES = 4096
_MOOV = 1 << 20
_ASF_DATA = bytes.fromhex("3626b2758e66cf11")
_SEGMENT = bytes.fromhex("18538067")
_UNKNOWN_SIZE = 0x7FFFF000
"""Programs that write WAV into a pipe put sizes from here on."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What the headers say."""

    frames: int | None = None
    """Samples per channel after delay and padding."""
    exact: bool = True
    """False where FFmpeg's `duration` is an estimate that must not be compared."""
    cut: str = ""
    """Why the file is known to end early, or empty."""
    whole: bool = False
    """The bytes that the headers count are all there: missing samples are damage or a lie, not an early end."""
    bits: int | None = None
    first_granule: int | None = None
    """Ogg: the position at the end of the first page with audio. What FFmpeg skips before it was lost."""


def read_promise(file: BinaryIO, size: int, sniffed: Sniffed) -> Promise:
    """Read the headers of a sniffed file of `size` bytes."""
    readers = {
        "wav": _wav, "w64": _w64, "flac": _flac, "mp3": _mp3, "aac": _adts, "ogg": _ogg, "mov": _mov, "tta": _tta,
        "asf": _asf, "matroska": _matroska,
    }  # fmt: skip
    reader = readers.get(sniffed.demuxer)
    return reader(file, size, sniffed.start) if reader is not None else Promise()


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    try:
        file.seek(offset)
    except (OverflowError, OSError):  # a size field led beyond what a file can be
        return b""
    return file.read(count)


def _wav(file: BinaryIO, size: int, start: int) -> Promise:
    """RIFF, RF64 and BW64: the data chunk's size over the block size."""
    at, large, block, bits = start + 12, None, 0, None
    for _ in range(_MAX_BOXES):
        header = _at(file, at, 8)
        if len(header) < 8:  # noqa: PLR2004 -- a chunk header
            break
        name, length = header[:4], int.from_bytes(header[4:], "little")
        body = _at(file, at + 8, min(length, 40))
        if name == b"ds64" and len(body) >= 24:  # noqa: PLR2004 -- its fixed part
            large = int.from_bytes(body[8:16], "little")
        elif name == b"fmt " and len(body) >= 16:  # noqa: PLR2004 -- its fixed part
            block, bits = struct.unpack_from("<HH", body, 12)
            if int.from_bytes(body[:2], "little") not in {1, 3, 0xFFFE}:
                block = 0  # a compressed codec in WAV
        elif name == b"data":
            return _wav_data(size - at - 8, large or length, block, bits)
        at += 8 + length + (length & 1)
    return Promise(bits=bits, exact=False)


def _wav_data(there: int, length: int, block: int, bits: int | None) -> Promise:
    if length > there and (length == 0 or _UNKNOWN_SIZE <= length < 1 << 32):
        return Promise(bits=bits, exact=False)
    if length == 0 and there > 0:
        return Promise(bits=bits, exact=False)
    cut = f"the data chunk has {there} of {length} bytes" if length > there else ""
    if block:
        return Promise(length // block, cut=cut, bits=bits)
    return Promise(exact=False, cut=cut)  # `fact` is not to be trusted: libsndfile's is half of the truth


def _w64(file: BinaryIO, size: int, start: int) -> Promise:
    """Sony Wave64: chunks of a 16-byte GUID and a size that counts this header, aligned to 8 bytes."""
    at, block, bits = start + 40, 0, None
    for _ in range(_MAX_BOXES):
        header = _at(file, at, 40)
        length = int.from_bytes(header[16:24], "little")
        if len(header) < 24 or length < 24:  # noqa: PLR2004 -- a chunk header
            break
        if header[:4] == b"fmt " and len(header) == 40:  # noqa: PLR2004 -- with its fixed part
            block, bits = struct.unpack_from("<HH", header, 36)
        elif header[:4] == b"data":
            return _wav_data(size - at - 24, length - 24, block, bits)
        at += length + 7 & ~7
    return Promise(bits=bits, exact=False)


def _flac(file: BinaryIO, _size: int, start: int) -> Promise:
    """STREAMINFO (RFC 9639, 8.2): 36 bits of sample count, 0 for unknown."""
    info = _at(file, start, 42)
    if len(info) < 42 or info[4] & 0x7F:  # noqa: PLR2004 -- "fLaC", a block header and STREAMINFO, which is type 0
        return Promise(exact=False)
    packed = int.from_bytes(info[18:26], "big")
    frames = packed & 0xFFFFFFFFF
    return Promise(frames or None, exact=bool(frames), bits=(packed >> 36 & 31) + 1)


def _mp3(file: BinaryIO, size: int, start: int) -> Promise:
    """Xing or VBRI. A count that does not fit the stream it stands before is a lie unless bytes are missing too."""
    promise = xing_promise(_at(file, start, _HEAD))
    if promise is None or promise.frames is None:
        return Promise(exact=False)
    there = size - start
    if promise.stream_bytes is None:
        return Promise(promise.frames)
    if there < promise.stream_bytes:
        return Promise(promise.frames, cut=f"{there} of {promise.stream_bytes} bytes are there")
    header = parse_mpeg(_at(file, start, 4))
    # No frame is shorter than a header and its side information.
    if header is None or promise.frames > promise.stream_bytes // (4 + header.side_info) * header.samples:
        return Promise(exact=False)
    return Promise(promise.frames, whole=True)


def _adts(_file: BinaryIO, _size: int, _start: int) -> Promise:
    return Promise(exact=False)


def _tta(file: BinaryIO, _size: int, start: int) -> Promise:
    header = _at(file, start, 22)
    return Promise(int.from_bytes(header[14:18], "little") or None, bits=int.from_bytes(header[8:10], "little"))


def _ogg(file: BinaryIO, size: int, start: int) -> Promise:
    """A whole Ogg file ends with a complete page that bears the end-of-stream flag (RFC 3533, 6)."""
    first = _first_granule(_at(file, start, _OGG_TAIL))
    tail_start = max(start, size - _OGG_TAIL)
    tail = _at(file, tail_start, _OGG_TAIL)
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + _OGG_PAGE:
        return Promise(cut="its last page is not whole")
    segments = tail[at + 26]
    lacing = tail[at + _OGG_PAGE : at + _OGG_PAGE + segments]
    if len(lacing) < segments or at + _OGG_PAGE + segments + sum(lacing) > len(tail):
        return Promise(cut="its last page is not whole")
    ended = False
    while at >= 0 and not ended:
        ended = len(tail) > at + 5 and bool(tail[at + 5] & _OGG_LAST)
        at = tail.rfind(b"OggS", 0, at)
    return Promise(cut="" if ended else "its last page is missing", first_granule=first)


def _first_granule(head: bytes) -> int | None:
    at = 0
    while head[at : at + 4] == b"OggS" and len(head) > at + _OGG_PAGE:
        granule = int.from_bytes(head[at + 6 : at + 14], "little", signed=True)
        if granule > 0:
            return granule
        segments = head[at + 26]
        at += _OGG_PAGE + segments + sum(head[at + _OGG_PAGE : at + _OGG_PAGE + segments])
    return None


def _mov(file: BinaryIO, size: int, start: int) -> Promise:
    """Walk the outer boxes (ISO/IEC 14496-12, 4.2): the index (`moov` or `moof`) must be there, and no box cut."""
    at, index = start, b""
    for _ in range(_MAX_BOXES):
        header = _at(file, at, 16)
        if len(header) < 8:  # noqa: PLR2004 -- a box header
            break
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = size - at
        if length < 8:  # noqa: PLR2004 -- a box header
            break
        if name == b"moov":
            index = _at(file, at, min(length, _MOOV))
        if at + length > size:
            what = name.decode("latin-1")
            return Promise(cut=f"its box {what!r} has {size - at} of {length} bytes" + ("" if index else ", no index"))
        at += length
    return Promise(frames=edited_length(index))


def _asf(file: BinaryIO, size: int, start: int) -> Promise:
    """ASF: the data object follows the header object and says its size."""
    data = start + int.from_bytes(_at(file, start, 24)[16:24], "little")
    header = _at(file, data, 24)
    length = int.from_bytes(header[16:24], "little")
    if header[:8] == _ASF_DATA and data + length <= size:
        return Promise(whole=True)
    return Promise(cut=f"{max(0, size - data)} of {length} bytes of audio are there")


def _matroska(file: BinaryIO, size: int, start: int) -> Promise:
    """EBML (RFC 8794): the segment says its size, unless it was written as a live stream."""
    at = start
    for _ in range(2):  # the EBML header, then the segment
        header = _at(file, at, 12)
        if len(header) < 12:  # noqa: PLR2004 -- an identifier and a size of up to 8 bytes
            return Promise(cut="it ends inside its header")
        width = 9 - header[4].bit_length()
        length = int.from_bytes(header[4 : 4 + width], "big") & (1 << 7 * width) - 1
        if header[:4] == _SEGMENT and length != (1 << 7 * width) - 1 and at + 4 + width + length > size:
            return Promise(cut=f"{size - at} of {length} bytes are there")
        at += 4 + width + length
    return Promise()
