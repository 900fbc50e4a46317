"""Songs made by rule, with known stems: for the demo, for tests and for benchmarks.

A song has a sung melody in the centre, a bass, a drum kit that is a little wide, and chords spread over the stereo
field; the mixture is the sum of its stems. The same seed gives the same samples and the same files. Samples are
float32 `(2, frames)`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av
import numpy as np
import soundfile
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, TALB, TCON, TDRC, TIT2, TPE1, TPE2, TRCK
from mutagen.mp4 import MP4, MP4Cover

from ironclad.audio.band import MAJOR, Band, Style

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RATE = 44100
STEMS = ("vocals", "drums", "bass", "other")

_PEAK = 0.89


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """What is written into a file's tags."""

    title: str
    artist: str
    album: str
    genre: str = ""
    date: str = ""
    track: int = 1
    total: int = 1


@dataclass(frozen=True, slots=True)
class Song:
    """Stems by name and their exact sum."""

    stems: Mapping[str, Samples]
    mixture: Samples
    rate: int = RATE


@dataclass(frozen=True, slots=True)
class DemoSong:
    """A song on disk: the tagged file to drop into Ironclad, and its true stems (float WAV) elsewhere."""

    path: Path
    tags: Tags
    frames: int
    rate: int
    mixture: Path
    stems: Mapping[str, Path] = field(default_factory=dict)
    """vocals, drums, bass, other and accompaniment (the sum of the last three)."""


_ARTIST, _ALBUM, _DATE = "The Null Voices", "Known Stems", "2021"
_DEMO: tuple[tuple[str, str, str, Style], ...] = (
    ("Paper Lanterns", "Synthpop", "flac", Style(bpm=112, bars=6)),
    (
        "Slow Tide", "Ballad", "mp3",
        Style(
            bpm=84, bars=4, key=60, scale=MAJOR, chords=((0, 4, 7, 11), (-3, 0, 4, 7), (5, 9, 12), (-5, -1, 2, 5)),
            timbre="pluck", kick="x.......x.x.....", snare="....x..x.....x..", hat="x...x...x...x...", voice=9,
            room=0.18,
        ),
    ),
    (
        "Café Réverbère", "Disco", "m4a",
        Style(
            bpm=132, bars=7, key=52, chords=((0, 3, 7), (5, 8, 12), (-2, 2, 5), (3, 7, 10)), timbre="organ",
            kick="x...x...x...x...", snare="....x.......x..x", hat="..x...x...x...x.", voice=15, room=0.08,
        ),
    ),
)  # fmt: skip
"""Title, genre, file suffix and style: different keys, tempos, grooves and instruments."""


def make_song(style: Style, seed: int, *, seconds: float | None = None, rate: int = RATE) -> Song:
    """Compose and render a song: its bars and a second for the last notes to fade, or exactly `seconds`."""
    random = np.random.default_rng(seed)
    bars = style.bars if seconds is None else int(np.ceil(seconds * style.bpm / 240))
    frames = round((bars * 240 / style.bpm + 1.0 if seconds is None else seconds) * rate)
    band = Band(style, random, bars, frames, rate)
    parts = {"vocals": band.vocals(), "drums": band.drums(), "bass": band.bass(), "other": band.chords()}
    fade = np.minimum(1.0, np.arange(frames, 0, -1) / (0.02 * rate))
    levels = {"vocals": 1.0, "drums": 0.9, "bass": 0.75, "other": 0.8}
    rms = {name: float(np.sqrt(np.mean(part**2))) or 1.0 for name, part in parts.items()}
    balanced = {name: part * fade * (levels[name] / rms[name]) for name, part in parts.items()}
    scale = _PEAK / max(1e-9, float(np.abs(sum(balanced.values())).max()))
    # Stems on the grid of 24 bits: their sum is then exact in float32, whatever the order.
    stems = {name: (np.rint(part * scale * 2**23) / 2**23).astype(np.float32) for name, part in balanced.items()}
    mixture = np.stack([stems[name] for name in STEMS]).sum(axis=0)
    return Song(stems, mixture, rate)


def short_song(seconds: float, seed: int, *, rate: int = RATE) -> Song:
    """A song of an exact length in a style drawn from the seed; made about a hundred times faster than it plays."""
    random = np.random.default_rng(seed)
    style = Style(
        bpm=float(random.integers(80, 140)), key=int(random.integers(50, 62)), room=0.0,
        timbre=str(random.choice(["pad", "pluck", "organ"])),
    )  # fmt: skip
    return make_song(style, seed + 1, seconds=seconds, rate=rate)


