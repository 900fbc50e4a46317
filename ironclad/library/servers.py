"""How media servers group tracks: the rules of Navidrome, Jellyfin and Plex as functions of tags and paths.

Navidrome: `model/metadata/persistent_ids.go` and its default `PID.Album` and `PID.Track`. Jellyfin: one folder is one
album, named by the album tag of its first song (documentation "Music", `AlbumMetadataService`). Plex: album artist and
album tag ("prefer local metadata").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ironclad.library.names import folded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePosixPath

NAVIDROME_ALBUM = "musicbrainz_albumid|albumartistid,album,albumversion,releasedate"
NAVIDROME_TRACK = "musicbrainz_trackid|albumid,discnumber,tracknumber,title"
VARIOUS_ARTISTS = "Various Artists"

_TYPOGRAPHIC = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-"})
_DISC_FOLDER = re.compile(r"(?:cd|disc|disk)[\s._-]*\d{1,2}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryTrack:
    """What servers look at in one file of a library. Texts are empty and numbers None where the tag is missing."""

    path: PurePosixPath
    """Below the library's root."""
    title: str = ""
    artist: str = ""
    album: str = ""
    album_artist: str = ""
    album_version: str = ""
    track: int | None = None
    disc: int | None = None
    release_date: str = ""
    compilation: bool = False
    identifiers: Mapping[str, str] | None = None
    """What of MusicBrainz, AcoustID and ISRC is in the keys that servers match on: canonical key → value."""
    stem: str = ""
    """Which stem it is, if Ironclad made it; empty for an original."""
    source_recording: str = ""
    """IRONCLAD_SOURCE_MUSICBRAINZ_TRACKID."""

    @property
    def derived(self) -> bool:
        """Whether Ironclad made it."""
        return bool(self.stem)

    def identifier(self, key: str) -> str:
        """The value of an identifying key, or the empty string."""
        return (self.identifiers or {}).get(key, "")

    @property
    def shown_album_artist(self) -> str:
        """The album artist that Navidrome and Jellyfin assume where the tag is missing."""
        return self.album_artist or (VARIOUS_ARTISTS if self.compilation else self.artist)


def navidrome_album(track: LibraryTrack, spec: str = NAVIDROME_ALBUM) -> tuple[str, ...]:
    """What Navidrome's album id is a hash of: the values of the first alternative of `spec` that has any."""
    return _navidrome(track, spec, spec)


def navidrome_track(track: LibraryTrack, spec: str = NAVIDROME_TRACK, album: str = NAVIDROME_ALBUM) -> tuple[str, ...]:
    """What Navidrome's track id is a hash of."""
    return _navidrome(track, spec, album)


def _navidrome(track: LibraryTrack, spec: str, album_spec: str) -> tuple[str, ...]:
    for alternative in spec.split("|"):
        values = tuple(_attribute(track, name.strip().lower(), spec, album_spec) for name in alternative.split(","))
        if any(values):
            return values
    return ()


def _attribute(track: LibraryTrack, name: str, spec: str, album_spec: str) -> str:
    values = {
        "albumid": "" if spec == album_spec else "\\".join(navidrome_album(track, album_spec)),
        "albumartistid": _plain(track.shown_album_artist),
        "album": _plain(track.album),
        "albumversion": track.album_version,
        "releasedate": track.release_date,
        "folder": str(track.path.parent),
        "title": track.title,
        "discnumber": _number(track.disc),
        "tracknumber": _number(track.track),
        # Navidrome's names follow MusicBrainz's objects, the tags' names do not.
        "musicbrainz_trackid": track.identifier("MUSICBRAINZ_RELEASETRACKID"),
        "musicbrainz_recordingid": track.identifier("MUSICBRAINZ_TRACKID"),
    }
    return values.get(name, track.identifier(name.upper()))


def _plain(text: str) -> str:
    return text.lower().translate(_TYPOGRAPHIC).strip()


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def jellyfin_album(track: LibraryTrack) -> PurePosixPath:
    """The folder that Jellyfin takes for the album: the file's, or its parent where that is `CD 2`."""
    folder = track.path.parent
    return folder.parent if _DISC_FOLDER.fullmatch(folder.name) else folder


def plex_album(track: LibraryTrack) -> tuple[str, str]:
    """What Plex groups by when it prefers local metadata: album artist and album, case aside."""
    return folded(track.album_artist or track.artist), folded(track.album)
