from __future__ import annotations

import time
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.errors import ConfigError
from ironclad.library.names import folded
from ironclad.library.naming import (
    DEFAULT_TEMPLATE,
    KNOWN_FIELDS,
    PathTemplate,
    Shelf,
    TrackName,
    plan,
    track_name,
    unique,
)

README = TrackName(
    artist="Artist", albumartist="Artist", album="Album (Instrumentals)", source_album="Album",
    title="Title (Instrumental)", source_title="Title", track=1, stem="Instrumental", stems="Instrumentals",
    date="2001-05-03",
)  # fmt: skip


def changed(**values: object) -> TrackName:
    from dataclasses import replace  # noqa: PLC0415 -- only here

    return replace(README, **values)  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        (README, "Artist/Album/01 - Title (Instrumental).flac"),
        (changed(disc=1, disctotal=2), "Artist/Album/1-01 - Title (Instrumental).flac"),
        (changed(disc=2), "Artist/Album/2-01 - Title (Instrumental).flac"),
        (changed(disc=1, disctotal=1), "Artist/Album/01 - Title (Instrumental).flac"),
        (changed(track=None), "Artist/Album/Title (Instrumental).flac"),
        (changed(track=0), "Artist/Album/00 - Title (Instrumental).flac"),
        (changed(track=101), "Artist/Album/101 - Title (Instrumental).flac"),
        (
            changed(stem="Vocals", stems="Vocals", title="Title (Vocals)"),
            "Artist/Album (Vocals)/01 - Title (Vocals).flac",
        ),
        (changed(albumartist=""), "Artist/Album/01 - Title (Instrumental).flac"),
        (changed(albumartist="", compilation=True), "Various Artists/Album/01 - Title (Instrumental).flac"),
        (TrackName(stem="Instrumental"), "Unknown Artist/Unknown Album/Unknown Title.flac"),
        (changed(albumartist=".", source_album=".."), "Unknown Artist/Unknown Album/01 - Title (Instrumental).flac"),
        (changed(albumartist="AC/DC", title="../../x"), "AC-DC/Album/01 - -..-x.flac"),
        (changed(albumartist="\u202eABBA"), "ABBA/Album/01 - Title (Instrumental).flac"),
    ],
)
def test_the_default_template(track: TrackName, expected: str) -> None:
    assert str(PathTemplate().render(track, ".flac")) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ albumartist }}/{{ album }}/{{ title }}", "Artist/Album (Instrumentals)/Title (Instrumental).mp3"),
        ("{{ genre }}/{{ title }}", "Title (Instrumental).mp3"),
        ("{{ genre | default('No genre', true) }}/{{ title }}", "No genre/Title (Instrumental).mp3"),
        ("{{ year }}/{{ source_title | upper }}", "2001/TITLE.mp3"),
        ("/abs/../{{ source_title }}", "abs/_/Title.mp3"),
        ("{{ source_title | replace(' ', '_') ~ '-' ~ (track | pad(3)) }}", "Title-001.mp3"),
        ("{{ source_title if track is none or track > 5 else 'early' }}", "early.mp3"),
        ("{{ source_title }}{{ disc | pad }}", "Title.mp3"),
        ("{{ source_title }}.", "Title.mp3"),
    ],
)  # fmt: skip
def test_own_templates(template: str, expected: str) -> None:
    assert str(PathTemplate(template).render(README, ".mp3")) == expected


