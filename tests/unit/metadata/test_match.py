from __future__ import annotations

from dataclasses import replace

import pytest

from ironclad.metadata.candidate import Candidate
from ironclad.metadata.match import ranked, score
from ironclad.metadata.model import TrackTags

TAGS = TrackTags(title="Karma Police", artists=("Radiohead",), album="OK Computer")
RIGHT = Candidate(
    recording_id="1", title="Karma Police", artists=("Radiohead",), artist_credit="Radiohead", album="OK Computer",
    length_ms=261_000, status="Official", release_types=("album",), date="1997",
)  # fmt: skip


def test_the_same_scores_full() -> None:
    assert score(TAGS, 261.5, RIGHT) == 100
    assert score(TAGS, None, RIGHT) == 100
    assert score(TrackTags(title="karma police!", artists=("RADIOHEAD",)), 260, RIGHT) == 100


@pytest.mark.parametrize(
    ("tags", "candidate"),
    [
        (TrackTags(title="Hyperballad", artists=("Bjork",)), {"title": "Hyper-ballad", "artist_credit": "Björk"}),
        (TrackTags(title="One", artists=("A & B",)), {"title": "One", "artist_credit": "A and B"}),
        (TrackTags(title="One", artists=("Ann feat. Bob",)), {"title": "One", "artist_credit": "Ann"}),
        (TrackTags(title="One", artists=("Ann", "Bob")), {"title": "One", "artist_credit": "Ann, Bob"}),
    ],
)  # fmt: skip
def test_spelling_costs_little(tags: TrackTags, candidate: dict[str, str]) -> None:
    assert score(tags, None, Candidate(recording_id="1", **candidate)) >= 90  # type: ignore[arg-type]  # texts


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Karma Police (live)"}, {"title": "Karma Police - Radio Edit"},
        {"title": "Karma Police (Acoustic Version)"}, {"title": "No Surprises"},
        {"artist_credit": "Easy Star All-Stars", "artists": ("Easy Star All-Stars",)},
    ],
)  # fmt: skip
def test_another_recording_stays_below_the_threshold(change: dict[str, object]) -> None:
    assert score(TAGS, 261, replace(RIGHT, **change)) < 85  # type: ignore[arg-type]  # any field


def test_a_version_matches_its_own_kind() -> None:
    live = replace(RIGHT, title="Karma Police (live)")
    assert score(replace(TAGS, title="Karma Police (Live)"), None, live) == 100


def test_length_tells_takes_apart() -> None:
    near, far = score(TAGS, 262.9, RIGHT), score(TAGS, 290, RIGHT)
    assert near == 100
    assert far == pytest.approx(82)


def test_nothing_known_scores_nothing() -> None:
    assert score(TrackTags(), None, RIGHT) == 0


def test_the_best_release_stands_for_its_recording() -> None:
    bootleg = replace(RIGHT, status="Bootleg", date="1996", album_id="b")
    single = replace(RIGHT, release_types=("single",), date="1996", album_id="s")
    later = replace(RIGHT, date="2009", album_id="l")
    other = replace(RIGHT, recording_id="2", title="Karma")
    order = ranked(TAGS, 261, [other, bootleg, single, later, RIGHT])
    assert [candidate for _, candidate in order] == [RIGHT, other]
    assert order == ranked(TAGS, 261, [RIGHT, later, single, bootleg, other])
