from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ironclad.errors import MetadataServiceUnavailable
from ironclad.metadata.candidate import Candidate, from_recording
from ironclad.metadata.filename import Origin
from ironclad.metadata.lookup import Lookup, Status, apply, by_sound, look_up, needed, pick, without_placeholders
from ironclad.metadata.model import TrackTags

RIGHT = Candidate(
    recording_id="1", title="Song", artists=("Ann", "Bob"), artist_credit="Ann & Bob", album="Album", length_ms=200_000,
    album_artists=("Ann",), track=3, date="2001", isrcs=("US1",), album_id="r", status="Official",
)  # fmt: skip
TAGS = TrackTags(title="Song", artists=("Ann & Bob",))


@dataclass
class Shelf:
    """A catalogue of fixed answers that notes what it was asked."""

    recordings: tuple[Candidate, ...] = ()
    by_id: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    down: bool = False

    def recording(self, recording_id: str) -> tuple[Candidate, ...]:
        self.asked.append({"id": recording_id})
        return self.by_id.get(recording_id, ())

    def search(self, **words: str) -> tuple[Candidate, ...]:
        if self.down:
            raise MetadataServiceUnavailable("it is down")
        self.asked.append(words)
        return () if words.get("album") == "Wrong" else self.recordings


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (TrackTags(title="T", artists=("A",), album="L"), False),
        (TrackTags(title="T", artists=("A",)), True),
        (TrackTags(title="Track 01", artists=("A",), album="L"), True),
        (TrackTags(title="T", artists=("Unknown Artist",), album="L"), True),
        (TrackTags(title="T", artists=("A",), album="unknown album"), True),
        (TrackTags(title="T", artists=("311",), album="L"), False),
    ],
)
def test_when_to_ask(tags: TrackTags, expected: bool) -> None:  # noqa: FBT001 -- a table's column
    assert needed(tags) is expected


def test_placeholders_say_that_nobody_knew() -> None:
    tags = TrackTags(title="01", artists=("Unknown", "Ann"), album="<unknown>", album_artists=("No Artist",))
    assert without_placeholders(tags) == TrackTags(artists=("Ann",))
    complete = TrackTags(title="Unknown Pleasures")
    assert without_placeholders(complete) is complete


def test_complete_tags_ask_nobody() -> None:
    shelf = Shelf((RIGHT,))
    assert look_up(replace(TAGS, album="X"), 200, shelf).status is Status.NOT_NEEDED
    assert shelf.asked == []
    assert look_up(replace(TAGS, album="Album"), 200, shelf, always=True).status is Status.MATCHED


def test_the_id_in_the_tags_comes_first() -> None:
    shelf = Shelf((), {"1": (RIGHT,)})
    lookup = look_up(TrackTags(musicbrainz_recording_id="1"), None, shelf)
    assert lookup.status is Status.MATCHED
    assert shelf.asked == [{"id": "1"}]


def test_a_stale_id_falls_back_to_words() -> None:
    shelf = Shelf((RIGHT,))
    assert look_up(replace(TAGS, musicbrainz_recording_id="gone"), 200, shelf).status is Status.MATCHED
    assert [sorted(words) for words in shelf.asked] == [["id"], ["album", "album_id", "artist", "title"]]


def test_a_wrong_album_is_left_out_in_a_second_question() -> None:
    shelf = Shelf((RIGHT,))
    lookup = look_up(replace(TAGS, album="Wrong"), 200, shelf, always=True, threshold=70)
    assert lookup.status is Status.MATCHED
    assert [words.get("album") for words in shelf.asked] == ["Wrong", None]


def test_below_the_threshold_nothing_is_chosen_but_all_is_recorded() -> None:
    lookup = look_up(TAGS, 260, Shelf((replace(RIGHT, title="Song Two"),)))
    assert lookup.status is Status.AMBIGUOUS
    assert len(lookup.candidates) == 1


def test_two_that_fit_equally_are_the_operators_choice() -> None:
    other = replace(RIGHT, recording_id="2", album="Another", length_ms=200_500)
    assert look_up(TAGS, 200, Shelf((RIGHT, other))).status is Status.AMBIGUOUS
    double = replace(RIGHT, recording_id="2", length_ms=200_500)
    assert look_up(TAGS, 200, Shelf((RIGHT, double))).status is Status.MATCHED


@pytest.mark.parametrize("tags", [TrackTags(), TrackTags(title="T"), TrackTags(title="Track 1", artists=("A",))])
def test_without_words_there_is_nothing_to_ask(tags: TrackTags) -> None:
    shelf = Shelf((RIGHT,))
    assert look_up(tags, 200, shelf).status is Status.NONE
    assert shelf.asked == []


def test_nothing_found_and_nobody_there() -> None:
    assert look_up(TAGS, 200, Shelf()).status is Status.NONE
    lookup = look_up(TAGS, 200, Shelf(down=True))
    assert (lookup.status, lookup.detail) == (Status.UNAVAILABLE, "it is down")


