"""What media servers look at in a file's tags: the bridge to `ironclad.library.servers.LibraryTrack`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ironclad.metadata.derive import SOURCE_PREFIX, identity

if TYPE_CHECKING:
    from ironclad.metadata.model import TrackTags

_VERSION_KEYS = ("ALBUMVERSION", "MUSICBRAINZ_ALBUMCOMMENT", "VERSION")
"""What Navidrome reads an album's version from, in its order."""


def server_facts(tags: TrackTags) -> dict[str, Any]:
    """The keyword arguments of a `LibraryTrack`, without its path."""
    versions = (tags.extra[key][0] for key in _VERSION_KEYS if tags.extra.get(key))
    return {
        "title": tags.title or "",
        "artist": tags.display_artist,
        "album": tags.album or "",
        "album_artist": ", ".join(tags.album_artists),
        "album_version": next(versions, ""),
        "track": tags.track,
        "disc": tags.disc,
        "release_date": tags.release_date or tags.date or "",
        "compilation": tags.compilation,
        "identifiers": {key: values[0] for key, values in identity(tags).items()},
        "stem": _first(tags, "IRONCLAD_STEM"),
        "source_recording": _first(tags, f"{SOURCE_PREFIX}MUSICBRAINZ_TRACKID"),
    }


def _first(tags: TrackTags, key: str) -> str:
    values = tags.extra.get(key, ())
    return values[0] if values else ""
