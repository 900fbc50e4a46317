"""Real music through the whole installation: the clip of the stempeg package, tagged, in every input format."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import mutagen
import numpy as np
import pytest
import soundfile
from installation import Installation, until
from mutagen.flac import Picture

from ironclad.audio import compare, synth
from ironclad.audio.decode import decode
from ironclad.audio.info import AudioLimits
from ironclad.metadata.model import Picture as Cover
from ironclad.metadata.model import PictureType, TrackTags
from ironclad.metadata.read import read
from ironclad.metadata.write import write_tags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(420), pytest.mark.xdist_group("services")]

RATE = 44_100
FORMATS = ("wav", "flac", "mp3", "aac.m4a", "alac.m4a", "ogg", "opus", "aiff", "wma")
OUTPUT = {
    "wav": "flac", "flac": "flac", "mp3": "mp3", "aac.m4a": "m4a", "alac.m4a": "flac", "ogg": "ogg", "opus": "opus",
    "aiff": "flac", "wma": "mp3",
}  # fmt: skip
LIMITS = AudioLimits()


def stems() -> dict[str, NDArray[np.float32]]:
    """The clip's five streams, float32 (frames, 2)."""
    spec = importlib.util.find_spec("stempeg")  # found, not imported: it demands an ffmpeg program
    assert spec is not None
    assert spec.origin is not None
    clip = Path(spec.origin).parent / "data" / "The Easton Ellises - Falcon 69.stem.mp4"
    found = {}
    with av.open(str(clip)) as container:
        streams = list(container.streams.audio)
    for index, name in enumerate(("mixture", "drums", "bass", "other", "vocals")):
        with av.open(str(clip)) as container:
            blocks = [frame.to_ndarray().T for frame in container.decode(audio=index)]
        found[name] = np.concatenate(blocks)[: 6 * RATE].astype(np.float32)
    assert len(streams) == 5
    return found


def _with_av(path: Path, samples: NDArray[np.float32], codec: str, container_format: str) -> None:
    with av.open(str(path), "w", format=container_format) as container:
        rate = 48_000 if codec == "libopus" else RATE
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        if codec != "alac":
            stream.bit_rate = 192_000
        wanted = stream.codec_context.format.name if stream.codec_context.format else "fltp"
        resampler = av.AudioResampler(format=wanted, layout="stereo", rate=rate)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        frame.sample_rate = RATE
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def _tag_asf(path: Path, tags: dict[str, Any], cover: bytes) -> None:
    audio = mutagen.File(path)
    audio["Title"], audio["Author"] = tags["title"], tags["artist"]
    audio["WM/AlbumTitle"], audio["WM/AlbumArtist"] = tags["album"], tags["artist"]
    audio["WM/TrackNumber"] = str(tags["track"])
    picture = Picture()
    picture.data = cover
    mime = "image/png".encode("utf-16-le") + b"\0\0"
    value = bytes([3]) + len(cover).to_bytes(4, "little") + mime + b"\0\0" + cover
    audio["WM/Picture"] = mutagen.asf.ASFByteArrayAttribute(value)
    audio.save()


def _tag_aiff(path: Path, tags: dict[str, Any], cover: bytes) -> None:
    from mutagen.id3 import APIC, TALB, TIT2, TPE1, TPE2, TRCK  # noqa: PLC0415

    audio = mutagen.File(path)
    audio.add_tags()
    for frame, text in (
        (TIT2, tags["title"]), (TPE1, tags["artist"]), (TPE2, tags["artist"]), (TALB, tags["album"]),
        (TRCK, str(tags["track"])),
    ):  # fmt: skip
        audio.tags.add(frame(encoding=3, text=[text]))
    audio.tags.add(APIC(encoding=3, mime="image/png", type=3, desc="", data=cover))
    audio.save()


def make(path: Path, kind: str, samples: NDArray[np.float32], track: int, cover: bytes) -> Path:
    """The clip as a tagged file of one kind."""
    suffix = kind.rpartition(".")[2]
    file = path / f"{kind}.{suffix}" if "." not in kind else path / kind
    match kind:
        case "aac.m4a":
            _with_av(file, samples, "aac", "ipod")
        case "alac.m4a":
            _with_av(file, samples, "alac", "ipod")
        case "wma":
            _with_av(file, samples, "wmav2", "asf")
        case "opus":
            _with_av(file, samples, "libopus", "opus")
        case _:
            names = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG", "aiff": "AIFF"}
            soundfile.write(file, samples, RATE, format=names[kind])
    tags = {"title": f"Falcon 69 {kind}", "artist": "The Easton Ellises", "album": "EP", "track": track}
    if kind == "wma":
        _tag_asf(file, tags, cover)
    elif kind == "aiff":
        _tag_aiff(file, tags, cover)
    else:
        art = (Cover(type=PictureType.FRONT_COVER, mime="image/png", width=64, height=64, data=cover),)
        write_tags(
            file,
            TrackTags(
                title=tags["title"], artists=(tags["artist"],), album_artists=(tags["artist"],), album=tags["album"],
                track=track, genres=("Rock",), date="2010", composers=("E. Ellis",),
            ),
            art,
        )  # fmt: skip
    return file


