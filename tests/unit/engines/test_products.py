"""What can be made of an engine's stems, by name."""

from __future__ import annotations

import pytest

from ironclad.engines.products import formula, makes, stems_for, words
from ironclad.errors import BadRequest

FOUR = ("drums", "bass", "other", "vocals")
TWO = ("vocals", "accompaniment")


@pytest.mark.parametrize(
    ("made", "method", "expected"),
    [
        (FOUR, "mixture-minus-vocals", {"mixture": 1, "vocals": -1}),
        (FOUR, "sum-of-stems", {"drums": 1, "bass": 1, "other": 1}),
        (TWO, "mixture-minus-vocals", {"mixture": 1, "vocals": -1}),
        (TWO, "sum-of-stems", {"accompaniment": 1}),
        (("instrumental", "vocals"), "sum-of-stems", {"instrumental": 1}),
        (("accompaniment",), "mixture-minus-vocals", {"accompaniment": 1}),
        (("vocals",), "sum-of-stems", {"mixture": 1, "vocals": -1}),
        (("drums", "bass"), "sum-of-stems", {"drums": 1, "bass": 1}),
        (("drums", "bass"), "mixture-minus-vocals", {"drums": 1, "bass": 1}),
    ],
)
def test_the_instrumental(made: tuple[str, ...], method: object, expected: dict[str, float]) -> None:
    assert formula("instrumental", made, method=method) == expected  # type: ignore[arg-type]  # the names above


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mixture-minus-vocals", {"mixture": 1, "vocals": -0.75}),
        ("sum-of-stems", {"drums": 1, "bass": 1, "other": 1, "vocals": 0.25}),
    ],
)
def test_the_karaoke_mix_is_the_instrumental_with_some_vocals(method: object, expected: dict[str, float]) -> None:
    assert formula("karaoke", FOUR, method=method, vocals=0.25) == expected  # type: ignore[arg-type]  # as above


def test_subsets_and_what_is_left_without_one() -> None:
    assert formula("bass+drums", FOUR) == {"bass": 1, "drums": 1}
    assert formula("no_drums", FOUR) == {"mixture": 1, "drums": -1}
    assert formula("no_drums", FOUR, method="sum-of-stems") == {"bass": 1, "other": 1, "vocals": 1}
    assert formula("no_vocals", FOUR) == formula("instrumental", FOUR)
    assert formula("no_vocals", ("no_vocals", "vocals")) == {"no_vocals": 1}  # an engine's own


@pytest.mark.parametrize("wanted", ["piano", "drums+piano", "drums+drums", "drums+", "no_piano", "no_", ""])
def test_what_cannot_be_made_is_refused_with_what_there_is(wanted: str) -> None:
    with pytest.raises(BadRequest, match="instrumental, drums, bass, other, vocals"):
        formula(wanted, FOUR)
    assert not makes([wanted], FOUR)


def test_karaoke_needs_vocals() -> None:
    assert makes(["karaoke"], TWO)
    assert not makes(["karaoke", "instrumental"], ("drums", "other"))


def test_the_stems_that_are_needed() -> None:
    assert stems_for(["instrumental"], FOUR) == ()
    assert stems_for(["karaoke", "drums+bass"], FOUR) == ("drums", "bass", "vocals")
    assert stems_for(["no_bass"], FOUR) == ("bass",)


def test_words() -> None:
    assert words(formula("karaoke", FOUR, vocals=10 ** (-12 / 20))) == "mixture - 0.749 vocals"
    assert words(formula("instrumental", FOUR, method="sum-of-stems")) == "drums + bass + other"
    assert words({"vocals": -1.0}) == "-vocals"
