# ruff: noqa: RUF001 -- people put en dashes into names
from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironclad.metadata.filename import Origin, complete, from_path
from ironclad.metadata.model import TrackTags

CASES: list[tuple[str, dict[str, Any]]] = [
    ("Title.mp3", {"title": "Title"}),
    ("01 - Title.mp3", {"track": 1, "title": "Title"}),
    ("01. Title.mp3", {"track": 1, "title": "Title"}),
    ("01.Title.mp3", {"track": 1, "title": "Title"}),
    ("(01) Title.mp3", {"track": 1, "title": "Title"}),
    ("[01] Title.mp3", {"track": 1, "title": "Title"}),
    ("01) Title.mp3", {"track": 1, "title": "Title"}),
    ("07 Title.mp3", {"track": 7, "title": "Title"}),
    ("12 Title.mp3", {"track": 12, "title": "Title"}),
    ("1-03 Title.flac", {"disc": 1, "track": 3, "title": "Title"}),
    ("2-03 - Title.flac", {"disc": 2, "track": 3, "title": "Title"}),
    ("1.03. Title.flac", {"disc": 1, "track": 3, "title": "Title"}),
    ("Artist - Title.mp3", {"artists": ("Artist",), "title": "Title"}),
    ("Artist – Title.mp3", {"artists": ("Artist",), "title": "Title"}),
    ("01 - Artist - Title.mp3", {"track": 1, "artists": ("Artist",), "title": "Title"}),
    ("Artist - 03 - Title.mp3", {"track": 3, "artists": ("Artist",), "title": "Title"}),
    ("Artist - Album - 03 - Title.mp3", {"track": 3, "artists": ("Artist",), "album": "Album", "title": "Title"}),
    ("Artist - Album - Title.mp3", {"artists": ("Artist",), "album": "Album", "title": "Title"}),
    ("some_artist_-_some_title.mp3", {"artists": ("some artist",), "title": "some title"}),
    ("01-daft_punk-one_more_time.mp3", {"track": 1, "artists": ("daft punk",), "title": "one more time"}),
    ("Song.With.Dots.mp3", {"title": "Song With Dots"}),
    ("Mr.Brightside.mp3", {"title": "Mr.Brightside"}),
    ("99 Luftballons.mp3", {"title": "99 Luftballons"}),
    ("1999.mp3", {"title": "1999"}),
    ("22.mp3", {"title": "22"}),
    ("7 Rings.mp3", {"title": "7 Rings"}),
    ("100 Years.mp3", {"title": "100 Years"}),
    ("01.mp3", {"track": 1, "title": "01"}),
    ("Track 05.mp3", {"track": 5, "title": "Track 05"}),
    ("t-shirt.mp3", {"title": "t-shirt"}),
    ("Jay-Z - 99 Problems.mp3", {"artists": ("Jay-Z",), "title": "99 Problems"}),
    ("Artist/Album/01 - Title.mp3",
     {"track": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",)}),
    ("Music/Artist/Album/01 Title.mp3",
     {"track": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",)}),
    ("A/Artist/Album/01 Title.mp3",
     {"track": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",)}),
    ("Artist/Album/CD2/01 Title.mp3",
     {"track": 1, "disc": 2, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",)}),
    ("Artist/Album (Disc 1)/01 Title.mp3",
     {"track": 1, "disc": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",)}),
    ("Artist/03 - Album/01 Title.mp3",
     {"track": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",)}),
    ("Artist/7 - Album (2001)/01 Title.mp3",
     {"track": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",),
      "date": "2001"}),
    ("311 - Music/01 Title.mp3",
     {"track": 1, "title": "Title", "artists": ("311",), "album": "Music", "album_artists": ("311",)}),
    ("Artist/2001 - Album/01 Title.mp3",
     {"track": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",),
      "date": "2001"}),
    ("Artist/Album [2001] [FLAC]/01 Title.mp3",
     {"track": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",),
      "date": "2001"}),
    ("Artist - Album (2001)/01 Title.mp3",
     {"track": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",),
      "date": "2001"}),
    ("Artist - 2001 - Album [WEB 320]/01 Title.mp3",
     {"track": 1, "title": "Title", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",),
      "date": "2001"}),
    ("Some_Artist-The_Album-CD-2001-GRP/01-some_artist-the_song.mp3",
     {"track": 1, "title": "the song", "artists": ("some artist",), "album": "The Album",
      "album_artists": ("Some Artist",), "date": "2001"}),
    ("Various Artists/Hits/03 - Guest - Song.mp3",
     {"track": 3, "title": "Song", "artists": ("Guest",), "album": "Hits", "album_artists": ("Various Artists",),
      "compilation": True}),
    ("VA - Hits (1999)/03 Guest - Song.mp3",
     {"track": 3, "title": "Song", "artists": ("Guest",), "album": "Hits", "album_artists": ("Various Artists",),
      "compilation": True, "date": "1999"}),
    ("Artist/Album/05 - Song - Live.mp3",
     {"track": 5, "title": "Song - Live", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",)}),
    ("Artist/Album/05 - Artist - Song.mp3",
     {"track": 5, "title": "Song", "artists": ("Artist",), "album": "Album", "album_artists": ("Artist",)}),
    ("Nina Simone/Feeling Good.mp3",
     {"title": "Feeling Good", "artists": ("Nina Simone",), "album_artists": ("Nina Simone",)}),
    ("Greatest Hits/01 Title.mp3", {"track": 1, "title": "Title", "album": "Greatest Hits"}),
    ("Album (2001)/Title.mp3", {"title": "Title", "album": "Album", "date": "2001"}),
    ("Unknown Artist/Unknown Album/01 Title.mp3", {"track": 1, "title": "Title"}),
    ("CD1/01 Title.mp3", {"disc": 1, "track": 1, "title": "Title"}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "expected"), CASES, ids=[path for path, _ in CASES])
def test_names_in_the_wild(path: str, expected: dict[str, Any]) -> None:
    assert from_path(PurePath(path)).tags.present() == expected


def test_origins_are_recorded() -> None:
    guess = complete(TrackTags(title="Tagged", artists=("Tag",)), PurePath("Artist/Album (2001)/CD1/03 - Name.mp3"))
    assert guess.tags == TrackTags(
        title="Tagged", artists=("Tag",), track=3, disc=1, album="Album", album_artists=("Artist",), date="2001"
    )
    assert guess.origins == {
        "title": Origin.TAG, "artists": Origin.TAG, "track": Origin.FILENAME, "disc": Origin.FOLDER,
        "album": Origin.FOLDER, "album_artists": Origin.FOLDER, "date": Origin.FOLDER,
    }  # fmt: skip


def test_complete_tags_stay_as_they_are() -> None:
    tags = TrackTags(title="T", artists=("A",), album="L", album_artists=("A",), track=0, date="1990", disc=1)
    guess = complete(tags, PurePath("Other - Thing (2001)/CD2/05 - Name.mp3"))
    assert guess.tags == tags
    assert set(guess.origins.values()) == {Origin.TAG}


def test_hostile_names_are_cleaned() -> None:
    assert from_path(PurePath("evil\u202egpj\x07\n.mp3")).tags.title == "evilgpj"


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_no_name_breaks_the_parser(parts: list[str]) -> None:
    guess = from_path(PurePath("/".join(parts)))
    assert set(guess.origins) == set(guess.tags.present())


def test_a_folder_is_not_the_album_artist_of_what_says_that_it_is_a_compilation() -> None:
    tags = TrackTags(title="Title", artists=("One",), album="Hits", compilation=True)
    guess = complete(tags, PurePath("Summer/Hits/01 Title.mp3"))
    assert guess.tags.album_artists == ()
    assert "album_artists" not in guess.origins
    named = complete(tags, PurePath("Various/Hits/01 Title.mp3"))
    assert named.tags.album_artists == ("Various Artists",)
