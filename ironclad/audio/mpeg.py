"""MPEG audio and ADTS frame headers, and what the Xing, LAME and VBRI headers promise.

Sources: ISO/IEC 11172-3 (1993) 2.4.1.3, ISO/IEC 13818-3 (1998), ISO/IEC 13818-7 (2006) 6.2; the "MP3 Info Tag
revision 1 specification" of the LAME project for delay and padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYNC = b"\xff"
_MPEG_SYNC = 0xFFE0
_ADTS_SYNC = 0xFFF0
_RUN = 3
"""Frame headers in a row that make a stream of what could be noise."""
_LAYER3, _LAYER2, _LAYER1 = 1, 2, 3
_VERSION1 = 3
_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_BIT_RATES: Final[dict[tuple[bool, int], tuple[int, ...]]] = {  # kbit/s by (MPEG-1?, layer)
    (True, _LAYER1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, _LAYER2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, _LAYER3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, _LAYER1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, _LAYER2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, _LAYER3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MODE_MONO = 3
_XING_FRAMES, _XING_BYTES, _XING_TOC, _XING_QUALITY = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class MpegHeader:
    """One MPEG audio frame header."""

    kind: tuple[int, int, int]
    """Version, layer and sample rate: the same in every frame of a stream."""
    length: int
    """Bytes of the whole frame."""
    samples: int
    """Samples per channel."""
    side_info: int
    """Bytes between header and main data of a layer III frame, where a Xing header stands."""


def parse_mpeg(data: bytes, at: int = 0) -> MpegHeader | None:
    """The MPEG audio header at `at`, or None if there is none (free-format streams are not recognised)."""
    if at + 4 > len(data) or int.from_bytes(data[at : at + 2], "big") & 0xFFE0 != _MPEG_SYNC:
        return None
    version, layer = data[at + 1] >> 3 & 3, data[at + 1] >> 1 & 3
    rate_code, bit_rate_index = data[at + 2] >> 2 & 3, data[at + 2] >> 4
    if version == 1 or layer == 0 or rate_code == 3 or bit_rate_index in {0, 15}:  # noqa: PLR2004 -- reserved values
        return None
    first = version == _VERSION1
    rate = _RATES[version][rate_code]
    bit_rate = _BIT_RATES[first, layer][bit_rate_index - 1] * 1000
    padding = data[at + 2] >> 1 & 1
    samples = {_LAYER1: 384, _LAYER2: 1152, _LAYER3: 1152 if first else 576}[layer]
    slots = (12 * bit_rate // rate + padding) * 4 if layer == _LAYER1 else samples // 8 * bit_rate // rate + padding
    mono = data[at + 3] >> 6 == _MODE_MONO
    side_info = (17 if mono else 32) if first else (9 if mono else 17)
    return MpegHeader((version, layer, rate), slots, samples, side_info)


def _adts_length(data: bytes, at: int) -> int | None:
    if at + 7 > len(data) or int.from_bytes(data[at : at + 2], "big") & 0xFFF6 != _ADTS_SYNC:
        return None
    if data[at + 2] >> 2 & 15 > 12:  # noqa: PLR2004 -- reserved sample rates
        return None
    length = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    return length if length > 7 else None  # noqa: PLR2004 -- longer than its own header


def _mpeg_run(data: bytes, start: int, whole: bool) -> bool:  # noqa: FBT001 -- private
    at, kind = start, None
    for count in range(_RUN):
        if count and at >= len(data):
            return whole and _ends_well(start, at, count, len(data))
        header = parse_mpeg(data, at)
        if header is None or kind not in {None, header.kind}:
            return False
        kind, at = header.kind, at + header.length
    return True


def _adts_run(data: bytes, start: int, whole: bool) -> bool:  # noqa: FBT001 -- private
    at, kind = start, data[start + 1 : start + 3]
    for count in range(_RUN):
        if count and at >= len(data):
            return whole and _ends_well(start, at, count, len(data))
        length = _adts_length(data, at)
        if length is None or data[at + 1 : at + 3] != kind:
            return False
        at += length
    return True


def _ends_well(start: int, at: int, count: int, size: int) -> bool:
    """Whether a run that reached the end of the file early may be a short or cut file, and not chance."""
    return count > 1 or at == size or start == 0


def find_mpeg_audio(data: bytes, whole: bool) -> int | None:  # noqa: FBT001 -- one of two finders called alike
    """Where a run of MPEG audio frames begins; `whole` says that the file ends where `data` ends."""
    return next((at for at in _syncs(data) if _mpeg_run(data, at, whole)), None)


def find_adts(data: bytes, whole: bool) -> int | None:  # noqa: FBT001 -- one of two finders called alike
    """Where a run of ADTS frames begins; `whole` says that the file ends where `data` ends."""
    return next((at for at in _syncs(data) if _adts_run(data, at, whole)), None)


def _syncs(data: bytes) -> Iterator[int]:
    at = data.find(_SYNC)
    while at >= 0:
        yield at
        at = data.find(_SYNC, at + 1)


@dataclass(frozen=True, slots=True)
class XingPromise:
    """What a Xing, Info or VBRI header says of the stream behind it."""

    frames: int | None
    """Samples per channel after encoder delay and padding."""
    stream_bytes: int | None
    """Bytes from the header frame to the end of the audio."""


def xing_promise(data: bytes) -> XingPromise | None:
    """The promise in the first frame of an MPEG stream (`data` begins with it), or None without such a header."""
    header = parse_mpeg(data)
    if header is None:
        return None
    if data[36:40] == b"VBRI":
        return XingPromise(_u32(data, 50) * header.samples, _u32(data, 46))
    at = 4 + header.side_info
    if data[at : at + 4] not in {b"Xing", b"Info"}:
        return None
    flags, at = _u32(data, at + 4), at + 8
    frames = stream_bytes = None
    if flags & _XING_FRAMES:
        frames, at = _u32(data, at), at + 4
    if flags & _XING_BYTES:
        stream_bytes, at = _u32(data, at), at + 4
    at += (100 if flags & _XING_TOC else 0) + (4 if flags & _XING_QUALITY else 0)
    samples = None if not frames else frames * header.samples
    if samples is not None and data[at : at + 4] in {b"LAME", b"Lavf", b"Lavc"} and len(data) >= at + 24:
        delay, padding = data[at + 21] << 4 | data[at + 22] >> 4, (data[at + 22] & 15) << 8 | data[at + 23]
        samples = max(0, samples - delay - padding)
    return XingPromise(samples, stream_bytes or None)


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
