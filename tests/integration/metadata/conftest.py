"""Small audio files in every container, made once a session and copied for each test."""

from __future__ import annotations

import shutil
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import soundfile as sf

from ironclad.metadata.model import Picture, PictureType, SyncedLine, TrackTags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RATE = 48_000
WITH_SOUNDFILE = {"flac": "FLAC", "wav": "WAV", "mp3": "MP3", "ogg": "OGG", "opus": "OGG", "aiff": "AIFF"}
WITH_AV = {"m4a": ("aac", "ipod"), "wma": ("wmav2", "asf"), "wv": ("wavpack", "wv"), "aac": ("aac", "adts")}


def tone(seconds: float = 0.3) -> np.ndarray:
    time = np.arange(int(RATE * seconds)) / RATE
    return np.stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 550 * time)], axis=1).astype("float32") / 4


def encode_with_av(path: Path, codec: str, container: str) -> None:
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=RATE, layout="stereo", bit_rate=128_000)
        stream.codec_context.open()
        samples = np.ascontiguousarray(tone().T)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(
            format=stream.format, layout="stereo", rate=RATE, frame_size=stream.frame_size or 0
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("masters")
    made = {}
    for name, container in WITH_SOUNDFILE.items():
        path = folder / f"tone.{name}"
        subtype = {"opus": "OPUS", "ogg": "VORBIS"}.get(name)
        sf.write(path, tone(), RATE, format=container, subtype=subtype)
        made[name] = path
    for name, (codec, container) in WITH_AV.items():
        path = folder / f"tone.{name}"
        encode_with_av(path, codec, container)
        made[name] = path
    alac = folder / "alac.m4a"
    encode_with_av(alac, "alac", "ipod")
    made["alac"] = alac
    return made


@pytest.fixture
def audio(masters: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """`audio("flac")`: a fresh untagged file of that format."""

    def make(name: str, filename: str | None = None) -> Path:
        source = masters[name]
        target = tmp_path / (filename or source.name)
        shutil.copyfile(source, target)
        return target

    return make


def make_image(codec: str, size: tuple[int, int], shade: int = 80) -> bytes:
    width, height = size
    pixels = np.full((height, width, 3), shade, dtype=np.uint8)
    pixels[: height // 2, :, 0] = 200
    context = av.CodecContext.create(codec, "w")
    context.width, context.height = width, height
    context.pix_fmt = {"mjpeg": "yuvj420p", "png": "rgb24", "libwebp": "yuv420p", "bmp": "bgr24", "gif": "rgb8"}[codec]
    context.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=context.pix_fmt)
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


@pytest.fixture(scope="session")
def encode_image() -> Callable[[str, tuple[int, int]], bytes]:
    """`encode_image("libwebp", (width, height))`: a picture with two colours."""
    return make_image


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return make_image("mjpeg", (64, 48))


@pytest.fixture(scope="session")
def png() -> bytes:
    return make_image("png", (32, 32))


@pytest.fixture(scope="session")
def webp() -> bytes:
    return make_image("libwebp", (50, 40))


@pytest.fixture
def pictures(jpeg: bytes, png: bytes) -> tuple[Picture, ...]:
    return (
        Picture(PictureType.BACK_COVER, "image/png", "Rückseite", 32, 32, data=png),
        Picture(PictureType.FRONT_COVER, "image/jpeg", "", 64, 48, data=jpeg),
        Picture(PictureType.ARTIST, "image/jpeg", "the band", 64, 48, data=jpeg),
    )


@pytest.fixture
def full_tags() -> TrackTags:
    """A value in every field, several where a field takes several, and keys that no field knows."""
    texts = {
        name: (f"{name} one", f"{name} zwei")
        for name in [
            "artists",
            "album_artists",
            "genres",
            "moods",
            "composers",
            "lyricists",
            "conductors",
            "arrangers",
            "producers",
            "engineers",
            "mixers",
            "dj_mixers",
            "remixers",
            "original_artists",
            "labels",
            "publishers",
            "catalogue_numbers",
            "isrcs",
            "release_types",
            "languages",
            "artist_sorts",
            "album_artist_sorts",
            "composer_sorts",
            "musicbrainz_work_ids",
            "musicbrainz_artist_ids",
            "musicbrainz_album_artist_ids",
        ]
    }
    text = {
        name: f"{name} Ünïcode 中文"
        for name in [
            "title",
            "subtitle",
            "album",
            "disc_subtitle",
            "original_album",
            "asin",
            "media",
            "copyright",
            "encoded_by",
            "release_country",
            "release_status",
            "script",
            "grouping",
            "work",
            "movement",
            "title_sort",
            "album_sort",
            "acoustid_id",
            "acoustid_fingerprint",
            "musicbrainz_disc_id",
        ]
    }
    ids = {
        name: f"{number:08x}-0000-4000-8000-000000000000"
        for number, name in enumerate(
            (
                "musicbrainz_recording_id", "musicbrainz_track_id", "musicbrainz_album_id",
                "musicbrainz_release_group_id",
            )
        )
    }  # fmt: skip
    return TrackTags(
        **texts, **text, **ids,
        track=3, track_total=12, disc=1, disc_total=2, movement_number=2, movement_total=4,
        date="2001-05-03", original_date="1999", release_date="2001-06",
        comments=("first\nsecond line", "another"), lyrics="La la\nla",
        synced_lyrics=(SyncedLine(0, "La la"), SyncedLine(61_250, "la")), compilation=True,
        performers=("Ann (violin)", "Bob (drums)"), barcode="4006381333931",
        license="https://example.org/licence", website="https://example.org/band",
        bpm="128.5", key="F#m",
        replaygain_track_gain="-7.03 dB", replaygain_track_peak="0.988553", replaygain_album_gain="-6.50 dB",
        replaygain_album_peak="1.000000", replaygain_reference_loudness="-18.00 LUFS",
        extra={
            "ARTISTS": ("a", "b"), "COMMENT:CATALOGUE": ("noted",), "INVOLVEDPEOPLE": ("Eve (tea)",),
            "IRONCLAD_JOB": ("0190",), "LYRICSLANGUAGE": ("deu",), "MY KEY": ("x", "y"), "RATING:A@B.ORG": ("196",),
            "TITLE": ("a second title",), "URL:SHOP": ("https://example.org/shop",),
        },
    )  # fmt: skip