@pytest.mark.parametrize(
    ("template", "line", "column", "message"),
    [
        ("{{ artist }}/{{ albun }}", 1, 17, "there is no field 'albun'"),
        ("{{ artist }}/\n{{ x_artist }}", 2, 4, "there is no field 'x_artist'"),
        ("{{ artist }\n", 1, 1, "unexpected"),
        ("{{ artist.__class__ }}", 1, 1, "getattr is not allowed"),
        ("{{ artist['x'] }}", 1, 1, "getitem is not allowed"),
        ("{% for x in artist %}{% endfor %}", 1, 1, "for is not allowed"),
        ("{{ title() }}", 1, 1, "call is not allowed"),
        ("{{ 'x' * 9 }}", 1, 1, "mul is not allowed"),
        ("{% set x = 1 %}", 1, 1, "assign is not allowed"),
        ("{% include 'x' %}", 1, 1, "include is not allowed"),
        ("{{ artist | pprint }}", 1, 1, "pprint"),
        ("a\\b", 1, 1, "separated by /"),
    ],
)
def test_a_wrong_template_is_told_where(template: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        PathTemplate(template)
    assert f"line {line}, column {column}" in str(caught.value)
    assert (caught.value.context["line"], caught.value.context["column"]) == (line, column)


def test_a_template_that_fails_without_a_track_number_fails_at_once() -> None:
    with pytest.raises(ConfigError, match="fails"):
        PathTemplate("{{ title if track > 5 else artist }}")


def test_a_template_has_a_length() -> None:
    with pytest.raises(ConfigError, match="longer"):
        PathTemplate("x" * 5000)


def test_replacing_cannot_grow_without_end() -> None:
    template = "{{ 'aaaaaaaaaa'" + " | replace('a', 'aaaaaaaaaa')" * 50 + " }}"
    assert len(str(PathTemplate(template).render(README, ".mp3"))) < 256


def test_every_field_can_be_used() -> None:
    for name in sorted(KNOWN_FIELDS):
        PathTemplate("{{ " + name + " }}x")


def test_doubles_get_numbers_whatever_their_case() -> None:
    tracks = [(changed(title=title), ".flac") for title in ("Same", "SAME", "same", "Other")]
    assert [path.name for path in plan(PathTemplate(), tracks)] == [
        "01 - Same.flac", "01 - SAME (2).flac", "01 - same (3).flac", "01 - Other.flac",
    ]  # fmt: skip


def test_a_folder_has_one_spelling() -> None:
    tracks = [(changed(albumartist=name, title=name), ".flac") for name in ("ABBA", "Abba", "abba")]
    assert {str(path.parent) for path in plan(PathTemplate(), tracks)} == {"ABBA/Album"}


def test_existing_files_and_folders_count() -> None:
    existing = [PurePosixPath("ARTIST/album/01 - Title (Instrumental).FLAC")]
    (path,) = plan(PathTemplate(), [(README, ".flac")], existing)
    assert str(path) == "ARTIST/album/01 - Title (Instrumental) (2).flac"


def test_long_doubles_stay_within_the_limit() -> None:
    shelf = Shelf()
    path = PurePosixPath("a", "é" * 120 + ".flac")
    names = {shelf.place(path).name for _ in range(12)}
    assert len(names) == 12
    assert max(len(name.encode()) for name in names) <= 255


def test_unique_asks_until_it_is_free() -> None:
    taken = {"a.flac", "a (2).flac"}
    assert unique(PurePosixPath("a.flac"), lambda path: str(path) in taken) == PurePosixPath("a (3).flac")
    with pytest.raises(ConfigError, match="ten thousand"):
        unique(PurePosixPath("a.flac"), lambda _path: True)


def test_track_name_of_a_mapping() -> None:
    assert track_name({"artist": "A", "track": None, "disc": 2, "unknown": "x"}) == TrackName(artist="A", disc=2)


TEXT = st.text(max_size=60)


@given(TEXT, TEXT, TEXT, st.none() | st.integers(0, 999))
def test_no_tag_leaves_the_library_or_adds_a_folder(artist: str, album: str, title: str, track: int | None) -> None:
    path = PathTemplate().render(TrackName(albumartist=artist, source_album=album, title=title, track=track), ".flac")
    assert len(path.parts) == 3
    assert not path.is_absolute()
    assert ".." not in path.parts


def test_ten_thousand_tracks_are_planned_quickly() -> None:
    def track(n: int) -> TrackName:
        return TrackName(albumartist=f"Ärtist {n % 200}", source_album=f"Album {n % 900}", title=f"Title {n % 3000}")

    start = time.process_time()  # however busy the machine is
    paths = plan(PathTemplate(DEFAULT_TEMPLATE), [(track(n), ".flac") for n in range(10_000)])
    assert time.process_time() - start < 10
    assert len({folded(str(path)) for path in paths}) == 10_000
