from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.metadata.fields import (
    BY_KEY,
    FIELD_NAMES,
    FIELDS,
    TAG_FIELDS,
    Kind,
    build,
    canonical,
    flatten,
    format_lrc,
    merge,
    parse_lrc,
)
from ironclad.metadata.model import SyncedLine, TrackTags


def test_the_table_and_the_model_have_the_same_fields() -> None:
    assert set(TAG_FIELDS) == FIELD_NAMES
    assert len(BY_KEY) == len(FIELDS) == len(TAG_FIELDS)
    assert len(TAG_FIELDS) >= 40


@pytest.mark.parametrize("column", ["mp4", "ape", "asf"])
def test_no_two_fields_share_a_name_in_a_format(column: str) -> None:
    names = [getattr(entry, column).upper() for entry in FIELDS if getattr(entry, column) not in {"", "trkn", "disk"}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"TRACKNUMBER": ["3/12"]}, TrackTags(track=3, track_total=12)),
        ({"TRACKNUMBER": ["03 of 12"]}, TrackTags(track=3, track_total=12)),
        ({"TRACKNUMBER": ["/12"]}, TrackTags(track_total=12)),
        ({"TRACKNUMBER": ["3/12"], "TRACKTOTAL": ["11"]}, TrackTags(track=3, track_total=11)),
        ({"TRACKNUMBER": ["A1"]}, TrackTags(extra={"TRACKNUMBER": ("A1",)})),
        ({"TRACKNUMBER": ["99999999999"]}, TrackTags(extra={"TRACKNUMBER": ("99999999999",)})),
        ({"DISCNUMBER": ["٣"]}, TrackTags(extra={"DISCNUMBER": ("٣",)})),
        ({"TITLE": ["a", "b", "a", "b"]}, TrackTags(title="a", extra={"TITLE": ("b",)})),
        ({"ARTIST": ["a", "b", "a"]}, TrackTags(artists=("a", "b"))),
        ({"COMPILATION": ["1"]}, TrackTags(compilation=True)),
        ({"COMPILATION": ["0"]}, TrackTags()),
        ({"COMPILATION": ["maybe"]}, TrackTags(extra={"COMPILATION": ("maybe",)})),
        ({"ALBUM ARTIST": ["x"]}, TrackTags(album_artists=("x",))),
        ({"ALBUM ARTIST": ["x"], "ALBUMARTIST": ["x"]}, TrackTags(album_artists=("x",))),
        (
            {"ALBUM ARTIST": ["y"], "ALBUMARTIST": ["x"]},
            TrackTags(album_artists=("x",), extra={"ALBUM ARTIST": ("y",)}),
        ),
        ({"YEAR": ["1999"]}, TrackTags(date="1999")),
        ({"SYNCEDLYRICS": ["no times"]}, TrackTags(extra={"SYNCEDLYRICS": ("no times",)})),
        (
            {"SYNCEDLYRICS": ["[ar:Ann]\n[00:01.00]la"]},
            TrackTags(synced_lyrics=(SyncedLine(1000, "la"),), extra={"SYNCEDLYRICS": ("[ar:Ann]",)}),
        ),
        ({"TITLE": [], "Z": ["z"], "A": ["a"]}, TrackTags(extra={"A": ("a",), "Z": ("z",)})),
    ],
)
def test_values_find_their_fields(raw: dict[str, list[str]], expected: TrackTags) -> None:
    assert build(raw) == expected


def test_building_does_not_change_its_input() -> None:
    raw = {"TRACKNUMBER": ["3/12"], "YEAR": ["1999"]}
    build(raw)
    assert raw == {"TRACKNUMBER": ["3/12"], "YEAR": ["1999"]}


def test_lrc() -> None:
    text = "[ar:Ann]\n[00:10.50][01:02]both\n[00:01.5] early \nplain\n[00:12:345]colon"
    lines = parse_lrc(text)
    assert lines == (
        SyncedLine(1500, "early"), SyncedLine(10_500, "both"), SyncedLine(12_345, "colon"), SyncedLine(62_000, "both")
    )  # fmt: skip
    assert parse_lrc(format_lrc(lines)) == lines


def test_keys_have_one_spelling() -> None:
    assert canonical(" my   Key ") == "MY KEY"


def test_merging_fills_only_what_is_missing() -> None:
    tag = TrackTags(title="tag", track=0, extra={"A": ("tag",)})
    other = TrackTags(title="file", album="file", track=4, compilation=True, extra={"A": ("file",), "B": ("file",)})
    assert merge(tag, other) == TrackTags(
        title="tag", track=0, album="file", compilation=True, extra={"A": ("tag",), "B": ("file",)}
    )


LINE = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=20)


def _strategy(kind: Kind) -> st.SearchStrategy[Any]:
    match kind:
        case Kind.TEXT:
            return st.none() | LINE
        case Kind.TEXTS:
            return st.lists(LINE, unique=True, max_size=3).map(tuple)
        case Kind.NUMBER:
            return st.none() | st.integers(0, 999_999_999)
        case Kind.FLAG:
            return st.booleans()
        case Kind.SYNCED:
            # Lines that begin with a time would be read as a line with two times.
            line = st.builds(SyncedLine, st.integers(0, 59_999_999), LINE.filter(lambda text: text[0] != "["))
            return st.lists(line, max_size=3).map(lambda lines: tuple(sorted(lines, key=lambda line: line.time_ms)))


@given(st.fixed_dictionaries({entry.name: _strategy(entry.kind) for entry in FIELDS}))
def test_building_undoes_flattening(values: dict[str, Any]) -> None:
    tags = TrackTags(**values)
    assert build(flatten(tags)) == tags
    assert TrackTags.from_dict(tags.to_dict()) == tags