def write_demo_songs(folder: Path, seed: int = 1) -> list[DemoSong]:
    """Write three songs: `folder`/songs/NN - Title.SUFFIX, tagged, and the truth in `folder`/truth/NN - Title/."""
    songs = []
    for index, (title, genre, suffix, style) in enumerate(_DEMO):
        tags = Tags(
            title=title, artist=_ARTIST, album=_ALBUM, genre=genre, date=_DATE, track=index + 1, total=len(_DEMO)
        )  # fmt: skip
        song = make_song(style, seed * 100 + index)
        name = f"{tags.track:02d} - {tags.title}"
        path = folder / "songs" / f"{name}.{suffix}"
        truth = folder / "truth" / name
        for parent in (path.parent, truth):
            parent.mkdir(parents=True, exist_ok=True)
        accompaniment = np.stack([song.stems[stem] for stem in STEMS[1:]]).sum(axis=0)
        files = {stem: truth / f"{stem}.wav" for stem in (*STEMS, "accompaniment", "mixture")}
        for stem, file in files.items():
            samples = {**song.stems, "accompaniment": accompaniment, "mixture": song.mixture}[stem]
            soundfile.write(file, samples.T, song.rate, subtype="FLOAT")
        write_song(path, song.mixture, tags, rate=song.rate, cover=cover_art(seed * 100 + index))
        mixture = files.pop("mixture")
        songs.append(DemoSong(path, tags, song.mixture.shape[1], song.rate, mixture, files))
    return songs


# --- files -----------------------------------------------------------------------------------------------------------


def write_song(path: Path, samples: Samples, tags: Tags, *, rate: int = RATE, cover: bytes = b"") -> None:
    """Encode and tag a song; the suffix says how: flac (16 bit), mp3, m4a (AAC). `cover` is a PNG."""
    kind = path.suffix.lower()
    if kind == ".m4a":
        _write_aac(path, samples, rate)
        _tag_mp4(path, tags, cover)
    elif kind == ".mp3":
        soundfile.write(path, samples.T, rate, format="MP3", compression_level=0.1)
        _tag_id3(path, tags, cover)
    elif kind == ".flac":
        soundfile.write(path, samples.T, rate, format="FLAC", subtype="PCM_16")
        _tag_flac(path, tags, cover)
    else:
        raise ValueError(f"cannot write {kind} songs")


def _write_aac(path: Path, samples: Samples, rate: int) -> None:
    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo", bit_rate=192_000)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
        frame.sample_rate = rate
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _tag_flac(path: Path, tags: Tags, cover: bytes) -> None:
    file = FLAC(path)
    file.update({
        "title": tags.title, "artist": tags.artist, "albumartist": tags.artist, "album": tags.album, "date": tags.date,
        "genre": tags.genre, "tracknumber": str(tags.track), "tracktotal": str(tags.total),
    })  # fmt: skip
    if cover:
        picture = Picture()
        picture.type, picture.mime, picture.data = 3, "image/png", cover
        picture.width, picture.height, picture.depth = *struct.unpack(">II", cover[16:24]), 24
        file.add_picture(picture)
    file.save()


def _tag_id3(path: Path, tags: Tags, cover: bytes) -> None:
    file = ID3()
    for frame, text in (
        (TIT2, tags.title), (TPE1, tags.artist), (TPE2, tags.artist), (TALB, tags.album), (TDRC, tags.date),
        (TCON, tags.genre), (TRCK, f"{tags.track}/{tags.total}"),
    ):  # fmt: skip
        file.add(frame(encoding=3, text=[text]))
    if cover:
        file.add(APIC(encoding=3, mime="image/png", type=3, desc="", data=cover))
    file.save(path)


def _tag_mp4(path: Path, tags: Tags, cover: bytes) -> None:
    file = MP4(path)
    file.update({
        "\xa9nam": [tags.title], "\xa9ART": [tags.artist], "aART": [tags.artist], "\xa9alb": [tags.album],
        "\xa9day": [tags.date], "\xa9gen": [tags.genre], "trkn": [(tags.track, tags.total)],
    })  # fmt: skip
    if cover:
        file["covr"] = [MP4Cover(cover, imageformat=MP4Cover.FORMAT_PNG)]
    file.save()


def cover_art(seed: int, size: int = 480) -> bytes:
    """A PNG, `size` pixels square: a striped sun behind mountains, in colours drawn from the seed."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    hue = random.uniform(0, 2 * np.pi)
    tint = 0.5 + 0.5 * np.cos(hue + np.array([0.0, 2.1, 4.2]))
    sky = (0.15 + 0.55 * y[..., None] * tint + 0.25 * (1 - y[..., None]) * tint[::-1]) * 255
    radius = np.hypot(x - 0.5, y - 0.46)
    stripes = (y < 0.42) | (np.sin(y * 110) > (y - 0.42) * 5 - 0.9)  # noqa: PLR2004  # where the stripes begin
    sun = (radius < 0.27) & stripes  # noqa: PLR2004  # radius of the sun
    sky[sun] = 255 * (0.55 + 0.45 * tint[[1, 2, 0]])
    for layer in range(3):
        frequencies, phases = random.uniform(4, 22, 5), random.uniform(0, 6, 5)
        ridge = 0.66 + 0.09 * layer + sum(
            0.035 / (1 + index) * np.sin(frequencies[index] * x + phases[index]) for index in range(5)
        )  # fmt: skip
        sky[y > ridge] = 255 * tint * (0.34 - 0.1 * layer)
    pixels = np.clip(sky, 0, 255).astype(np.uint8)
    # Each row as its difference to the row above (PNG filter 2): smooth pictures become small.
    rows = np.diff(pixels, axis=0, prepend=np.zeros((1, size, 3), np.uint8)).reshape(size, -1)
    data = zlib.compress(np.insert(rows, 0, 2, axis=1).tobytes(), 9)
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, body) for name, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