@pytest.fixture(scope="module")
def clip() -> dict[str, NDArray[np.float32]]:
    return stems()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, clip: dict[str, NDArray[np.float32]]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    cover = synth.cover_art(7, 64)
    return {kind: make(folder, kind, clip["mixture"], track, cover) for track, kind in enumerate(FORMATS, 1)}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, sources: dict[str, Path]) -> Iterator[Installation]:
    """All of them through `ironclad up`."""
    with Installation(tmp_path_factory.mktemp("up") / "data", {"IRONCLAD_OUTPUT__STEMS": '["instrumental"]'}) as up:
        for file in sources.values():
            up.drop(file, user="ana", folder="EP")
        states = up.settled(len(sources), 240)
        assert states == {"succeeded": len(sources)}, up.rows("SELECT title, state, error FROM job")
        yield up


def result(up: Installation, kind: str) -> Path:
    (row,) = up.rows("SELECT a.path FROM artifact a JOIN job j USING (job_uuid) "
                     "WHERE a.kind = 'instrumental' AND a.state = 'published' AND j.title = :title",
                     title=f"Falcon 69 {kind}")  # fmt: skip
    return Path(row.path)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_arrives_whole_with_tags_and_art(
    done: Installation, sources: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    path = result(done, kind)
    assert path.suffix == f".{OUTPUT[kind]}"
    assert path.parent.relative_to(done.layout.output).parts == ("The Easton Ellises", "EP")
    assert path.name == f"{FORMATS.index(kind) + 1:02d} - Falcon 69 {kind} (Instrumental).{OUTPUT[kind]}"
    assert decode(path, None, LIMITS).frames == decode(sources[kind], None, LIMITS).frames
    reading = read(path, tmp_path)
    assert reading.tags.title == f"Falcon 69 {kind} (Instrumental)"
    assert reading.tags.artists == ("The Easton Ellises",)
    assert reading.tags.track == FORMATS.index(kind) + 1
    assert [picture.type for picture in reading.pictures] == [PictureType.FRONT_COVER]
    assert reading.pictures[0].content() == synth.cover_art(7, 64)
    receipt = json.loads(path.with_name(path.name + ".receipt.json").read_text())
    assert receipt["offset_samples"] == 0


def test_the_instrumental_is_nearer_to_the_true_one_than_the_mixture_is(
    done: Installation, clip: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    out = tmp_path / "made.f32"
    decode(result(done, "flac"), out, LIMITS)
    made = np.fromfile(out, "<f4").reshape(-1, 2)
    part = slice(int(0.2 * RATE), int(6.0 * RATE))  # a sync click stands at both ends
    truth = clip["mixture"] - clip["vocals"]
    before = compare.sdr_db(truth[part], clip["mixture"][part])
    after = compare.sdr_db(truth[part], made[part])
    print(f"accompaniment SDR: mixture {before:.2f} dB, instrumental {after:.2f} dB")  # noqa: T201 - a figure to report
    assert after > before


def test_originals_are_kept_byte_for_byte(done: Installation, sources: dict[str, Path]) -> None:
    kept = {path.read_bytes() for path in done.layout.archive.rglob("original.*")}
    assert kept == {path.read_bytes() for path in sources.values()}
    assert [path for path in done.layout.input.rglob("*") if path.is_file()] == []


def test_a_second_drop_of_the_same_file_is_skipped_and_listed(done: Installation, sources: dict[str, Path]) -> None:
    before = len(done.published())
    target = done.drop(sources["mp3"], user="ana", folder="Again")
    done.settled(len(sources) + 1, 120)
    assert done.states() == {"succeeded": len(sources), "skipped": 1}
    assert len(done.published()) == before
    until("it is listed", lambda: "E_DUPLICATE" in done.layout.skipped.read_text(), 120)
    assert "duplicate" in done.ironclad("why", str(target)).stdout.lower()
