"""What headers promise, on files put together by hand."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import pytest

from ironclad.audio.declared import Promise, read_promise
from ironclad.audio.movie import edited_length
from ironclad.audio.sniff import Sniffed, sniff
from ironclad.errors import EmptyFile, InputError, NotAudio

if TYPE_CHECKING:
    from collections.abc import Sequence


def promised(demuxer: str, data: bytes, start: int = 0) -> Promise:
    return read_promise(io.BytesIO(data), len(data), Sniffed(demuxer, start))


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def moov(
    *, movie_scale: int = 1000, edit: int = 2000, media_time: int = 1024, duration: int = 89222, scale: int = 44100,
    kinds: Sequence[bytes] = (b"soun",), edits: int = 1, long: bool = False,
) -> bytes:  # fmt: skip
    head = (
        struct.pack(">IQQIQ", 1 << 24, 0, 0, scale, duration)
        if long
        else struct.pack(">IIIII", 0, 0, 0, scale, duration)
    )
    mvhd = struct.pack(">IIIII", 0, 0, 0, movie_scale, edit)
    entry = struct.pack(">QqI", edit, media_time, 1 << 16) if long else struct.pack(">IiI", edit, media_time, 1 << 16)
    elst = struct.pack(">II", (1 << 24) if long else 0, edits) + entry * edits
    tracks = [
        box(
            b"trak",
            box(b"edts", box(b"elst", elst)),
            box(b"mdia", box(b"mdhd", head), box(b"hdlr", bytes(8) + kind + bytes(12))),
        )
        for kind in kinds
    ]
    return box(b"moov", box(b"mvhd", mvhd), *tracks)


@pytest.mark.parametrize("long", [False, True])
def test_the_track_is_more_exact_than_the_edit(*, long: bool) -> None:
    assert edited_length(moov(long=long)) == 89222 - 1024  # 2 s are 88,200 to the millisecond
    assert edited_length(moov(long=long, kinds=(b"vide", b"soun"))) == 89222 - 1024


@pytest.mark.parametrize(
    "data",
    [
        moov(duration=90_000),  # padding is included: only the edit knows
        moov(movie_scale=44100, edit=88198),  # the edit is exact itself
        moov(movie_scale=0),
        moov(kinds=()),
        moov(kinds=(b"soun", b"soun")),
        moov(edits=2),
        moov(edits=0),
        moov(media_time=-1),
        box(b"moov"),
        moov()[:100],
        b"",
        bytes(100),
    ],
)
def test_where_the_track_does_not_say_more(data: bytes) -> None:
    assert edited_length(data) is None


def test_mp4_boxes() -> None:
    whole = box(b"ftyp", bytes(8)) + moov() + box(b"mdat", bytes(100))
    assert promised("mov", whole) == Promise(frames=88198)
    assert "mdat" in promised("mov", whole[:-50]).cut
    assert "no index" not in promised("mov", whole[:-50]).cut
    late = box(b"ftyp", bytes(8)) + box(b"mdat", bytes(100)) + moov()
    assert "no index" in promised("mov", late[:80]).cut
    wide = struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 1 << 50) + bytes(10)
    assert "mdat" in promised("mov", wide).cut
    assert promised("mov", moov() + struct.pack(">I", 0) + b"mdat" + bytes(50)).cut == ""
    assert promised("mov", struct.pack(">I", 1) + b"mdat" + b"\xff" * 8).cut != ""


def riff(data_size: int, there: int, tag: int = 1, extra: bytes = b"") -> bytes:
    fmt = struct.pack("<HHIIHH", tag, 2, 44100, 176_400, 4, 16)
    return (
        b"RIFF" + struct.pack("<I", 100) + b"WAVE" + extra
        + b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", data_size) + bytes(there)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (riff(400, 400), Promise(100, bits=16)),
        (riff(400, 400, extra=b"LIST\x03\x00\x00\x00abc\x00"), Promise(100, bits=16)),
        (riff(400, 100), Promise(100, bits=16, cut="the data chunk has 100 of 400 bytes")),
        (riff(0, 0), Promise(0, bits=16)),
        (riff(0, 400), Promise(exact=False, bits=16)),
        (riff(0xFFFFFFFF, 400), Promise(exact=False, bits=16)),
        (riff(400, 400, tag=17), Promise(exact=False)),
        (riff(400, 400)[:30], Promise(exact=False)),
    ],
)
def test_wav(data: bytes, expected: Promise) -> None:
    assert promised("wav", data) == expected


def test_rf64_takes_its_size_from_ds64() -> None:
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 1000, 400, 100, 0)
    assert promised("wav", riff(0xFFFFFFFF, 400, extra=ds64)) == Promise(100, bits=16)


def ogg(granule: int, flags: int, body: bytes = b"x") -> bytes:
    return struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 1, 0, 0, 1) + bytes([len(body)]) + body


def test_ogg() -> None:
    whole = ogg(0, 2) + ogg(-1, 0) + ogg(4096, 0) + ogg(8192, 4)
    assert promised("ogg", whole) == Promise(first_granule=4096)
    assert promised("ogg", whole[:-1]).cut == promised("ogg", whole[:-20]).cut == "its last page is not whole"
    assert promised("ogg", ogg(0, 2) + ogg(9, 0)).cut == "its last page is missing"
    assert promised("ogg", b"").cut == "its last page is not whole"


def test_matroska_and_asf_and_tta() -> None:
    ebml = b"\x1a\x45\xdf\xa3\x84abcd"
    assert promised("matroska", ebml + b"\x18\x53\x80\x67\x90" + bytes(16)).cut == ""
    assert promised("matroska", ebml + b"\x18\x53\x80\x67\xa0" + bytes(16)).cut != ""
    assert promised("matroska", ebml + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(16)).cut == ""
    assert promised("matroska", ebml[:4]).cut != ""
    header = bytes(16) + struct.pack("<Q", 30) + bytes(6)
    data = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c") + struct.pack("<Q", 124)
    assert promised("asf", header + data + bytes(100)) == Promise(whole=True)
    assert promised("asf", header + data + bytes(99)).cut == "123 of 124 bytes of audio are there"
    assert promised("asf", header[:20]).cut != ""
    assert promised("tta", b"TTA1" + struct.pack("<HHHII", 1, 2, 24, 44100, 77) + bytes(4)) == Promise(77, bits=24)


@pytest.mark.parametrize(
    "demuxer", ["wav", "w64", "flac", "mp3", "ogg", "mov", "asf", "matroska", "tta", "aac", "aiff"]
)
@pytest.mark.parametrize("data", [b"", b"\xff" * 300, bytes(300), b"\x7f" * 41])
def test_nonsense_is_read_without_a_fuss(demuxer: str, data: bytes) -> None:
    assert isinstance(promised(demuxer, data), Promise)


def test_the_order_of_magic_and_tags() -> None:
    id3 = b"ID3\x04\x00\x10\x00\x00\x00\x05" + bytes(5) + b"3DI" + bytes(7)
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 8, 0, 0xA0000000) + bytes(8) + bytes(8)
    flac = b"fLaC" + bytes(60)
    for tags in (b"", id3, ape, id3 + bytes(100) + ape):
        data = tags + flac
        assert sniff(io.BytesIO(data), len(data)) == Sniffed("flac", len(tags))
    for outer, inner, demuxer in ((b"RIFF", b"WAVE", "wav"), (b"FORM", b"AIFC", "aiff"), (b"BW64", b"WAVE", "wav")):
        data = outer + bytes(4) + inner + bytes(50)
        assert sniff(io.BytesIO(data), len(data)).demuxer == demuxer
    with pytest.raises(NotAudio):
        sniff(io.BytesIO(b"JUNK" + bytes(4) + b"WAVE" + bytes(50)), 62)
    with pytest.raises(EmptyFile):
        sniff(io.BytesIO(b""), 0)
    endless = id3 * 20 + flac
    with pytest.raises(InputError):
        sniff(io.BytesIO(endless), len(endless))
