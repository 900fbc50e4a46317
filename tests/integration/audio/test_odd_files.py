"""Broken, lying and foreign files: each gets the class that tells the operator what to do."""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from mutagen.mp4 import MP4, MP4FreeForm

from ironclad.audio import decode_child
from ironclad.audio.compare import lag
from ironclad.audio.decode import Decoded, Examined
from ironclad.audio.info import AudioInfo
from ironclad.audio.pcm import PcmFile
from ironclad.errors import (
    CorruptAudio,
    DecodedTooLarge,
    EmptyFile,
    InputError,
    NoSamples,
    NotAudio,
    SampleRateUnsupported,
    SourceMissing,
    TooLarge,
    TooLong,
    TooManyChannels,
    TruncatedAudio,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from ironclad.audio.info import AudioLimits

    MakeFile = Callable[..., Path]
    Noise = Callable[..., NDArray[np.float32]]
    Rewrite = Callable[[Path, Callable[[bytearray], object]], Path]

FAMILIES = {
    "flac": ("flac", True, 16),
    "flac24": ("flac", True, 24),
    "wav": ("wav", True, 16),
    "wav8": ("wav", True, 8),
    "wav32": ("wav", True, 32),
    "wavf": ("wav", True, 32),
    "wavd": ("wav", True, 64),
    "adpcm": ("other", False, None),
    "rf64": ("wav", True, 16),
    "w64": ("wav", True, 16),
    "aiff": ("aiff", True, 24),
    "au": ("wav", True, 16),
    "caf": ("alac", True, 16),
    "mp3": ("mp3", False, None),
    "ogg": ("vorbis", False, None),
    "m4a": ("aac", False, None),
    "alac": ("alac", True, 16),
    "aac": ("aac", False, None),
    "wma": ("wma", False, None),
    "wv": ("other", True, 16),
    "tta": ("other", True, 16),
    "mka": ("flac", True, 16),
    "mp2": ("other", False, None),
}
INEXACT = {"aac", "wma", "mp2", "adpcm"}
"""Formats without a record of the encoder's delay: the length cannot be known."""
LATE = {"aac": 1024, "wma": -2048, "mp2": 481, "adpcm": 0}
CUT_UNKNOWABLE = {"aac", "mp2"}
"""Bare streams of frames: one that was cut between two of them is a shorter one."""


def probe(path: Path, limits: AudioLimits) -> AudioInfo:
    """What the sandbox child does, without the child: the files here are many and ours."""
    request = {"path": str(path), "limits": limits.to_dict()}
    return AudioInfo.from_dict(decode_child.probe(request, lambda _: None))


def decode(path: Path, out: Path | None, limits: AudioLimits) -> Decoded:
    """Likewise."""
    request = {"path": str(path), "out": None if out is None else str(out), "limits": limits.to_dict()}
    return Decoded.from_dict(decode_child.main(request, lambda _: None))


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_kind_is_recognised_and_decoded(
    make_file: MakeFile, noise: Noise, tmp_path: Path, limits: AudioLimits, kind: str
) -> None:
    signal = noise(1.0)
    path = make_file(f"x.{kind}", signal)
    info = probe(path, limits)
    assert (info.family, info.lossless, info.bits_per_sample) == FAMILIES[kind]
    assert (info.sample_rate, info.channels) == (44100, 2)
    assert info.duration == pytest.approx(len(signal) / 44100, abs=0.15)
    out = tmp_path / "out.f32"
    decoded = decode(path, out, limits)
    assert out.stat().st_size == decoded.frames * 8
    heard = PcmFile(out, decoded.frames, 2, 44100).read()
    assert lag(signal, heard, 3000) == LATE.get(kind, 0)
    if kind not in INEXACT:
        assert decoded.frames == len(signal)
    if info.lossless and kind != "wav8":
        step = 2.0 ** -(min(info.bits_per_sample or 24, 24) - 1)
        assert np.abs(heard - signal).max() <= step


def test_alac_in_caf_may_count_its_last_packet_in_full(
    make_file: MakeFile, noise: Noise, tmp_path: Path, limits: AudioLimits
) -> None:
    signal = noise(1.0)
    path = make_file("x.caf", signal)
    data = bytearray(path.read_bytes())
    at = data.index(b"pakt") + 12  # packets, frames, priming, remainder
    (packets,) = struct.unpack_from(">q", data, at)
    assert packets * 4096 > len(signal)
    struct.pack_into(">qii", data, at + 8, packets * 4096, 0, 0)
    path.write_bytes(data)
    decoded = decode(path, None, limits)
    assert (decoded.frames, decoded.truncated) == (len(signal), False)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(TruncatedAudio):
        decode(path, None, limits)


def test_a_decode_without_output_finds_the_same(make_file: MakeFile, tmp_path: Path, limits: AudioLimits) -> None:
    path = make_file("x.flac")
    assert decode(path, None, limits) == decode(path, tmp_path / "out.f32", limits)
    again = decode(path, None, limits)
    assert Decoded.from_dict(again.to_dict() | {"from_the_future": 1}) == again


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", EmptyFile, "empty"),
        (b"abc", NotAudio, "3 bytes"),
        (b"<!DOCTYPE html><html><body>404</body></html>", NotAudio, "web page"),
        (b"\xef\xbb\xbf  <?xml version='1.0'?><a>bbbbbbbbbbbbb</a>", NotAudio, "markup"),
        (b"Dear friend, this is not music.\n" * 20, NotAudio, "text"),
        (bytes(5000), NotAudio, "zeros"),
        (np.random.default_rng(0).bytes(50_000), NotAudio, "no audio"),
        (b"DSD " + bytes(200), NotAudio, "DSD"),
        (b"FRM8" + bytes(200), NotAudio, "DSD"),
        (b"MAC \x96\x0f" + bytes(200), NotAudio, "APE"),
        (b"PK\x03\x04" + bytes(200), NotAudio, "ZIP"),
        (b"\xff\xd8\xff\xe0" + bytes(200), NotAudio, "JPEG"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x14" + bytes(20), NoSamples, "tags"),
        (b"ID3\x04\x00\x00\x00\x7f\x7f\x7f" + bytes(20), TruncatedAudio, "tag"),
    ],
)
def test_what_is_no_audio_is_named(
    *, tmp_path: Path, limits: AudioLimits, data: bytes, error: type[InputError], words: str
) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(data)
    with pytest.raises(error, match=words):
        probe(path, limits)


