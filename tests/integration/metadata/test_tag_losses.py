"""What a format cannot hold, and what writers refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mutagen
import pytest
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.mp4 import MP4, MP4FreeForm

from ironclad.errors import BadRequest, OutputInvalid
from ironclad.metadata.caps import Caps
from ironclad.metadata.model import Picture, PictureType, TrackTags
from ironclad.metadata.read import Reading
from ironclad.metadata.read_child import read_file
from ironclad.metadata.write import write_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FRONT = PictureType.FRONT_COVER


def read(path: Path) -> Reading:
    return Reading.from_dict(read_file(path, path.parent, Caps()), path.parent)


@pytest.mark.parametrize("name", ["tone.wma", "tone", "tone.txt"])
def test_formats_without_a_writer_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        write_tags(tmp_path / name, TrackTags())


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".opus", ".wav", ".m4a"])
def test_a_file_of_another_format_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"this is not audio at all, whatever it is called")
    with pytest.raises(OutputInvalid):
        write_tags(path, TrackTags(title="x"))


@pytest.mark.parametrize("name", ["flac", "ogg"])
def test_a_picture_too_large_for_a_block_is_listed(name: str, audio: Callable[..., Path], jpeg: bytes) -> None:
    big = Picture(FRONT, "image/jpeg", "", 64, 48, data=jpeg + bytes(1 << 24))
    (loss,) = write_tags(audio(name), TrackTags(title="x"), [big])
    assert (loss.key, loss.value) == ("PICTURE", "FRONT_COVER")
    assert "16 MiB" in loss.reason


@pytest.mark.parametrize("name", ["mp3", "wav", "m4a"])
def test_webp_is_listed_where_players_cannot_show_it(name: str, audio: Callable[..., Path], webp: bytes) -> None:
    path = audio(name)
    (loss,) = write_tags(path, TrackTags(title="x"), [Picture(FRONT, "image/webp", "", 50, 40, data=webp)])
    assert "image/webp" in loss.reason
    assert read(path).pictures == ()


def test_mp4_shows_any_picture_as_the_cover(audio: Callable[..., Path], png: bytes) -> None:
    path = audio("m4a")
    losses = write_tags(path, TrackTags(), [Picture(PictureType.BAND, "image/png", "us", 32, 32, data=png)])
    assert [loss.value for loss in losses] == ["BAND", "us"]
    assert [picture.type for picture in read(path).pictures] == [FRONT]


def test_pictures_with_one_description_are_all_kept(audio: Callable[..., Path], png: bytes, jpeg: bytes) -> None:
    path = audio("mp3")
    pictures = [
        Picture(FRONT, "image/png", "same", 32, 32, data=png),
        Picture(PictureType.BAND, "image/jpeg", "same", 64, 48, data=jpeg),
    ]
    assert write_tags(path, TrackTags(), pictures) == ()
    assert {(picture.type, picture.description) for picture in read(path).pictures} == {
        (FRONT, "same"), (PictureType.BAND, "same"),
    }  # fmt: skip


def test_a_picture_is_taken_once(audio: Callable[..., Path], png: bytes) -> None:
    path = audio("flac")
    write_tags(path, TrackTags(), [Picture(FRONT, "image/png", "", 32, 32, data=png)] * 2)
    assert len(read(path).pictures) == 1


def test_id3_holds_one_identifier_an_owner_and_timed_lines_only(audio: Callable[..., Path]) -> None:
    path = audio("mp3")
    tags = TrackTags(
        musicbrainz_recording_id="a",
        extra={"MUSICBRAINZ_TRACKID": ("b",), "SYNCEDLYRICS": ("no times",), "UFID:OTHER": ("o",)},
    )
    losses = write_tags(path, tags)
    assert {(loss.key, loss.value) for loss in losses} == {("MUSICBRAINZ_TRACKID", "b"), ("SYNCEDLYRICS", "no times")}
    assert read(path).tags == TrackTags(musicbrainz_recording_id="a", extra={"UFID:OTHER": ("o",)})


def test_id3_frames_without_a_field_come_back_as_they_were(audio: Callable[..., Path]) -> None:
    path = audio("mp3")
    tags = TrackTags(
        website="https://a.example", copyright="c",
        extra={
            "RATING": ("loved",), "RATING:X": ("300",), "TPRO": ("a producer's notice",),
            "WEBSITE": ("https://b.example",),
        },
    )  # fmt: skip
    assert write_tags(path, tags) == ()
    assert ID3(path)["TPRO"].text == ["a producer's notice"]
    assert read(path).tags == tags


@pytest.mark.parametrize("name", ["mp3", "wav"])
@pytest.mark.parametrize(
    ("date", "shown"),
    [
        ("2004-01-01T08:00:00Z", "2004-01-01 08:00:00"),  # what the iTunes store writes
        ("2004-05-06T08:00:00.000+02:00", "2004-05-06 08:00:00"), ("2001/02/03", "2001"), ("1999-5", "1999"),
        ("20040101", "2004-01-01"), ("spring 1999", None), ("200401011", None),
    ],
)  # fmt: skip
def test_a_date_that_id3_cannot_hold_still_shows_a_year(
    audio: Callable[..., Path], name: str, date: str, shown: str | None
) -> None:
    path = audio(name)
    tags = TrackTags(date=date, original_date=date, release_date="2010")
    assert write_tags(path, tags) == ()
    frames: Any = mutagen.File(path).tags
    assert [str(frames[frame]) if frame in frames else None for frame in ("TDRC", "TDOR", "TDRL")] == [
        shown, shown, "2010",
    ]  # fmt: skip
    assert read(path).tags == tags


def test_opus_gains(audio: Callable[..., Path]) -> None:
    path = audio("opus")
    losses = write_tags(path, TrackTags(replaygain_track_gain="loud", replaygain_album_gain="+200 dB"))
    assert {(loss.key, loss.value) for loss in losses} == {
        ("REPLAYGAIN_TRACK_GAIN", "loud"), ("REPLAYGAIN_ALBUM_GAIN", "+200 dB"),
    }  # fmt: skip
    assert read(path).tags == TrackTags()


def test_numbers_that_mp4_cannot_count_are_kept_as_text(audio: Callable[..., Path]) -> None:
    path = audio("m4a")
    tags = TrackTags(track=70_000, track_total=12, bpm="fast", movement_number=99_999, compilation=True)
    tags = replace(tags, extra={"COMPILATION": ("sort of",)})
    assert write_tags(path, tags) == ()
    assert read(path).tags.track == 70_000
    assert read(path).tags.bpm == "fast"
    assert read(path).tags.movement_number == 99_999


def test_what_only_players_of_mp4_know_stays_an_atom_there(audio: Callable[..., Path]) -> None:
    path = audio("m4a")
    tags = TrackTags(
        title="x",
        extra={"HDVD": ("0",), "PCST": ("no",), "PGAP": ("1",), "RTNG": ("300",), "SHWM": ("01",), "STIK": ("2",)},
    )
    assert write_tags(path, tags) == ()
    atoms = MP4(path)
    assert (atoms["pgap"], atoms["stik"], atoms["hdvd"]) == (True, [2], [0])
    assert not {"pcst", "rtng", "shwm"} & set(atoms)  # these are no such numbers
    assert read(path).tags == tags


def test_the_gapless_atom_of_the_encoder_stays(audio: Callable[..., Path]) -> None:
    path = audio("m4a")
    file = MP4(path)
    file["----:com.apple.iTunes:iTunSMPB"] = [MP4FreeForm(b" 00000000 00000840")]
    file.save()
    write_tags(path, TrackTags(title="x"))
    assert MP4(path)["----:com.apple.iTunes:iTunSMPB"] == [MP4FreeForm(b" 00000000 00000840")]


def test_blocks_that_are_not_tags_stay_in_a_flac(audio: Callable[..., Path]) -> None:
    path = audio("flac")
    before = [block.code for block in FLAC(path).metadata_blocks if block.code not in {1, 4, 6}]
    write_tags(path, TrackTags(title="x"))
    assert [block.code for block in FLAC(path).metadata_blocks if block.code not in {1, 4, 6}] == before


def test_writing_to_a_flac_without_any_comment_block(audio: Callable[..., Path]) -> None:
    path = audio("flac")
    file = FLAC(path)
    file.metadata_blocks = [block for block in file.metadata_blocks if block.code != 4]
    file.tags = None
    file.save()
    write_tags(path, TrackTags(title="x"))
    assert read(path).tags == TrackTags(title="x")
