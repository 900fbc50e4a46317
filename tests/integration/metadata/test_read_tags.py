"""Reading what others wrote, well or badly."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from mutagen import id3
from mutagen.aiff import AIFF
from mutagen.apev2 import APEBinaryValue, APEv2
from mutagen.asf import ASF, ASFByteArrayAttribute
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.mp4 import MP4, AtomDataType, MP4FreeForm
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wavpack import WavPack

from ironclad.errors import Cancelled, SourceMissing
from ironclad.metadata.caps import Caps
from ironclad.metadata.model import PictureType, SyncedLine, TrackTags
from ironclad.metadata.read import Reading, read
from ironclad.metadata.read_child import read_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def reading(tmp_path: Path) -> Callable[..., Reading]:
    """Read in this process: what the sandbox's child does."""
    folder = tmp_path / "pictures"
    folder.mkdir()

    def run(path: Path, caps: Caps | None = None) -> Reading:
        return Reading.from_dict(read_file(path, folder, caps or Caps()), folder)

    return run


def codes(found: Reading) -> set[str]:
    return {problem.code for problem in found.problems}


# --- each container ------------------------------------------------------------------------------------------------


def test_id3v23_is_read_as_it_was_meant(audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio("mp3")
    tags = ID3()
    tags.add(id3.TIT2(encoding=1, text=["Título"]))
    tags.add(id3.TPE1(encoding=1, text=["AC/DC"]))
    tags.add(id3.TDRC(encoding=1, text=["1999-12-31"]))
    tags.add(id3.TDOR(encoding=1, text=["1980"]))
    tags.add(id3.TRCK(encoding=1, text=["03/11"]))
    tags.add(id3.TCON(encoding=1, text=["(17)Rock"]))
    tags.add(id3.TIPL(encoding=1, people=[["producer", "Pat"], ["tea", "Eve"]]))
    tags.update_to_v23()
    tags.save(path, v2_version=3)
    found = reading(path)
    assert found.container == "MP3"
    assert found.tags == TrackTags(
        title="Título", artists=("AC/DC",), date="1999-12-31", original_date="1980", track=3, track_total=11,
        genres=("Rock",), producers=("Pat",), extra={"INVOLVEDPEOPLE": ("Eve (tea)",)},
    )  # fmt: skip


def test_id3_frames_of_every_kind(audio: Callable[..., Path], reading: Callable[..., Reading], jpeg: bytes) -> None:
    path = audio("mp3")
    tags = ID3()
    for frame in (
        id3.TMCL(encoding=3, people=[["violin", "Ann"], ["", "Bob"]]),
        id3.USLT(encoding=3, lang="deu", desc="", text="Zeile"),
        id3.SYLT(encoding=3, lang="eng", format=2, type=1, desc="", text=[("later", 2000), ("\nearly", 10)]),
        id3.SYLT(encoding=3, lang="eng", format=1, type=1, desc="frames", text=[("x", 1)]),
        id3.SYLT(encoding=3, lang="eng", format=2, type=3, desc="chords", text=[("Am", 1)]),
        id3.COMM(encoding=3, lang="eng", desc="iTunNORM", text=" 000001"),
        id3.COMM(encoding=3, lang="eng", desc="iTunSMPB", text=" 00000000"),
        id3.COMM(encoding=3, lang="XXX", desc="", text="plain"),
        id3.UFID(owner="http://musicbrainz.org", data=b"rec-id"),
        id3.POPM(email="a@b.org", rating=196, count=3),
        id3.RVA2(desc="track", channel=1, gain=-3.5, peak=0.5),
        id3.RVA2(desc="room", channel=1, gain=-3.5, peak=0.5),
        id3.WOAR(url="https://band.example"),
        id3.WXXX(encoding=3, desc="shop", url="https://shop.example"),
        id3.PRIV(owner="someone", data=b"\1\2"),
        id3.TSSE(encoding=3, text=["LAME"]),
        id3.GRP1(encoding=3, text=["group"]),
        id3.APIC(encoding=3, mime="image/jpg", type=6, desc="disc", data=jpeg),
    ):
        tags.add(frame)
    tags.save(path)
    found = reading(path)
    assert found.tags == TrackTags(
        performers=("Ann (violin)", "Bob"), lyrics="Zeile",
        synced_lyrics=(SyncedLine(10, "early"), SyncedLine(2000, "later")), comments=("plain",),
        musicbrainz_recording_id="rec-id", replaygain_track_gain="-3.50 dB", replaygain_track_peak="0.500000",
        website="https://band.example", grouping="group",
        extra={"LYRICSLANGUAGE": ("deu",), "RATING:A@B.ORG": ("196",), "URL:SHOP": ("https://shop.example",)},
    )  # fmt: skip
    assert [(p.type, p.mime, p.description) for p in found.pictures] == [(PictureType.MEDIA, "image/jpeg", "disc")]
    assert {(p.code, p.key) for p in found.problems} == {
        ("technical", "ITUNNORM"), ("technical", "ITUNSMPB"), ("technical", "TSSE"), ("not-carried", "PRIV"),
        ("not-carried", "RVA2"), ("not-carried", "SYNCEDLYRICS"),
    }  # fmt: skip


def test_a_text_as_id3_date_is_reported(audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio("mp3")
    raw = b"\0May 2001"
    frame = b"TDRC" + struct.pack(">I", len(raw)) + b"\0\0" + raw
    body = path.read_bytes()
    path.write_bytes(b"ID3\4\0\0" + bytes([0, 0, 0, len(frame)]) + frame + body)
    found = reading(path)
    assert found.tags.date is None
    assert codes(found) == {"bad-date"}


def test_vorbis_comments_with_old_spellings(
    audio: Callable[..., Path], reading: Callable[..., Reading], png: bytes
) -> None:
    path = audio("ogg")
    file = OggVorbis(path)
    file["TITLE"] = ["T"]
    file["ALBUM ARTIST"] = ["AA"]
    file["TOTALTRACKS"] = ["9"]
    file["TRACKNUMBER"] = ["2"]
    file["YEAR"] = ["1984"]
    file["UNSYNCEDLYRICS"] = ["la"]
    file["COVERART"] = [base64.b64encode(png).decode()]
    file["COVERARTMIME"] = ["image/png"]
    file["METADATA_BLOCK_PICTURE"] = ["not base64!"]
    file.save()
    found = reading(path)
    assert found.tags == TrackTags(title="T", album_artists=("AA",), track=2, track_total=9, date="1984", lyrics="la")
    assert [(p.type, p.mime, p.width) for p in found.pictures] == [(PictureType.FRONT_COVER, "image/png", 32)]
    assert {p.code for p in found.problems if p.key != "ENCODER"} == {"not-an-image"}


def test_opus_gains_become_replaygain(audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio("opus")
    file = OggOpus(path)
    file["R128_TRACK_GAIN"] = ["-2560"]
    file.save()
    assert reading(path).tags.replaygain_track_gain == "-5.00 dB"


def test_mp4_atoms(audio: Callable[..., Path], reading: Callable[..., Reading], jpeg: bytes) -> None:
    path = audio("m4a")
    file = MP4(path)
    file.tags.update(
        {
            "©nam": ["T"], "trkn": [(4, 0)], "disk": [(1, 2)], "cpil": True, "tmpo": [120], "covr": [jpeg],
            "apID": ["buyer@example.org"], "©too": ["Lavf"], "©dir": ["Dora"], "stik": [1],
            "----:com.apple.iTunes:MusicBrainz Track Id": [b"rec"], "----:com.apple.iTunes:Iunknown": ["é".encode()],
            "----:com.apple.iTunes:iTunSMPB": [b" 0000"], "----:org.other:NAME": [b"v"],
            "----:com.apple.iTunes:BLOB": [b"\xff\xfe\xfa"],
        }
    )  # fmt: skip
    file.save()
    found = reading(path)
    assert found.tags == TrackTags(
        title="T", track=4, disc=1, disc_total=2, compilation=True, bpm="120", musicbrainz_recording_id="rec",
        extra={"(C)DIR": ("Dora",), "IUNKNOWN": ("é",), "ORG.OTHER:NAME": ("v",), "STIK": ("1",)},
    )  # fmt: skip
    assert len(found.pictures) == 1
    assert {(p.code, p.key) for p in found.problems} == {
        ("technical", "apID"), ("technical", "©too"), ("technical", "ITUNSMPB"), ("not-carried", "BLOB")
    }  # fmt: skip


def test_asf_attributes(audio: Callable[..., Path], reading: Callable[..., Reading], jpeg: bytes) -> None:
    path = audio("wma")
    file = ASF(path)
    file["Title"] = "T"
    file["Author"] = ["A", "B"]
    file["WM/AlbumTitle"] = "L"
    file["WM/TrackNumber"] = 7
    file["WM/IsCompilation"] = True
    file["WM/PartOfSet"] = "1/2"
    file["WM/Something"] = "kept"
    picture = struct.pack("<BI", 3, len(jpeg)) + "image/jpeg\0".encode("utf-16-le") + "c\0".encode("utf-16-le") + jpeg
    file["WM/Picture"] = [ASFByteArrayAttribute(data=picture)]
    file.save()
    found = reading(path)
    assert found.tags == TrackTags(
        title="T", artists=("A", "B"), album="L", track=7, compilation=True, disc=1, disc_total=2,
        extra={"WM/SOMETHING": ("kept",)},
    )  # fmt: skip
    assert [(p.type, p.description, p.width) for p in found.pictures] == [(PictureType.FRONT_COVER, "c", 64)]


def test_apev2_items(audio: Callable[..., Path], reading: Callable[..., Reading], png: bytes) -> None:
    path = audio("wv")
    file = WavPack(path)
    if file.tags is None:
        file.add_tags()
    file["Title"] = "T"
    file["Artist"] = ["A", "B"]
    file["Album Artist"] = "AA"
    file["Track"] = "5/6"
    file["Year"] = "2002"
    file["Cover Art (Back)"] = APEBinaryValue(b"Cover Art (Back).png\0" + png)
    file.save()
    found = reading(path)
    assert found.tags == TrackTags(
        title="T", artists=("A", "B"), album_artists=("AA",), track=5, track_total=6, date="2002"
    )
    assert [(p.type, p.description) for p in found.pictures] == [(PictureType.BACK_COVER, "")]


@pytest.mark.parametrize("name", ["wav", "aiff", "aac"])
def test_id3_in_other_containers(name: str, audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio(name)
    if name == "aiff":
        file = AIFF(path)
        file.add_tags()
        file.tags.add(id3.TIT2(encoding=3, text=["T"]))
        file.save()
    elif name == "aac":
        tags = ID3()
        tags.add(id3.TIT2(encoding=3, text=["T"]))
        tags.save(path)
    else:
        chunk = b"ID3\4\0\0\0\0\0\x0cTIT2\0\0\0\2\0\0\3T"
        data = path.read_bytes() + b"id3 " + struct.pack("<I", len(chunk)) + chunk + b"\0" * (len(chunk) % 2)
        path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    assert reading(path).tags == TrackTags(title="T")


def test_riff_info_is_read_where_there_is_no_id3(audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio("wav")
    info = b"INFO"
    for name, value in (
        (b"INAM", b"Caf\xc3\xa9\0\0\0"),
        (b"IART", b"Ann\0"),
        (b"ISFT", b"Lav\0"),
        (b"IXYZ", b"no\0\0"),
    ):
        info += name + struct.pack("<I", len(value)) + value
    data = path.read_bytes() + b"LIST" + struct.pack("<I", len(info)) + info
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    found = reading(path)
    assert found.tags == TrackTags(title="Café", artists=("Ann",))
    assert codes(found) == {"technical", "not-carried"}


def test_binary_values_are_reported_in_every_container(
    audio: Callable[..., Path], reading: Callable[..., Reading]
) -> None:
    wma = audio("wma")
    asf = ASF(wma)
    asf["WM/Blob"] = [ASFByteArrayAttribute(data=b"\1\2")]
    asf["WM/Picture"] = [ASFByteArrayAttribute(data=b"\3\1\0\0\0no end")]
    asf.save()
    found = reading(wma)
    assert {(p.code, p.key) for p in found.problems} >= {("not-carried", "WM/Blob"), ("not-an-image", "PICTURE")}

    wv = audio("wv")
    ape = WavPack(wv)
    if ape.tags is None:
        ape.add_tags()
    ape["Blob"] = APEBinaryValue(b"\1\2")
    ape.save()
    assert ("not-carried", "Blob") in {(p.code, p.key) for p in reading(wv).problems}

    m4a = audio("m4a")
    mp4 = MP4(m4a)
    mp4["----:com.apple.iTunes:U16"] = [MP4FreeForm("é".encode("utf-16-be"), AtomDataType.UTF16)]
    mp4.save()
    assert reading(m4a).tags.extra["U16"] == ("é",)

    ogg = audio("ogg")
    comments = OggVorbis(ogg)
    comments["COVERART"] = ["!!"]
    comments.save()
    assert ("not-an-image", "PICTURE") in {(p.code, p.key) for p in reading(ogg).problems}


def test_keys_that_no_container_could_hold_are_made_ones_that_all_can(
    audio: Callable[..., Path], reading: Callable[..., Reading]
) -> None:
    path = audio("mp3")
    tags = ID3()
    for description in ("a=b", "schlüssel", "x" * 300, "\x07", ""):
        tags.add(id3.TXXX(encoding=3, desc=description, text=["v"]))
    tags.save(path)
    found = reading(path)
    assert set(found.tags.extra) == {"A-B", "SCHL?SSEL", "X" * 200}
    assert codes(found) == {"bad-key"}


def test_riff_info_in_a_code_page(audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio("wav")
    value = "Группа крови".encode("cp1251") + b"\0\0"
    info = b"INFO" + b"INAM" + struct.pack("<I", len(value)) + value
    data = path.read_bytes() + b"LIST" + struct.pack("<I", len(info)) + info
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    assert reading(path).tags.title == "Группа крови"


# --- mixtures and lies ---------------------------------------------------------------------------------------------


def test_ape_fills_what_id3_lacks_in_an_mp3(audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio("mp3")
    ape = APEv2()
    ape["Title"] = "from APE"
    ape["Composer"] = "C"
    ape.save(path)
    tags = ID3()
    tags.add(id3.TIT2(encoding=3, text=["from ID3"]))
    tags.save(path)
    assert reading(path).tags == TrackTags(title="from ID3", composers=("C",))


def test_id3v1_is_the_last_resort(audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio("mp3")
    title = "A title that is longer than thirty letters"
    ape = APEv2()
    ape["Title"] = title
    ape.save(path)
    with path.open("ab") as file:
        file.write(b"TAG" + title.encode()[:30] + b"Somebody".ljust(30, b"\0") + b"\0" * 65)
    found = reading(path)
    assert found.tags.title == title
    assert found.tags.artists == ("Somebody",)


@pytest.mark.parametrize("encoding", ["cp1251", "utf-8"])
def test_code_pages_in_latin1_frames_are_repaired(
    encoding: str, audio: Callable[..., Path], reading: Callable[..., Reading]
) -> None:
    path = audio("mp3")
    tags = ID3()
    tags.add(id3.TIT2(encoding=0, text=["Группа крови".encode(encoding).decode("latin-1")]))
    tags.add(id3.TPE1(encoding=0, text=["Кино".encode(encoding).decode("latin-1")]))
    tags.add(id3.TALB(encoding=3, text=["Björk ÆØÅ"]))
    tags.save(path)
    found = reading(path)
    assert found.tags == TrackTags(title="Группа крови", artists=("Кино",), album="Björk ÆØÅ")
    assert codes(found) == {"repaired-code-page"}


def test_western_latin1_stays(audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio("mp3")
    tags = ID3()
    tags.add(id3.TIT2(encoding=0, text=["Hoppípolla"]))
    tags.add(id3.TPE1(encoding=0, text=["Sigur Rós, Motörhead & Röyksopp"]))
    tags.save(path)
    found = reading(path)
    assert found.tags == TrackTags(title="Hoppípolla", artists=("Sigur Rós, Motörhead & Röyksopp",))
    assert not found.problems


def test_harmful_characters_are_removed_and_reported(
    audio: Callable[..., Path], reading: Callable[..., Reading]
) -> None:
    path = audio("flac")
    file = FLAC(path)
    file["TITLE"] = ["evil\u202egpj.\x07exe"]
    file["ARTIST"] = ["one\0two\0"]
    file["COMMENT"] = ["line\r\nline\x1b[31m"]
    file["ALBUM"] = [" \x00 "]
    file["GENRE"] = ["multi\nline"]
    file.save()
    found = reading(path)
    assert found.tags == TrackTags(
        title="evilgpj.exe", artists=("one", "two"), comments=("line\nline[31m",), genres=("multi line",)
    )
    assert codes(found) == {"control-characters", "direction-override"}


def test_too_much_is_left_and_reported(
    audio: Callable[..., Path], reading: Callable[..., Reading], jpeg: bytes
) -> None:
    path = audio("mp3")
    tags = ID3()
    tags.add(id3.COMM(encoding=3, lang="eng", desc="", text="x" * 10_000_000))
    tags.add(id3.TIT2(encoding=3, text=["T"]))
    for number in range(120):
        tags.add(id3.APIC(encoding=3, mime="image/jpeg", type=3, desc=f"{number}", data=jpeg))
    tags.save(path)
    found = reading(path)
    assert found.tags == TrackTags(title="T")
    assert len(found.pictures) == 100
    assert codes(found) == {"value-too-long", "too-many-pictures"}
    small = reading(path, Caps(picture_bytes=3 * len(jpeg)))
    assert len(small.pictures) == 3


def test_all_values_together_have_a_limit(audio: Callable[..., Path], reading: Callable[..., Reading]) -> None:
    path = audio("flac")
    file = FLAC(path)
    for number in range(30):
        file[f"KEY{number}"] = ["y" * 50]
    file.save()
    assert len(reading(path, Caps(values=10)).tags.extra) == 10
    found = reading(path, Caps(text_bytes=1000))
    assert len(found.tags.extra) == 20
    assert codes(found) == {"too-many-values"}


def test_pictures_are_told_by_their_bytes(
    audio: Callable[..., Path], reading: Callable[..., Reading], png: bytes
) -> None:
    path = audio("mp3")
    huge = png[:16] + struct.pack(">II", 20_000, 20_000) + png[24:]
    tags = ID3()
    for description, data in (("lying", png), ("text", b"<html>not found</html>"), ("huge", huge), ("empty", b"")):
        tags.add(id3.APIC(encoding=3, mime="image/jpeg", type=200, desc=description, data=data))
    tags.save(path)
    found = reading(path)
    assert [(p.description, p.mime, p.type) for p in found.pictures] == [("lying", "image/png", PictureType.OTHER)]
    assert codes(found) == {"wrong-mime", "not-an-image", "picture-too-large"}


# --- through the sandbox -------------------------------------------------------------------------------------------


def test_the_sandboxed_reader_reads_tags_and_pictures(audio: Callable[..., Path], tmp_path: Path, jpeg: bytes) -> None:
    path = audio("flac")
    file = FLAC(path)
    file["TITLE"] = ["T"]
    file.save()
    tags = ID3()
    tags.add(id3.APIC(encoding=3, mime="image/jpeg", type=3, desc="", data=jpeg))
    folder = tmp_path / "p"
    folder.mkdir()
    found = read(path, folder)
    assert found.container == "FLAC"
    assert found.tags == TrackTags(title="T")
    assert Reading.from_dict(found.to_dict(), folder) == found


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ID3",
        b"ID3\4\0\0\x7f\x7f\x7f\x7f",
        b"fLaC\0\0\0\x22" + b"\0" * 8,
        b"OggS" * 50,
        b"RIFF\xff\xff\xff\xffWAVE",
    ],
)
def test_damaged_files_have_no_tags_and_never_fail(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp3"
    path.write_bytes(content)
    found = read(path, tmp_path)
    assert found.tags == TrackTags()
    assert codes(found) <= {"unreadable"}


def test_running_into_a_limit_is_a_problem_not_a_failure(
    audio: Callable[..., Path], tmp_path: Path, jpeg: bytes
) -> None:
    path = audio("mp3")
    tags = ID3()
    tags.add(id3.APIC(encoding=3, mime="image/jpeg", type=3, desc="", data=jpeg))
    tags.save(path)
    missing = tmp_path / "no such folder"
    found = read(path, missing)
    assert found.tags == TrackTags()
    assert codes(found) == {"unreadable"}


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        read(tmp_path / "gone.mp3", tmp_path)


def test_cancelling_stops_the_reading(audio: Callable[..., Path], tmp_path: Path) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        read(audio("flac"), tmp_path, check=check)


def test_what_was_measured_of_the_sources_samples_is_not_carried(
    audio: Callable[..., Path], reading: Callable[..., Reading]
) -> None:
    """A result with the CRC, or the dynamic range, of other samples would pass for a rip that was checked."""
    path = audio("flac")
    file = FLAC(path)
    measured = ("AccurateRipCRC", "ACCURATERIPRESULT", "CTDBTRACKCONFIDENCE", "DYNAMIC RANGE", "ALBUM DYNAMIC RANGE")
    for key in (*measured, "DYNAMICS"):
        file[key] = "7"
    file.save()
    found = reading(path)
    assert found.tags.extra == {"DYNAMICS": ("7",)}
    assert {problem.key for problem in found.problems if problem.code == "technical"} >= {
        key.upper() for key in measured
    }


@pytest.fixture
def matroska(tmp_path: Path, jpeg: bytes) -> Path:
    path = tmp_path / "x.mka"
    with av.open(str(path), "w", format="matroska") as file:
        tags = {"title": "Título", "ARTIST": "Ana", "PART_NUMBER": "3", "DATE_RELEASED": "2001-02-03", "MY_KEY": "x"}
        file.metadata.update(tags)
        sound = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        file.add_attachment("cover.jpg", "image/jpeg", jpeg)
        file.add_attachment("notes.txt", "text/plain", b"hello")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    return path


def test_matroska_tags_and_attached_pictures(
    matroska: Path, reading: Callable[..., Reading], tmp_path: Path, jpeg: bytes
) -> None:
    found = reading(matroska)
    assert found.tags == TrackTags(
        title="Título", artists=("Ana",), track=3, date="2001-02-03", extra={"MY_KEY": ("x",)}
    )
    assert read(matroska, tmp_path).tags == found.tags  # in the sandbox
    assert [(one.type, one.content()) for one in found.pictures] == [(PictureType.FRONT_COVER, jpeg)]
    assert codes(found) == {"technical"}


@pytest.mark.parametrize("share", [0.01, 0.2, 0.9])
def test_a_cut_matroska_file_never_fails(matroska: Path, tmp_path: Path, share: float) -> None:
    content = matroska.read_bytes()
    matroska.write_bytes(content[: int(share * len(content))])
    assert read(matroska, tmp_path).container == ""