@pytest.mark.parametrize("name", ["song.mp3", "song.m3u8", "song.flac"])
def test_a_playlist_cannot_reach_other_files(
    make_file: MakeFile, tmp_path: Path, limits: AudioLimits, name: str
) -> None:
    secret = make_file("secret.mp3")
    for scheme in (str(secret), f"file://{secret}", "secret.mp3", f"concat:{secret}"):
        playlist = tmp_path / name
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{scheme}\n#EXT-X-ENDLIST\n")
        with pytest.raises(NotAudio, match="playlist"):
            decode(playlist, None, limits)
    ffconcat = tmp_path / "list.mp3"
    ffconcat.write_text(f"ffconcat version 1.0\nfile {secret}\n")
    with pytest.raises(NotAudio):
        decode(ffconcat, None, limits)


def test_an_mp4_that_refers_to_another_file_is_not_followed(
    make_file: MakeFile, rewrite: Rewrite, limits: AudioLimits
) -> None:
    path = make_file("x.m4a")

    def external(data: bytearray) -> None:
        at = data.index(b"url \x00\x00\x00\x01")
        data[at + 4 : at + 8] = bytes(4)  # "the samples are elsewhere"

    rewrite(path, external)
    whole = decode(make_file("y.m4a"), None, limits)
    with contextlib.suppress(InputError):
        assert decode(path, None, limits).blake3 == whole.blake3  # its own samples or nothing


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind not in CUT_UNKNOWABLE])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_cut_file_is_truncated(
    *, make_file: MakeFile, noise: Noise, tmp_path: Path, limits: AudioLimits, kind: str, share: float
) -> None:
    path = make_file(f"x.{kind}", noise(3.0))
    whole = decode(path, None, limits)
    os.truncate(path, int(path.stat().st_size * share))
    out = tmp_path / "out.f32"
    with pytest.raises(TruncatedAudio):
        decode(path, out, limits)
    if kind in {"m4a", "alac"}:
        return  # its index stood at the end: nothing can be decoded
    part = decode(path, out, replace(limits, allow_truncated=True))
    assert part.truncated
    assert 0.3 * share * whole.frames < part.frames < whole.frames
    assert out.stat().st_size == part.frames * 8


