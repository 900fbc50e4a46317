from __future__ import annotations

import struct

import numpy as np
import pytest

from ironclad.audio.mpeg import find_adts, find_mpeg_audio, parse_mpeg, xing_promise

FRAME = b"\xff\xfb\x90\x64" + bytes(413)  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz, joint stereo
ADTS = b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(9)


@pytest.mark.parametrize(
    ("header", "rate", "length", "samples", "side_info"),
    [
        (b"\xff\xfb\x90\x64", 44100, 417, 1152, 32),
        (b"\xff\xfb\x92\x64", 44100, 418, 1152, 32),
        (b"\xff\xfb\xe4\xc4", 48000, 960, 1152, 17),  # 320 kbit/s, mono
        (b"\xff\xf3\x80\x00", 22050, 208, 576, 17),  # MPEG-2, 64 kbit/s
        (b"\xff\xe3\x48\xc0", 8000, 288, 576, 9),  # MPEG-2.5, 32 kbit/s, mono
        (b"\xff\xfd\xa4\x00", 48000, 576, 1152, 32),  # layer II, 192 kbit/s
        (b"\xff\xff\x90\x00", 44100, 312, 384, 32),  # layer I, 288 kbit/s
    ],
)
def test_headers_of_each_kind(header: bytes, rate: int, length: int, samples: int, side_info: int) -> None:
    parsed = parse_mpeg(header)
    assert parsed is not None
    assert parsed.kind[2] == rate
    assert (parsed.length, parsed.samples, parsed.side_info) == (length, samples, side_info)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfb\x90",
        b"\xff\xeb\x90\x64",
        b"\xff\xf9\x90\x64",
        b"\xff\xfb\xf0\x64",
        b"\xff\xfb\x00\x64",
        b"\xff\xfb\x9c\x64",
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    assert parse_mpeg(data) is None


def test_a_stream_is_found_behind_junk() -> None:
    junk = b"\xff\xfb\x90\x64junk\xff\xff"
    assert find_mpeg_audio(junk + FRAME * 3, True) == len(junk)
    assert find_mpeg_audio(junk + FRAME * 4 + FRAME[:100], False) == len(junk)
    assert find_adts(b"x\xff\xf1junk" + ADTS * 3, True) == 7


def test_a_short_or_cut_file_is_found_only_at_its_end() -> None:
    assert find_mpeg_audio(FRAME, True) == 0
    assert find_mpeg_audio(FRAME[:50], True) == 0
    assert find_mpeg_audio(FRAME[:50], False) is None
    assert find_mpeg_audio(b"x" + FRAME[:50], True) is None
    assert find_mpeg_audio(b"x" + FRAME + FRAME[:50], True) == 1
    assert find_adts(ADTS + ADTS[:10], True) == 0


def test_noise_is_no_stream() -> None:
    for seed in range(20):
        data = np.random.default_rng(seed).bytes(1 << 16)
        assert find_mpeg_audio(data, True) is None
        assert find_adts(data, True) is None


def xing(flags: int, *fields: int, tag: bytes = b"Xing", end: bytes = b"") -> bytes:
    toc = bytes(100) if flags & 4 else b""
    body = tag + struct.pack(">I", flags) + struct.pack(f">{len(fields)}I", *fields) + toc + end
    return FRAME[:4] + bytes(32) + body + bytes(300)


def lame(delay: int, padding: int, name: bytes = b"LAME3.100") -> bytes:
    return struct.pack(">I", 50) + name.ljust(21, b"\0") + (delay << 12 | padding).to_bytes(3, "big")


def test_the_promise_of_a_xing_header() -> None:
    whole = xing_promise(xing(15, 100, 41700, end=lame(576, 1200)))
    assert whole is not None
    assert (whole.frames, whole.stream_bytes) == (100 * 1152 - 576 - 1200, 41700)
    counted = xing_promise(xing(1, 100, tag=b"Info"))
    assert counted is not None
    assert (counted.frames, counted.stream_bytes) == (115200, None)
    unknown = xing_promise(xing(15, 100, 0, end=lame(576, 1200, b"Other")))
    assert unknown is not None
    assert (unknown.frames, unknown.stream_bytes) == (115200, None)
    empty = xing_promise(xing(0))
    assert empty is not None
    assert empty.frames is None


def test_the_promise_of_a_vbri_header() -> None:
    data = FRAME[:4] + bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 0, 41700, 100) + bytes(100)
    promise = xing_promise(data)
    assert promise is not None
    assert (promise.frames, promise.stream_bytes) == (115200, 41700)


def test_frames_without_a_promise() -> None:
    assert xing_promise(FRAME) is None
    assert xing_promise(b"text") is None
