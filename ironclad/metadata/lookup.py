"""When to ask MusicBrainz, and what to do with the answer. Nothing here ever fails a job."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from ironclad.errors import MetadataServiceUnavailable
from ironclad.metadata.candidate import Candidate
from ironclad.metadata.fields import merge
from ironclad.metadata.filename import Origin
from ironclad.metadata.match import ranked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.metadata.model import TrackTags

DEFAULT_THRESHOLD = 85.0
_MARGIN = 3.0
"""A runner-up as close as this is as likely."""
_MAX_CANDIDATES = 10
_MAX_RECORDINGS = 5
"""Each costs a request of its own, at one a second."""
_MIN_SURE = 0.5
"""Below, it only resembles another recording."""
"""Below, a fingerprint only resembles another: AcoustID's own threshold of "might be the same" is about here."""
_ESSENTIAL = ("title", "artists", "album")
_PLACEHOLDER = re.compile(
    r"(?:unknown(?: (?:artist|album|title))?|track ?\d+|untitled|no (?:artist|title)|<unknown>|audio ?track ?\d+|\d+)",
    re.IGNORECASE,
)


class Status(enum.StrEnum):
    """How a lookup ended."""

    NOT_NEEDED = "not-needed"
    """The tags are complete."""
    MATCHED = "matched"
    AMBIGUOUS = "ambiguous"
    """Candidates are recorded for the operator; nothing was changed."""
    NONE = "none"
    """Nothing fits, or there is nothing to search by."""
    UNAVAILABLE = "unavailable"
    """The service did not answer: `ironclad retag` asks again."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What MusicBrainz said about one track."""

    status: Status
    candidates: tuple[tuple[float, Candidate], ...] = ()
    """Score and candidate, best first."""
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        found = [{"score": score, **candidate.to_dict()} for score, candidate in self.candidates]
        return {"status": self.status.value, "detail": self.detail, "candidates": found}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` described. Raises KeyError, TypeError or ValueError for other data."""
        found = tuple(
            (float(entry["score"]), Candidate.from_dict({key: entry[key] for key in entry if key != "score"}))
            for entry in data["candidates"]
        )
        return cls(Status(data["status"]), found, str(data["detail"]))


class Catalogue(Protocol):
    """What a lookup needs of MusicBrainz; `ironclad.metadata.musicbrainz.MusicBrainz` is one."""

    def recording(self, recording_id: str) -> tuple[Candidate, ...]:
        """The releases of one recording; empty if there is no such recording."""
        ...

    def search(self, *, title: str, artist: str, album: str = "", album_id: str = "") -> tuple[Candidate, ...]:
        """Recordings that fit."""
        ...


@dataclass(frozen=True, slots=True)
class Completed:
    """Tags with what a candidate added, and the fields that it gave."""

    tags: TrackTags
    origins: Mapping[str, Origin] = field(default_factory=dict)


def without_placeholders(tags: TrackTags) -> TrackTags:
    """The tags with values such as "Unknown Artist" and "Track 01" taken out: they say that nobody knew."""
    changes: dict[str, Any] = {}
    for name in ("title", "album"):
        if _PLACEHOLDER.fullmatch(getattr(tags, name) or ""):
            changes[name] = None
    for name in ("artists", "album_artists"):
        values = getattr(tags, name)
        kept = tuple(value for value in values if not _PLACEHOLDER.fullmatch(value) or value.isdigit())
        if kept != values:
            changes[name] = kept
    return replace(tags, **changes) if changes else tags


def needed(tags: TrackTags) -> bool:
    """Whether title, artist or album is missing or a placeholder."""
    known = without_placeholders(tags)
    return not all(getattr(known, name) for name in _ESSENTIAL)


def look_up(
    tags: TrackTags,
    seconds: float | None,
    catalogue: Catalogue,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    always: bool = False,
) -> Lookup:
    """Ask for a track: by the ids in its tags, else by artist, title, album and duration (seconds).

    A match needs `threshold` points and a lead over other recordings. `always` asks even when the tags are complete.
    """
    if not always and not needed(tags):
        return Lookup(Status.NOT_NEEDED)
    known = without_placeholders(tags)
    try:
        if known.musicbrainz_recording_id:
            found = ranked(known, seconds, catalogue.recording(known.musicbrainz_recording_id))
            if found:
                return Lookup(Status.MATCHED, tuple(found[:_MAX_CANDIDATES]), "by the recording id in the tags")
        if not known.title or not (known.artists or known.musicbrainz_album_id):
            return Lookup(Status.NONE, detail="there is no title and artist to search by")
        return _by_words(known, seconds, catalogue, threshold)
    except MetadataServiceUnavailable as exc:
        return Lookup(Status.UNAVAILABLE, detail=exc.detail)


def _by_words(tags: TrackTags, seconds: float | None, catalogue: Catalogue, threshold: float) -> Lookup:
    title, artist = tags.title or "", tags.artists[0] if tags.artists else ""
    found = list(
        catalogue.search(title=title, artist=artist, album=tags.album or "", album_id=tags.musicbrainz_album_id or "")
    )
    if not found and (tags.album or tags.musicbrainz_album_id) and artist:
        found = list(catalogue.search(title=title, artist=artist))
    return _decided(ranked(tags, seconds, found), threshold)


def by_sound(
    before: Lookup,
    tags: TrackTags,
    seconds: float | None,
    sounds: Mapping[str, float],
    catalogue: Catalogue,
    *,
    threshold: float = DEFAULT_THRESHOLD,
) -> Lookup:
    """The better answer, now that a fingerprint was recognised; what was found before stays among the candidates.

    `tags` are the file's own, without what its name says: a name such as "aud_0027" must not speak against the sound,
    but tags that name another song must. `sounds` are recording ids and how sure the fingerprint is of each (0 to 1),
    surest first. Raises what the catalogue raises.
    """
    known = without_placeholders(tags)
    likely = [name for name, sure in sounds.items() if sure >= _MIN_SURE][:_MAX_RECORDINGS]
    found = [candidate for name in likely for candidate in catalogue.recording(name)]
    after = _decided(ranked(known, seconds, found, sounds), threshold)
    if after.status is Status.NONE:
        return replace(before, detail=f"{before.detail}; AcoustID does not know its sound")
    if after.status is Status.MATCHED:
        return replace(after, detail="by its sound")
    names = {candidate.recording_id for _, candidate in after.candidates}
    rest = [pair for pair in before.candidates if pair[1].recording_id not in names]
    merged = sorted([*after.candidates, *rest], key=lambda pair: -pair[0])
    return replace(after, candidates=tuple(merged[:_MAX_CANDIDATES]), detail=f"by its sound, {after.detail}")


def _decided(order: list[tuple[float, Candidate]], threshold: float) -> Lookup:
    top = tuple(order[:_MAX_CANDIDATES])
    if not top:
        return Lookup(Status.NONE, detail="MusicBrainz knows nothing like it")
    if top[0][0] < threshold:
        return Lookup(Status.AMBIGUOUS, top, f"the best candidate has {top[0][0]:g} of {threshold:g} points")
    if len(top) > 1 and top[0][0] - top[1][0] < _MARGIN and not _alike(top[0][1], top[1][1]):
        return Lookup(Status.AMBIGUOUS, top, "two recordings fit equally well")
    return Lookup(Status.MATCHED, top)


def _alike(one: Candidate, other: Candidate) -> bool:
    """Whether two recordings would give the same visible tags: doubles in MusicBrainz, not a real choice."""
    return (one.title, one.artist_credit, one.album) == (other.title, other.artist_credit, other.album)


def apply(tags: TrackTags, candidate: Candidate) -> Completed:
    """`tags` with what is missing (or a placeholder) taken from the candidate; nothing else is changed."""
    known = without_placeholders(tags)
    merged = merge(known, candidate.tags())
    before = known.present()
    return Completed(merged, {name: Origin.MUSICBRAINZ for name in merged.present() if name not in before})


def pick(tags: TrackTags, lookup: Lookup, number: int) -> Completed:
    """The operator's choice: candidate `number`, counted from 1. Raises IndexError when there is none of it."""
    if not 1 <= number <= len(lookup.candidates):
        raise IndexError(f"there are {len(lookup.candidates)} candidates")
    return apply(tags, lookup.candidates[number - 1][1])