def test_a_file_without_its_index_is_truncated_even_if_that_is_allowed(
    make_file: MakeFile, limits: AudioLimits
) -> None:
    path = make_file("x.m4a")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(TruncatedAudio, match="no index"):
        decode(path, None, replace(limits, allow_truncated=True))


@pytest.mark.parametrize("kind", ["flac", "wav", "mp3", "ogg", "tta"])
def test_a_header_alone_is_truncated(make_file: MakeFile, limits: AudioLimits, kind: str) -> None:
    path = make_file(f"x.{kind}")
    os.truncate(path, 60 if kind != "flac" else 90)
    with pytest.raises(TruncatedAudio):
        decode(path, None, limits)


@pytest.mark.parametrize("kind", ["wav", "aiff"])
def test_a_recording_of_nothing_has_no_samples(make_file: MakeFile, limits: AudioLimits, kind: str) -> None:
    with pytest.raises(NoSamples):
        decode(make_file(f"x.{kind}", np.zeros((0, 2), np.float32)), None, limits)


@pytest.mark.parametrize("kind", ["flac", "mp3", "ogg", "m4a", "alac", "aac"])
def test_a_little_damage_is_counted_and_length_is_kept(
    *, make_file: MakeFile, noise: Noise, rewrite: Rewrite, limits: AudioLimits, kind: str
) -> None:
    path = make_file(f"x.{kind}", noise(12.0))
    whole = decode(path, None, limits)

    def scratch(data: bytearray) -> None:
        middle = len(data) // 2
        length = 2000 if kind == "mp3" else 300  # MPEG frames have no checksum: only a lost header shows
        data[middle : middle + length] = np.random.default_rng(2).bytes(length)

    rewrite(path, scratch)
    decoded = decode(path, None, limits)
    assert decoded.damaged_packets > 0
    assert not decoded.truncated
    assert decoded.blake3 != whole.blake3
    assert abs(decoded.frames - whole.frames) <= (0 if kind in {"flac", "ogg", "m4a", "alac"} else 3 * 1152)


@pytest.mark.parametrize("kind", ["flac", "mp3", "ogg", "alac", "wv"])
def test_a_lot_of_damage_is_corrupt(
    *, make_file: MakeFile, noise: Noise, rewrite: Rewrite, limits: AudioLimits, kind: str
) -> None:
    def wreck(data: bytearray) -> None:
        random = np.random.default_rng(3)
        for at in range(6000, len(data) - 6000, 1500 if kind == "mp3" else 3000):
            data[at : at + 200] = random.bytes(200)

    with pytest.raises(CorruptAudio):
        decode(rewrite(make_file(f"x.{kind}", noise(4.0)), wreck), None, limits)


