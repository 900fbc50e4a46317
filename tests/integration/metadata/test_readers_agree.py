"""What we write is what others read: mutagen, TagLib (most players), FFmpeg and ffprobe (Jellyfin, Plex, Navidrome)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import av
import pytest
import taglib

from ironclad.metadata.model import Picture, TrackTags
from ironclad.metadata.write import FORMATS, write_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TAGS = TrackTags(
    title="Tïtle (Instrumental)", artists=("Ann", "Bob"), album="Älbum (Instrumentals)", album_artists=("Ann",),
    track=3, track_total=12, disc=1, disc_total=2, date="2001-05-03", genres=("Rock", "Jazz"), composers=("C",),
    comments=("a comment",), lyrics="la\nla", compilation=True, isrcs=("USABC0100001",), labels=("Label",), bpm="128",
    copyright="(c) 2001", musicbrainz_album_id="11111111-0000-4000-8000-000000000000",
    extra={"IRONCLAD_JOB": ("0190-job",)},
)  # fmt: skip
EXPECTED = {
    "TITLE": ["Tïtle (Instrumental)"], "ARTIST": ["Ann", "Bob"], "ALBUM": ["Älbum (Instrumentals)"],
    "ALBUMARTIST": ["Ann"], "DATE": ["2001-05-03"], "GENRE": ["Rock", "Jazz"], "COMPOSER": ["C"],
    "COMMENT": ["a comment"], "LYRICS": ["la\nla"], "COMPILATION": ["1"], "ISRC": ["USABC0100001"],
    "LABEL": ["Label"], "BPM": ["128"], "COPYRIGHT": ["(c) 2001"],
    "MUSICBRAINZ_ALBUMID": ["11111111-0000-4000-8000-000000000000"], "IRONCLAD_JOB": ["0190-job"],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_taglib_reads_the_same(name: str, audio: Callable[..., Path], pictures: tuple[Picture, ...]) -> None:
    path = audio(name)
    write_tags(path, TAGS, pictures)
    with taglib.File(str(path)) as file:
        found = {key: list(values) for key, values in file.tags.items()}
    for key, values in EXPECTED.items():
        assert found.get(key) == values, key
    assert found["TRACKNUMBER"] in (["3"], ["3/12"])
    assert found["DISCNUMBER"] in (["1"], ["1/2"])


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_ffmpeg_reads_the_same(name: str, audio: Callable[..., Path], pictures: tuple[Picture, ...]) -> None:
    path = audio(name)
    write_tags(path, TAGS, pictures)
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        found = {key.lower(): value for key, value in {**file.metadata, **stream.metadata}.items()}
        covers = [stream for stream in file.streams.video if stream.disposition.attached_pic]
        assert sum(1 for _ in file.decode(audio=0)) > 0
    assert found["title"] == "Tïtle (Instrumental)"
    assert found["album"] == "Älbum (Instrumentals)"
    assert found.get("album_artist", found.get("albumartist")) == "Ann"
    assert found["artist"].startswith("Ann")
    assert found["date"] == "2001-05-03"
    assert found["track"] in {"3", "3/12"}
    assert found["ironclad_job"] == "0190-job"
    if name != "wav":  # FFmpeg reads text, but no pictures, from a WAV's ID3 chunk
        assert len(covers) == (1 if name == "m4a" else 3)


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed (Debian: ffmpeg)")
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_ffprobe_reads_the_same(name: str, audio: Callable[..., Path], pictures: tuple[Picture, ...]) -> None:
    path = audio(name)
    write_tags(path, TAGS, pictures)
    found, covers = probed(path)
    expected = {
        "title": "Tïtle (Instrumental)", "album": "Älbum (Instrumentals)", "album_artist": "Ann", "date": "2001-05-03",
        "composer": "C", "comment": "a comment", "copyright": "(c) 2001", "ironclad_job": "0190-job",
    }  # fmt: skip
    found.setdefault("album_artist", found.get("albumartist", ""))
    assert {key: found.get(key) for key in expected} == expected
    for key, values in (("artist", ["Ann", "Bob"]), ("genre", ["Rock", "Jazz"])):
        parts = [part for part in re.split(r"[;/]\s*", found[key]) if part]
        # Of ID3 frames and MP4 atoms with several values FFmpeg 5 reads the first; later ones may read all.
        assert parts == values or (name in {"m4a", "mp3", "wav"} and parts == values[:1]), key
    assert found["track"] in {"3", "3/12"}
    assert found["disc"] in {"1", "1/2"}
    if name != "wav":  # FFmpeg reads text, but no pictures, from a WAV's ID3 chunk
        assert covers == (1 if name == "m4a" else 3)


def probed(path: Path) -> tuple[dict[str, str], int]:
    """The tags (names in lower case) and the number of pictures that the program ffprobe finds."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", path],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    data = json.loads(done.stdout)
    (audio,) = (stream for stream in data["streams"] if stream["codec_type"] == "audio")
    tags = {**data["format"].get("tags", {}), **audio.get("tags", {})}
    covers = sum(stream["disposition"]["attached_pic"] for stream in data["streams"])
    return {key.lower(): value for key, value in tags.items()}, covers