def test_applying_fills_only_what_is_missing() -> None:
    tags = TrackTags(title="Song (my mix)", artists=("Unknown Artist",), track=9, genres=("Jazz",))
    done = apply(tags, RIGHT)
    assert (done.tags.title, done.tags.track, done.tags.genres) == ("Song (my mix)", 9, ("Jazz",))
    assert (done.tags.artists, done.tags.album, done.tags.isrcs) == (("Ann & Bob",), "Album", ("US1",))
    assert done.tags.extra == {"ARTISTS": ("Ann", "Bob")}
    assert done.origins["artists"] is Origin.MUSICBRAINZ
    assert "title" not in done.origins


def test_the_operator_picks_by_number() -> None:
    lookup = Lookup(Status.AMBIGUOUS, ((80.0, RIGHT), (70.0, replace(RIGHT, album="Other"))))
    again = Lookup.from_dict(json.loads(json.dumps(lookup.to_dict())))
    assert again == lookup
    assert pick(TAGS, again, 2).tags.album == "Other"
    for number in (0, 3, -1):
        with pytest.raises(IndexError):
            pick(TAGS, again, number)


def test_various_artists_are_a_compilation() -> None:
    various = replace(RIGHT, album_artist_ids=("89ad4ac3-39f7-470e-963a-56509c546377",))
    assert various.tags().compilation
    assert not RIGHT.tags().compilation


def test_a_recording_without_releases_is_one_candidate() -> None:
    (candidate,) = from_recording({"id": "1", "title": "T", "length": "abc"})
    assert candidate == Candidate(recording_id="1", title="T")
    assert candidate.tags().artists == ()


@pytest.mark.parametrize("broken", [{}, {"id": "1"}, {"id": "1", "title": "T", "release-list": [{"id": "r"}]}])
def test_a_broken_recording_is_told(broken: dict[str, Any]) -> None:
    with pytest.raises(KeyError):
        list(from_recording(broken))


OTHER = replace(RIGHT, recording_id="2", title="Another", artist_credit="Zed", artists=("Zed",), album="Elsewhere")
NOTHING = Lookup(Status.NONE, detail="MusicBrainz knows nothing like it")


def heard(tags: TrackTags, before: Lookup = NOTHING, *, seconds: float = 200.0, **sounds: float) -> Lookup:
    shelf = Shelf(by_id={"1": (RIGHT,), "2": (OTHER,)})
    return by_sound(before, tags, seconds, {name[1:]: sure for name, sure in sounds.items()}, shelf)


def test_a_track_without_tags_is_known_by_its_sound() -> None:
    found = heard(TrackTags(), _1=0.97)
    assert (found.status, found.candidates[0][1], found.detail) == (Status.MATCHED, RIGHT, "by its sound")
    assert found.candidates[0][0] > 95


def test_placeholders_do_not_speak_against_a_sound() -> None:
    assert heard(TrackTags(title="Track 01", artists=("Unknown Artist",)), _1=0.97).status is Status.MATCHED


def test_tags_that_name_another_song_do() -> None:
    found = heard(TrackTags(title="Quite different", artists=("Nobody",)), _1=0.97)
    assert found.status is Status.AMBIGUOUS
    assert [candidate for _, candidate in found.candidates] == [RIGHT]


def test_a_length_that_differs_does() -> None:
    assert heard(TrackTags(), seconds=260.0, _1=0.97).status is Status.AMBIGUOUS


def test_a_fingerprint_that_is_not_sure_settles_nothing() -> None:
    assert heard(TrackTags(), _1=0.7).status is Status.AMBIGUOUS
    unsure = heard(TrackTags(), _1=0.3)
    assert (unsure.status, unsure.candidates) == (Status.NONE, ())
    assert "does not know its sound" in unsure.detail


def test_two_recordings_of_one_sound_are_the_operators_choice() -> None:
    found = heard(TrackTags(), _1=0.97, _2=0.96)
    assert (found.status, len(found.candidates)) == (Status.AMBIGUOUS, 2)
    assert heard(TrackTags(artists=("Zed",)), _1=0.97, _2=0.96).candidates[0][1] == OTHER


def test_what_words_found_stays_among_the_candidates() -> None:
    before = Lookup(Status.AMBIGUOUS, ((80.0, RIGHT), (70.0, OTHER)))
    found = heard(TrackTags(), before, _2=0.75)
    assert [(score, candidate.recording_id) for score, candidate in found.candidates] == [(80.8, "2"), (80.0, "1")]


def test_no_more_than_five_recordings_are_asked_for() -> None:
    shelf = Shelf()
    by_sound(NOTHING, TrackTags(), 200.0, {str(number): 0.9 for number in range(20)}, shelf)
    assert [asked["id"] for asked in shelf.asked] == ["0", "1", "2", "3", "4"]