def test_a_part_missing_in_the_middle_is_corrupt(
    make_file: MakeFile, noise: Noise, rewrite: Rewrite, limits: AudioLimits
) -> None:
    path = make_file("x.flac", noise(4.0))
    rewrite(path, lambda data: data[: len(data) // 3] + data[len(data) // 2 :])
    with pytest.raises(CorruptAudio, match="lost"):
        decode(path, None, limits)


def _xing(data: bytearray, field: int, value: int) -> None:
    at = data.index(b"Xing") if b"Xing" in data else data.index(b"Info")
    data[at + 8 + 4 * field : at + 12 + 4 * field] = struct.pack(">I", value)


@pytest.mark.parametrize("count", [10, 100_000, 6_470_000])
def test_a_wrong_xing_count_does_not_decide(
    make_file: MakeFile, noise: Noise, rewrite: Rewrite, limits: AudioLimits, count: int
) -> None:
    path = rewrite(make_file("x.mp3", noise(2.0)), lambda data: _xing(data, 0, count))
    decoded = decode(path, None, limits)
    assert abs(decoded.frames - 88207) <= 3 * 1152
    assert not decoded.truncated


def test_a_lying_duration_is_not_believed(
    make_file: MakeFile, noise: Noise, rewrite: Rewrite, limits: AudioLimits
) -> None:
    def lie(data: bytearray) -> None:
        for box in (b"mvhd", b"mdhd"):
            at = data.index(box)
            data[at + 20 : at + 24] = struct.pack(">I", 0x7FFFFFFF)

    assert decode(rewrite(make_file("x.m4a", noise(1.0)), lie), None, limits).frames == pytest.approx(44107, abs=22)


@pytest.mark.parametrize(("told", "expected"), [(44100, 44100), (44107, 44107), (9_000_000, 44107), (100, 44107)])
def test_an_itunes_comment_counts_if_it_is_about_this_file(
    *, make_file: MakeFile, noise: Noise, limits: AudioLimits, told: int, expected: int
) -> None:
    path = make_file("x.m4a", noise(1.0))
    tags = MP4(path)
    comment = f" 00000000 00000400 00000000 {told:016X} 00000000 00000000"
    tags["----:com.apple.iTunes:iTunSMPB"] = [MP4FreeForm(comment.encode())]
    tags.save()
    assert probe(path, limits).declared_frames == expected
    assert decode(path, None, limits).frames == expected


def test_flac_without_its_streaminfo_numbers(
    make_file: MakeFile, noise: Noise, rewrite: Rewrite, limits: AudioLimits
) -> None:
    path = make_file("x.flac", noise(1.0))

    def forget(data: bytearray) -> None:
        data[21] &= 0xF0
        data[22:42] = bytes(20)  # sample count and MD5 unknown

    rewrite(path, forget)
    assert probe(path, limits).declared_frames is None
    assert decode(path, None, limits).frames == 44107
    rewrite(path, lambda data: data.__setitem__(slice(4, 42), b"\xff" * 38))
    with pytest.raises(InputError):
        decode(path, None, limits)


@pytest.mark.parametrize("kind", ["mp3", "flac", "aac"])
def test_tags_around_the_audio_change_nothing(
    make_file: MakeFile, noise: Noise, rewrite: Rewrite, limits: AudioLimits, kind: str
) -> None:
    path = make_file(f"x.{kind}", noise(1.0))
    whole = decode(path, None, limits)
    size = 3 << 20  # a large picture
    id3 = b"ID3\x03\x00\x00" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    id3 += b"APIC" + struct.pack(">I", size - 10) + bytes(2) + b"\xff\xfb\x90\x64" * ((size - 10) // 4) + bytes(2)
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0xA0000000) + bytes(8)
    footer = ape[:20] + struct.pack("<I", 0x80000000) + bytes(8)
    id3v1 = b"TAG" + b"x" * 125
    trailer = ape + bytes(0) + footer + id3v1 if kind != "flac" else id3v1
    rewrite(path, lambda data: id3 + data + trailer)
    tagged = decode(path, None, limits)
    assert tagged.frames == whole.frames
    assert tagged.blake3 == whole.blake3


def test_wav_with_odd_chunks_and_unknown_sizes(
    make_file: MakeFile, noise: Noise, rewrite: Rewrite, limits: AudioLimits
) -> None:
    path = make_file("x.wav", noise(1.0))
    whole = decode(path, None, limits)

    def odd(data: bytearray) -> bytearray:
        at = data.index(b"data")
        return data[:at] + b"JUNK\x03\x00\x00\x00abc\x00" + data[at:]

    rewrite(path, odd)
    assert decode(path, None, limits).blake3 == whole.blake3
    for length in (0xFFFFFFFF, 0, 0x7FFFF000):

        def stream(data: bytearray, length: int = length) -> None:
            at = data.index(b"data")
            data[4:8] = data[at + 4 : at + 8] = struct.pack("<I", length)

        rewrite(path, stream)
        info = probe(path, limits)
        assert info.declared_frames is None
        assert decode(path, None, limits).blake3 == whole.blake3


def test_samples_that_are_no_numbers_become_silence(make_file: MakeFile, noise: Noise, limits: AudioLimits) -> None:
    signal = noise(3.0)
    signal[5000, 0], signal[70000, 1], signal[90000] = np.nan, np.inf, -np.inf
    path = make_file("x.wavf", signal)
    request = {"path": str(path), "limits": limits.to_dict()}
    examined = Examined.from_dict(decode_child.examine(request, lambda _: None))
    assert examined.damaged_packets == 2
    assert examined.peak < 1
    assert examined.frames == len(signal)
    assert Decoded.from_dict(examined.to_dict()) == decode(path, None, limits)


def test_limits_on_what_a_file_declares(make_file: MakeFile, noise: Noise, limits: AudioLimits) -> None:
    path = make_file("x.flac", noise(2.0))
    for change, error in (
        ({"max_bytes": 1000}, TooLarge),
        ({"max_seconds": 1.5}, TooLong),
        ({"max_decoded_bytes": 500_000}, DecodedTooLarge),
        ({"max_channels": 1}, TooManyChannels),
        ({"min_sample_rate": 48000}, SampleRateUnsupported),
        ({"max_sample_rate": 32000}, SampleRateUnsupported),
    ):
        with pytest.raises(error):
            probe(path, replace(limits, **change))
    assert probe(path, replace(limits, max_seconds=2.1, max_channels=2, max_sample_rate=44100)).channels == 2


@pytest.mark.parametrize("rate", [8000, 192_000])
@pytest.mark.parametrize("channels", [1, 6])
def test_rates_and_channels_of_all_sorts(
    *, make_file: MakeFile, noise: Noise, limits: AudioLimits, rate: int, channels: int
) -> None:
    signal = noise(0.3, channels, rate)
    decoded = decode(make_file("x.flac", signal, rate), None, limits)
    assert (decoded.frames, decoded.channels, decoded.sample_rate) == (len(signal), channels, rate)


def _ogg_page(serial: int, number: int, granule: int, flags: int, packets: list[bytes]) -> bytes:
    lacing = b"".join(bytes([255] * (len(packet) // 255)) + bytes([len(packet) % 255]) for packet in packets)
    page = (
        struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, serial, number, 0, len(lacing))
        + lacing
        + b"".join(packets)
    )
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return page[:22] + struct.pack("<I", crc) + page[26:]


def _opus_bomb(seconds: int, *, honest: bool) -> bytes:
    """Silence in Opus: a packet of three bytes lasts 120 ms, so that an hour takes 120 kB, and ten minutes 20."""
    head = b"OpusHead" + struct.pack("<BBHIHB", 1, 1, 0, 48000, 0, 0)
    tags = b"OpusTags" + struct.pack("<I", 0) + struct.pack("<I", 0)
    pages = [_ogg_page(1, 0, 0, 2, [head]), _ogg_page(1, 1, 0, 0, [tags])]
    packet, frame = b"\x03\x06", 5760  # code 3: six SILK frames of 20 ms without a byte each
    total = seconds * 48000 // frame
    done = 0
    while done < total:
        count = min(255, total - done)
        done += count
        granule = done * frame if honest else done
        pages.append(_ogg_page(1, len(pages), granule, 4 if done == total else 0, [packet] * count))
    return b"".join(pages)


@pytest.mark.parametrize("honest", [True, False])
def test_hours_of_silence_in_a_small_file_stop_at_the_limit(
    tmp_path: Path, limits: AudioLimits, *, honest: bool
) -> None:
    path = tmp_path / "bomb.opus"
    path.write_bytes(_opus_bomb(1800, honest=honest))
    assert path.stat().st_size < 60_000
    out = tmp_path / "out.f32"
    with pytest.raises(TooLong):
        decode(path, out, replace(limits, max_seconds=60.0))
    with pytest.raises(DecodedTooLarge):
        decode(path, out, replace(limits, max_decoded_bytes=10 << 20))
    assert not out.exists() or out.stat().st_size <= 10 << 20


def test_nine_hours_in_one_page_are_refused_by_what_they_declare(tmp_path: Path, limits: AudioLimits) -> None:
    head = b"OpusHead" + struct.pack("<BBHIHB", 1, 1, 312, 48000, 0, 0)
    tags = b"OpusTags" + bytes(8)
    path = tmp_path / "bomb.opus"
    path.write_bytes(
        _ogg_page(1, 0, 0, 2, [head])
        + _ogg_page(1, 1, 0, 0, [tags])
        + _ogg_page(1, 2, 9 * 3600 * 48000, 4, [b"\x03\x06"] * 200)
    )
    assert path.stat().st_size < 1024
    with pytest.raises(TooLong):
        probe(path, limits)


@pytest.mark.parametrize("kind", ["fifo", "folder", "missing", "link"])
def test_what_is_no_regular_file(tmp_path: Path, limits: AudioLimits, kind: str) -> None:
    path = tmp_path / "x.mp3"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    with pytest.raises(SourceMissing if kind == "missing" else NotAudio):
        probe(path, limits)


@pytest.mark.parametrize(
    "name", ["a\nb.flac", "\U0001f3b8 ü.flac", "x" * 250 + ".flac", "-i.flac", "http:\\x.flac", "%d.flac"]
)
def test_any_file_name_can_be_decoded(make_file: MakeFile, limits: AudioLimits, name: str) -> None:
    assert decode(make_file(name), None, limits).frames == 57337
