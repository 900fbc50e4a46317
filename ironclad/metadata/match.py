"""How well a MusicBrainz recording fits what is known about a file: 0 to 100."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from rapidfuzz import fuzz

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ironclad.metadata.candidate import Candidate
    from ironclad.metadata.model import TrackTags

_WEIGHTS = {"title": 40.0, "artist": 30.0, "album": 12.0, "length": 18.0, "sound": 60.0}
"""Of each kind of evidence; what is not known on either side counts for nothing, not against."""
_SAME_SECONDS = 2.0
"""Rips and masters of one recording differ by no more."""
_OTHER_SECONDS = 15.0
"""A recording that differs by so much is another one: an edit, a live take."""
_NOISE = re.compile(r"[^\w\s]|_")
_SPACES = re.compile(r"\s+")
_FEATURING = re.compile(r"\s*[(\[]?\b(?:feat|ft|featuring)\b\.?.*", re.IGNORECASE)
_VERSION = re.compile(r"[(\[]([^)\]]*)[)\]]|\s-\s(.*)")
_VERSION_WORDS = frozenset({
    "live", "remix", "mix", "edit", "demo", "acoustic", "instrumental", "karaoke", "unplugged", "cover", "version",
    "rework", "dub", "radio", "extended",
})  # fmt: skip
_MAX_WRONG_VERSION = 60.0


def score(tags: TrackTags, seconds: float | None, candidate: Candidate, sound: float | None = None) -> float:
    """0 (nothing fits) to 100. A live take or a remix never scores above 60 for a file that does not say so.

    `sound` is how sure a fingerprint is of the recording, 0 to 1.
    """
    evidence: dict[str, float] = {}
    if tags.title:
        evidence["title"] = _similar(tags.title, candidate.title)
    if tags.artists:
        names = (candidate.artist_credit, *candidate.artists)
        evidence["artist"] = max(
            (_similar(_main(own), _main(other)) for own in (*tags.artists, tags.display_artist) for other in names),
            default=0.0,
        )
    if tags.album and candidate.album:
        evidence["album"] = _similar(tags.album, candidate.album)
    if seconds and candidate.length_ms:
        evidence["length"] = _length(abs(seconds - candidate.length_ms / 1000))
    if sound is not None:
        evidence["sound"] = 100.0 * sound
    if not evidence:
        return 0.0
    total = sum(_WEIGHTS[kind] * value for kind, value in evidence.items()) / sum(_WEIGHTS[kind] for kind in evidence)
    if tags.title and _versions(tags.title) != _versions(candidate.title):
        total = min(total, _MAX_WRONG_VERSION)
    return round(total, 1)


def ranked(
    tags: TrackTags,
    seconds: float | None,
    candidates: Iterable[Candidate],
    sounds: Mapping[str, float] | None = None,
) -> list[tuple[float, Candidate]]:
    """The best release of each recording, best recording first; the order is stable for equal scores.

    `sounds` says how sure a fingerprint is of recordings, by their ids.
    """
    best: dict[str, tuple[float, Candidate]] = {}
    for candidate in candidates:
        value = score(tags, seconds, candidate, sounds.get(candidate.recording_id) if sounds else None)
        known = best.get(candidate.recording_id)
        if known is None or (-value, _preference(candidate)) < (-known[0], _preference(known[1])):
            best[candidate.recording_id] = value, candidate
    return sorted(best.values(), key=lambda pair: (-pair[0], _preference(pair[1])))


def _preference(candidate: Candidate) -> tuple[bool, bool, str, str]:
    """Among equals: official albums, the earliest first; then any fixed order."""
    return (
        candidate.status not in {None, "Official"},
        candidate.release_types not in {(), ("album",)},
        candidate.date or "9999",
        candidate.album_id or "",
    )


def _similar(one: str, other: str) -> float:
    """0 to 100, whatever the order of the words and the spaces between them ("Hyper-ballad" is "Hyperballad")."""
    one, other = _normal(one), _normal(other)
    return max(fuzz.token_sort_ratio(one, other), fuzz.ratio(one.replace(" ", ""), other.replace(" ", "")))


def _normal(text: str) -> str:
    """Case, accents, punctuation and width set aside."""
    decomposed = unicodedata.normalize("NFKD", text.replace("&", " and ")).casefold()
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    return _SPACES.sub(" ", _NOISE.sub(" ", plain)).strip() or text


def _main(artist: str) -> str:
    return _FEATURING.sub("", artist) or artist


def _length(difference: float) -> float:
    if difference <= _SAME_SECONDS:
        return 100.0
    return max(0.0, 100.0 * (1 - (difference - _SAME_SECONDS) / (_OTHER_SECONDS - _SAME_SECONDS)))


def _versions(title: str) -> frozenset[str]:
    """The words of a title's brackets that make it another recording."""
    words = " ".join(" ".join(found) for found in _VERSION.findall(title)).lower().split()
    return frozenset(word.strip(".,!") for word in words) & _VERSION_WORDS
