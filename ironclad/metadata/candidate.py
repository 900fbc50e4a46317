"""A recording on a release, as MusicBrainz knows it: what may be put into a track's tags."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from ironclad.metadata.model import TrackTags

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ironclad.metadata.model import Texts

_VARIOUS_ARTISTS_ID = "89ad4ac3-39f7-470e-963a-56509c546377"
"""MusicBrainz' special-purpose artist "Various Artists"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One possible identity of a track. Ids are MusicBrainz ids; what MusicBrainz does not say is None or empty."""

    recording_id: str
    title: str
    artists: Texts = ()
    artist_credit: str = ""
    """The artists in one line, as printed: "Ann feat. Bob"."""
    artist_ids: Texts = ()
    length_ms: int | None = None
    isrcs: Texts = ()

    album: str | None = None
    album_id: str | None = None
    release_group_id: str | None = None
    album_artists: Texts = ()
    album_artist_ids: Texts = ()
    track_id: str | None = None
    track: int | None = None
    track_total: int | None = None
    disc: int | None = None
    disc_total: int | None = None
    date: str | None = None
    country: str | None = None
    status: str | None = None
    release_types: Texts = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        values = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` described. Raises TypeError for other data."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)

    def tags(self) -> TrackTags:
        """Everything that the candidate says, as tags."""
        return TrackTags(
            title=self.title,
            artists=(self.artist_credit,) if self.artist_credit else self.artists,
            album=self.album,
            album_artists=self.album_artists,
            track=self.track,
            track_total=self.track_total,
            disc=self.disc,
            disc_total=self.disc_total,
            date=self.date,
            isrcs=self.isrcs,
            compilation=_VARIOUS_ARTISTS_ID in self.album_artist_ids,
            release_country=self.country,
            release_status=self.status.lower() if self.status else None,
            release_types=self.release_types,
            musicbrainz_recording_id=self.recording_id,
            musicbrainz_track_id=self.track_id,
            musicbrainz_album_id=self.album_id,
            musicbrainz_release_group_id=self.release_group_id,
            musicbrainz_artist_ids=self.artist_ids,
            musicbrainz_album_artist_ids=self.album_artist_ids,
            extra={"ARTISTS": self.artists} if len(self.artists) > 1 else {},
        )


def from_recording(recording: Mapping[str, Any]) -> Iterator[Candidate]:
    """A candidate for each release of a recording, of the data that `musicbrainzngs.mbxml` makes of the XML.

    Raises KeyError, TypeError, ValueError or AttributeError for data of another shape.
    """
    credit = recording.get("artist-credit", [])
    base: dict[str, Any] = {
        "recording_id": str(recording["id"]),
        "title": str(recording["title"]),
        "artists": tuple(_credited(credit, "name")),
        "artist_credit": recording.get("artist-credit-phrase", ""),
        "artist_ids": tuple(_credited(credit, "id")),
        "length_ms": _number(recording.get("length")),
        "isrcs": tuple(recording.get("isrc-list", ())),
    }
    releases = recording.get("release-list", [])
    if not releases:
        yield Candidate(**base)
    for release in releases:
        yield Candidate(**base, **_on_release(release))


def _on_release(release: Mapping[str, Any]) -> dict[str, Any]:
    credit = release.get("artist-credit", [])
    group = release.get("release-group", {})
    found: dict[str, Any] = {
        "album": release["title"],
        "album_id": release["id"],
        "release_group_id": group.get("id"),
        "album_artists": (release["artist-credit-phrase"],) if credit else (),
        "album_artist_ids": tuple(_credited(credit, "id")),
        "date": release.get("date") or None,
        "country": release.get("country"),
        "status": release.get("status"),
        "release_types": tuple(
            text.lower() for text in (group.get("primary-type"), *group.get("secondary-type-list", ())) if text
        ),
        "disc_total": _number(release.get("medium-count")),
    }
    for medium in release.get("medium-list", []):
        for track in medium.get("track-list", []):
            found |= {
                "disc": _number(medium.get("position")),
                "track": _number(track.get("position")) or _number(track.get("number")),
                "track_total": _number(medium.get("track-count")),
                "track_id": track.get("id"),
            }
            return found
    return found


def _credited(credit: Iterable[Any], what: str) -> Iterator[str]:
    for part in credit:
        if isinstance(part, dict):
            name = part.get("name") if what == "name" else None
            yield str(name or part["artist"][what])


def _number(text: Any) -> int | None:
    return int(text) if text is not None and str(text).isascii() and str(text).isdigit() else None
