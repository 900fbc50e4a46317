"""Every tag through every format: kept, or listed as lost with the reason."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile as sf
from mutagen.ogg import OggPage

from ironclad.metadata.caps import Caps
from ironclad.metadata.fields import BY_KEY, TAG_FIELDS, flatten
from ironclad.metadata.model import Picture, TrackTags
from ironclad.metadata.read import Reading
from ironclad.metadata.read_child import read_file
from ironclad.metadata.write import FORMATS, write_tags

if TYPE_CHECKING:
    from collections.abc import Callable

    from ironclad.metadata.report import Loss

AUDIO = {".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
_GAIN = re.compile(r"([+-]?\d+(?:\.\d*)?) ?dB", re.IGNORECASE)
DOCUMENT = Path(__file__).parents[3] / "docs" / "tag-support.md"


def read(path: Path, folder: Path) -> Reading:
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    return Reading.from_dict(read_file(path, pictures, Caps()), pictures)


def differences(before: TrackTags, after: TrackTags) -> dict[str, tuple[Any, Any]]:
    old, new = flatten(before), flatten(after)
    return {key: (old.get(key), new.get(key)) for key in {*old, *new} if old.get(key) != new.get(key)}


def round_trip(path: Path, tags: TrackTags, pictures: tuple[Picture, ...]) -> tuple[Reading, tuple[Loss, ...]]:
    losses = write_tags(path, tags, pictures)
    return read(path, path.parent), losses


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_value_is_kept_or_listed(
    name: str, audio: Callable[..., Path], full_tags: TrackTags, pictures: tuple[Picture, ...]
) -> None:
    reading, losses = round_trip(audio(name), full_tags, pictures)
    changed = differences(full_tags, reading.tags)
    assert set(changed) <= {loss.key for loss in losses}, changed
    assert not [problem for problem in reading.problems if problem.code != "technical"]


@pytest.mark.parametrize("name", sorted(FORMATS - {"m4a"}))
def test_pictures_keep_type_bytes_and_description(
    name: str, audio: Callable[..., Path], pictures: tuple[Picture, ...]
) -> None:
    reading, losses = round_trip(audio(name), TrackTags(title="x"), pictures)
    back = {(p.type, p.mime, p.description, p.width, p.height, p.content()) for p in reading.pictures}
    assert back == {(p.type, p.mime, p.description, p.width, p.height, p.content()) for p in pictures}
    assert not losses
    assert reading.pictures[0].type.name == "FRONT_COVER"


def test_mp4_keeps_the_front_cover_and_lists_the_others(
    audio: Callable[..., Path], pictures: tuple[Picture, ...], jpeg: bytes
) -> None:
    reading, losses = round_trip(audio("m4a"), TrackTags(), pictures)
    assert [p.content() for p in reading.pictures] == [jpeg]
    assert sorted(loss.value for loss in losses) == ["ARTIST", "BACK_COVER"]


@pytest.mark.parametrize("name", sorted({*FORMATS, "alac"}))
def test_same_input_gives_same_bytes(
    name: str, audio: Callable[..., Path], full_tags: TrackTags, pictures: tuple[Picture, ...]
) -> None:
    first, second = (
        audio(name, f"first.{name.replace('alac', 'm4a')}"),
        audio(name, f"second.{name.replace('alac', 'm4a')}"),
    )
    write_tags(first, full_tags, pictures)
    write_tags(second, full_tags, pictures)
    assert first.read_bytes() == second.read_bytes()
    write_tags(second, full_tags, pictures)
    assert first.read_bytes() == second.read_bytes(), "writing again changes nothing"


def give_serial(path: Path, serial: int) -> None:
    """Number the stream as another run of the encoder might."""
    with path.open("r+b") as file:
        while file.tell() < path.stat().st_size:
            page = OggPage(file)
            page.serial = serial
            end = file.tell()
            file.seek(page.offset)
            file.write(page.write())
            file.seek(end)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_the_encoders_random_number_does_not_stay(
    subtype: str, tmp_path: Path, full_tags: TrackTags, pictures: tuple[Picture, ...]
) -> None:
    rng = np.random.default_rng(7)
    noise = (rng.normal(size=(96_000, 2)) / 10).astype("float32")
    paths = []
    for number, sound in enumerate((noise, noise, noise / 2)):
        path = tmp_path / f"{number}.{'opus' if subtype == 'OPUS' else 'ogg'}"
        sf.write(path, sound, 48_000, format="OGG", subtype=subtype)
        before, _ = sf.read(path)
        give_serial(path, 1000 + number)
        write_tags(path, full_tags, pictures)
        after, _ = sf.read(path)
        assert (before == after).all()
        paths.append(path)
    first, second, other = (path.read_bytes() for path in paths)
    assert first == second
    assert first[14:18] != other[14:18]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_writing_replaces_what_was_there(
    name: str, audio: Callable[..., Path], full_tags: TrackTags, jpeg: bytes
) -> None:
    path = audio(name)
    write_tags(path, full_tags, (Picture(3, "image/jpeg", "", 64, 48, data=jpeg),))  # type: ignore[arg-type]  # a number will do
    reading, _ = round_trip(path, TrackTags(title="only this"), ())
    assert reading.tags == TrackTags(title="only this")
    assert reading.pictures == ()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_odd_numbers_survive(name: str, audio: Callable[..., Path]) -> None:
    odd = TrackTags(
        track=0, disc_total=3, bpm="97", date="May 2001", extra={"TRACKNUMBER": ("0b",), "DISCNUMBER": ("A",)}
    )
    reading, losses = round_trip(audio(name), odd, ())
    changed = differences(odd, reading.tags)
    assert set(changed) <= {loss.key for loss in losses}, changed


def test_the_audio_is_untouched(
    audio: Callable[..., Path], full_tags: TrackTags, pictures: tuple[Picture, ...]
) -> None:
    for name in ("flac", "wav", "mp3", "ogg", "opus"):
        path = audio(name)
        before, _ = sf.read(path)
        write_tags(path, full_tags, pictures)
        after, _ = sf.read(path)
        assert (before == after).all(), name


def test_the_table_in_the_documents_is_true(
    audio: Callable[..., Path], full_tags: TrackTags, pictures: tuple[Picture, ...]
) -> None:
    text = support_table(audio, full_tags, pictures)
    if os.environ.get("IRONCLAD_UPDATE_DOCS"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "run this test with IRONCLAD_UPDATE_DOCS=1"


def support_table(audio: Callable[..., Path], tags: TrackTags, pictures: tuple[Picture, ...]) -> str:
    """The document: one row a tag, one column a format, the reasons below."""
    names = sorted(FORMATS)
    cells: dict[tuple[str, str], str] = {}
    reasons: list[str] = []
    for name in names:
        reading, losses = round_trip(audio(name), tags, pictures)
        back = flatten(reading.tags)
        for loss in losses:
            reason = f"{name}: {loss.reason}"
            if reason not in reasons:
                reasons.append(reason)
            cells[loss.key, name] = f"({reasons.index(reason) + 1})"
        for key, values in flatten(tags).items():
            if (key, name) not in cells:
                assert back[key] == values, (name, key)
                cells[key, name] = "kept"
        cells.setdefault(("PICTURE", name), "kept")
    rows = [f"| {field} | `{key}` |" + "".join(f" {cells[key, name]} |" for name in names) for field, key in _rows()]
    return "\n".join(
        [
            "# Which tags each format keeps",
            "",
            "Made by `tests/integration/metadata/test_tag_round_trip.py`, which writes every tag to every format,",
            "reads it back and fails when a value is lost and not listed here. A number points to the reason below.",
            "",
            f"| tag | key | {' | '.join(names)} |",
            "|---|---|" + "---|" * len(names),
            *rows,
            "",
            *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)),
            "",
        ]
    )


def _rows() -> list[tuple[str, str]]:
    keys = {entry.name: key for key, entry in BY_KEY.items()}
    return [
        *((name.replace("_", " "), keys[name]) for name in TAG_FIELDS),
        ("pictures", "PICTURE"),
        ("any other tag", "MY KEY"),
    ]


def same_gain(before: list[str] | None, after: list[str] | None) -> bool:
    """Whether two values are one gain spelt differently: Opus keeps gains in 1/256 dB, so `+0.3 dB` is `0.30 dB`."""
    found = [_GAIN.fullmatch(*value) if value and len(value) == 1 else None for value in (before, after)]
    gains = {round(float(gain[1]) * 256) if gain else None for gain in found}
    return len(gains) == 1 and None not in gains


def test_one_gain_has_many_spellings() -> None:
    assert same_gain(["+0.35 dB"], ["0.35 dB"])
    assert not same_gain(["-0.35 dB"], ["0.35 dB"])
    assert not same_gain(["loud"], ["loud"])
    assert not same_gain(None, ["0.35 dB"])


@pytest.mark.skipif("IRONCLAD_TEST_CORPUS" not in os.environ, reason="IRONCLAD_TEST_CORPUS names no folder")
def test_real_files_keep_their_tags(audio: Callable[..., Path], tmp_path: Path) -> None:
    corpus = [
        path for path in sorted(Path(os.environ["IRONCLAD_TEST_CORPUS"]).rglob("*"))
        if path.is_file() and path.suffix.lower() in AUDIO
    ]  # fmt: skip
    assert corpus
    for source in corpus:
        reading = read(source, tmp_path)
        for name in sorted(FORMATS):
            again, losses = round_trip(audio(name), reading.tags, ())
            changed = {
                key: values for key, values in differences(reading.tags, again.tags).items() if not same_gain(*values)
            }
            assert set(changed) <= {loss.key for loss in losses}, (source, name, changed)
