from __future__ import annotations

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING, Any

import av
import mutagen
import numpy as np
import pytest
import soundfile

from ironclad.audio import band, synth

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[synth.DemoSong]:
    return synth.write_demo_songs(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def song() -> synth.Song:
    return synth.make_song(band.Style(bpm=112, bars=4), 7)


def share(samples: Array, low: float, high: float) -> float:
    """Share of the energy between two frequencies in Hz."""
    energy = (np.abs(np.fft.rfft(samples)) ** 2).sum(axis=0)
    hertz = np.fft.rfftfreq(samples.shape[1], 1 / synth.RATE)
    return float(energy[(hertz >= low) & (hertz < high)].sum() / energy.sum())


def width(samples: Array) -> float:
    """Energy of the difference of the channels, over that of their sum."""
    return float(((samples[0] - samples[1]) ** 2).sum() / ((samples[0] + samples[1]) ** 2).sum())


def read(path: Path) -> Array:
    samples: Array = soundfile.read(path, dtype="float32")[0].T
    return samples


# --- the music -------------------------------------------------------------------------------------------------------


def test_the_mixture_is_the_exact_sum_and_does_not_clip(song: synth.Song) -> None:
    assert tuple(song.stems) == synth.STEMS
    for order in (synth.STEMS, synth.STEMS[::-1]):
        total = np.zeros_like(song.mixture)
        for stem in order:
            total += song.stems[stem]
        np.testing.assert_array_equal(total, song.mixture)
    assert 0.85 < np.abs(song.mixture).max() <= 0.9
    assert all(np.isfinite(stem).all() and stem.dtype == np.float32 for stem in song.stems.values())


def test_every_part_is_where_it_is_in_a_record(song: synth.Song) -> None:
    assert width(song.stems["vocals"]) < 0.02
    assert width(song.stems["bass"]) == 0
    assert 0.001 < width(song.stems["drums"]) < 0.3
    assert width(song.stems["other"]) > 0.2
    assert share(song.stems["bass"], 25, 250) > 0.8
    assert share(song.stems["vocals"], 150, 4000) > 0.9
    assert share(song.stems["other"], 100, 3000) > 0.9
    assert share(song.stems["drums"], 30, 120) > 0.2
    assert share(song.stems["drums"], 5000, 20000) > 0.005


def test_the_voice_has_harmonics_formants_and_pauses(song: synth.Song) -> None:
    voice = song.stems["vocals"].mean(axis=0)
    frames = voice[: len(voice) // 4096 * 4096].reshape(-1, 4096)
    loudness = np.sqrt((frames**2).mean(axis=1))
    assert loudness.min() < 0.1 * loudness.max()
    sung = frames[loudness > 0.6 * loudness.max()]
    spectra = np.abs(np.fft.rfft(sung * np.hanning(4096)))
    # A tone has few strong bins; noise has many.
    assert np.median((spectra**2).max(axis=1) / (spectra**2).mean(axis=1)) > 100
    vowels = {name: band._voice_table(name, 220.0, synth.RATE) for name in ("a", "i", "u")}
    strongest = {name: 220.0 * np.abs(np.fft.rfft(table))[1:50].argmax() + 220 for name, table in vowels.items()}
    assert strongest["a"] > strongest["i"]
    assert strongest["a"] > strongest["u"]


def test_the_mixture_falls_towards_the_treble_as_music_does(song: synth.Song) -> None:
    shares = [share(song.mixture, low, 2 * low) for low in (500, 1000, 2000, 4000, 8000)]
    assert shares[0] > shares[2] > shares[4] > 1e-5
    assert share(song.mixture, 20, 250) > 0.2
    assert share(song.mixture, 0, 20) < 0.01
    assert abs(float(song.mixture.mean())) < 1e-3


def test_a_seed_gives_the_same_samples_and_another_one_others() -> None:
    first, again, other = (synth.short_song(2, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.mixture, again.mixture)
    assert not np.array_equal(first.mixture, other.mixture)


@pytest.mark.parametrize(("seconds", "rate"), [(0.5, 44100), (3.0, 48000), (2.5, 22050)])
def test_a_short_song_has_exactly_the_length_asked_for(seconds: float, rate: int) -> None:
    short = synth.short_song(seconds, 1, rate=rate)
    assert short.mixture.shape == (2, round(seconds * rate))
    assert short.rate == rate
    assert np.abs(short.mixture).max() > 0.8


@pytest.mark.parametrize("timbre", ["pad", "pluck", "organ"])
def test_every_timbre_sounds(timbre: str) -> None:
    made = synth.make_song(band.Style(timbre=timbre, bars=1), 1, rate=22050)
    assert np.sqrt((made.stems["other"] ** 2).mean()) > 0.01


# --- the files -------------------------------------------------------------------------------------------------------


def test_three_different_songs_are_written_with_their_truth_elsewhere(demo: list[synth.DemoSong]) -> None:
    assert [item.path.suffix for item in demo] == [".flac", ".mp3", ".m4a"]
    for item in demo:
        assert 12 <= item.frames / item.rate <= 15
        truth = {name: read(path) for name, path in item.stems.items()}
        assert set(truth) == {*synth.STEMS, "accompaniment"}
        mixture = read(item.mixture)
        assert mixture.shape == (2, item.frames)
        np.testing.assert_array_equal(truth["vocals"] + truth["accompaniment"], mixture)
        assert item.path.parent not in item.mixture.parents
    assert len({item.frames for item in demo}) == 3


def test_the_tags_are_complete(demo: list[synth.DemoSong]) -> None:
    for item in demo:
        tags = mutagen.File(item.path, easy=True)
        assert tags["title"] == [item.tags.title]
        assert tags["artist"] == tags["albumartist"] == ["The Null Voices"]
        assert tags["album"] == ["Known Stems"]
        assert tags["genre"] == [item.tags.genre]
        assert tags["date"] == ["2021"]
        assert tags["tracknumber"][0].split("/")[0] == str(item.tags.track)


def pictures(path: Path) -> list[bytes]:
    file = mutagen.File(path)
    if path.suffix == ".flac":
        return [picture.data for picture in file.pictures]
    if path.suffix == ".mp3":
        return [frame.data for frame in file.tags.getall("APIC")]
    return [bytes(cover) for cover in file["covr"]]


def test_every_song_has_its_own_cover(demo: list[synth.DemoSong]) -> None:
    covers = [pictures(item.path) for item in demo]
    assert [len(each) for each in covers] == [1, 1, 1]
    assert len({each[0] for each in covers}) == 3


def test_the_cover_is_a_valid_picture() -> None:
    data = synth.cover_art(5, size=64)
    assert data == synth.cover_art(5, size=64)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    position, names, body = 8, [], b""
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        name, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        (crc,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert crc == zlib.crc32(name + content)
        names.append(name)
        body += content if name == b"IDAT" else b""
        position += 12 + length
    assert names == [b"IHDR", b"IDAT", b"IEND"]
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(64, 1 + 64 * 3)
    assert set(rows[:, 0]) == {2}
    pixels = np.cumsum(rows[:, 1:].astype(np.uint8), axis=0, dtype=np.uint8)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def decoded(path: Path) -> Array:
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(blocks, axis=1)


def test_the_encoded_songs_are_the_mixtures(demo: list[synth.DemoSong]) -> None:
    flac, mp3, m4a = demo
    assert np.abs(read(flac.path) - read(flac.mixture)).max() <= 2**-15
    for item, tolerance, samples in ((mp3, 0, read(mp3.path)), (m4a, 2048, decoded(m4a.path))):
        truth = read(item.mixture)
        assert 0 <= samples.shape[1] - item.frames <= tolerance
        error = samples[:, : item.frames] - truth
        assert 10 * np.log10((truth**2).sum() / (error**2).sum()) > 15  # aligned to the sample, or this is negative


def test_the_same_seed_writes_the_same_bytes(demo: list[synth.DemoSong], tmp_path: Path) -> None:
    for first, second in zip(demo, synth.write_demo_songs(tmp_path), strict=True):
        assert hashlib.sha256(first.path.read_bytes()).digest() == hashlib.sha256(second.path.read_bytes()).digest()


def test_a_suffix_that_cannot_be_written_is_refused(tmp_path: Path, song: synth.Song) -> None:
    with pytest.raises(ValueError, match=r"\.wma"):
        synth.write_song(tmp_path / "x.wma", song.mixture, synth.Tags(title="t", artist="a", album="b"))


@pytest.mark.parametrize("suffix", ["flac", "mp3", "m4a"])
def test_a_cover_is_optional(tmp_path: Path, song: synth.Song, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    synth.write_song(path, song.mixture[:, :20_000], synth.Tags(title="t", artist="a", album="b"))
    assert mutagen.File(path, easy=True)["title"] == ["t"]
