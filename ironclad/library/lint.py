"""Finds what media servers would get wrong in a library, before they do.

Each rule is a function of the tracks; findings name the server, the files and what would happen. No file is read here.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ironclad.library.names import MAX_COMPONENT, component, folded
from ironclad.library.servers import (
    NAVIDROME_ALBUM,
    NAVIDROME_TRACK,
    LibraryTrack,
    jellyfin_album,
    navidrome_album,
    navidrome_track,
    plex_album,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from pathlib import PurePosixPath

    Rule = Callable[["_Library"], Iterator["Finding"]]

K = TypeVar("K", bound="Hashable")


class Severity(enum.StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """A server merges, splits or mistakes albums or tracks."""
    WARNING = "warning"
    """Something is missing or awkward."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a server gets wrong."""

    rule: str
    """Kebab case, stable."""
    severity: Severity
    server: str
    """navidrome, jellyfin, plex or all."""
    message: str
    paths: tuple[PurePosixPath, ...]

    @property
    def is_error(self) -> bool:
        """Whether a server merges, splits or mistakes something."""
        return self.severity is Severity.ERROR

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "rule": self.rule, "severity": self.severity.value, "server": self.server, "message": self.message,
            "paths": [str(path) for path in self.paths],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Library:
    tracks: Sequence[LibraryTrack]
    album_spec: str
    track_spec: str


def lint(
    tracks: Iterable[LibraryTrack], *, album_spec: str = NAVIDROME_ALBUM, track_spec: str = NAVIDROME_TRACK
) -> list[Finding]:
    """Everything wrong in a library, errors first. `album_spec` and `track_spec` are Navidrome's `PID.*` settings."""
    library = _Library(sorted(tracks, key=lambda track: track.path), album_spec, track_spec)
    found = [finding for rule in RULES for finding in rule(library)]
    return sorted(found, key=lambda finding: (finding.severity is not Severity.ERROR, finding.rule, finding.paths))


def lint_addition(new: Iterable[LibraryTrack], existing: Iterable[LibraryTrack]) -> list[Finding]:
    """What publishing `new` into a library of `existing` would make wrong: findings that were not there before."""
    new, existing = list(new), list(existing)
    replaced = {track.path for track in new}
    before = {(finding.rule, finding.paths) for finding in lint(existing)}
    after = lint([*(track for track in existing if track.path not in replaced), *new])
    return [finding for finding in after if (finding.rule, finding.paths) not in before]


def _grouped(tracks: Iterable[LibraryTrack], key: Callable[[LibraryTrack], K]) -> dict[K, list[LibraryTrack]]:
    groups: dict[K, list[LibraryTrack]] = defaultdict(list)
    for track in tracks:
        groups[key(track)].append(track)
    return groups


def _paths(tracks: Iterable[LibraryTrack]) -> tuple[PurePosixPath, ...]:
    return tuple(track.path for track in tracks)


def _names(values: Iterable[str]) -> str:
    return ", ".join(f'"{value}"' for value in sorted({*values}))


def _mixed_folder(library: _Library) -> Iterator[Finding]:
    for folder, tracks in _grouped(library.tracks, jellyfin_album).items():
        albums = {folded(track.album) for track in tracks}
        if len(albums) > 1:
            message = f"folder {folder} holds the albums {_names(t.album for t in tracks)}: Jellyfin shows them as one"
            yield Finding("mixed-folder", Severity.ERROR, "jellyfin", message, _paths(tracks))


def _split_folders(library: _Library) -> Iterator[Finding]:
    for (_, album), tracks in _grouped(library.tracks, plex_album).items():
        folders = {jellyfin_album(track) for track in tracks}
        if album and len(folders) > 1:
            message = (
                f'album "{tracks[0].album}" is spread over {_names(map(str, folders))}: '
                "Jellyfin shows an album for each"
            )
            yield Finding("split-folders", Severity.ERROR, "jellyfin", message, _paths(tracks))


def _merged_with_original(library: _Library) -> Iterator[Finding]:
    for tracks in _grouped(library.tracks, lambda track: navidrome_album(track, library.album_spec)).values():
        if any(track.derived for track in tracks) and not all(track.derived for track in tracks):
            message = f'derived tracks would merge with the original album "{tracks[0].album}"'
            yield Finding("merged-with-original", Severity.ERROR, "navidrome", message, _paths(tracks))


def _split_album(library: _Library) -> Iterator[Finding]:
    for (folder, album), tracks in _grouped(
        library.tracks, lambda track: (jellyfin_album(track), folded(track.album))
    ).items():
        ids = {navidrome_album(track, library.album_spec) for track in tracks}
        if album and len(ids) > 1:
            message = f'album "{tracks[0].album}" in {folder} would split into {len(ids)}: {_why_split(tracks)}'
            yield Finding("split-album", Severity.ERROR, "navidrome", message, _paths(tracks))


def _why_split(tracks: Sequence[LibraryTrack]) -> str:
    for name, values in (
        ("MusicBrainz album ids", {track.identifier("MUSICBRAINZ_ALBUMID") for track in tracks}),
        ("album artists", {track.shown_album_artist for track in tracks}),
        ("release dates", {track.release_date for track in tracks}),
        ("album versions", {track.album_version for track in tracks}),
    ):
        if len(values) > 1:
            return f"its {name} are {_names(values)}"
    return "its tags differ"


def _same_track(library: _Library) -> Iterator[Finding]:
    groups = _grouped(library.tracks, lambda track: navidrome_track(track, library.track_spec, library.album_spec))
    for tracks in groups.values():
        if len(tracks) > 1:
            message = f'Navidrome takes {len(tracks)} files for one track, "{tracks[0].title}"'
            yield Finding("same-track", Severity.ERROR, "navidrome", message, _paths(tracks))


def _doubled_number(library: _Library) -> Iterator[Finding]:
    numbered = [track for track in library.tracks if track.track is not None and track.album]
    groups = _grouped(numbered, lambda track: (*plex_album(track), track.disc or 1, track.track))
    for tracks in groups.values():
        if len(tracks) > 1:
            message = (
                f'album "{tracks[0].album}" has number {tracks[0].disc or 1}-{tracks[0].track} {len(tracks)} times'
            )
            yield Finding("doubled-number", Severity.ERROR, "plex", message, _paths(tracks))


def _kept_identity(library: _Library) -> Iterator[Finding]:
    for track in library.tracks:
        if track.derived and track.identifiers:
            keys = ", ".join(sorted(track.identifiers))
            message = f"a derived track carries its source's {keys}: servers and scrobblers take it for the original"
            yield Finding("kept-identity", Severity.ERROR, "all", message, (track.path,))


def _same_title(library: _Library) -> Iterator[Finding]:
    groups = _grouped(library.tracks, lambda track: (folded(track.artist), folded(track.title)))
    for tracks in groups.values():
        derived = [track for track in tracks if track.derived]
        if derived and len(derived) < len(tracks):
            message = f'"{tracks[0].title}" by {tracks[0].artist} is an original and a derived track under one name'
            yield Finding("same-title", Severity.ERROR, "all", message, _paths(tracks))


def _missing_album_artist(library: _Library) -> Iterator[Finding]:
    missing = [track for track in library.tracks if not track.album_artist]
    for folder, tracks in _grouped(missing, jellyfin_album).items():
        message = f"no album artist in {folder}: Plex groups by it, and splits albums with guests"
        yield Finding("missing-album-artist", Severity.WARNING, "plex", message, _paths(tracks))


def _missing_names(library: _Library) -> Iterator[Finding]:
    for track in library.tracks:
        missing = [name for name in ("title", "artist", "album") if not getattr(track, name)]
        if missing:
            message = f"no {' and no '.join(missing)}"
            yield Finding("missing-name", Severity.WARNING, "all", message, (track.path,))


def _awkward_path(library: _Library) -> Iterator[Finding]:
    for track in library.tracks:
        wrong = [part for part in track.path.parts if component(part, limit=MAX_COMPONENT) != part]
        if wrong:
            message = f"{_names(wrong)} holds what Windows, SMB or Jellyfin cannot have in a name"
            yield Finding("awkward-path", Severity.WARNING, "all", message, (track.path,))


def _same_but_case(library: _Library) -> Iterator[Finding]:
    for tracks in _grouped(library.tracks, lambda track: folded(str(track.path))).values():
        if len(tracks) > 1:
            message = "these paths are one on Windows, macOS and SMB"
            yield Finding("same-but-case", Severity.ERROR, "all", message, _paths(tracks))


RULES: tuple[Rule, ...] = (
    _mixed_folder, _split_folders, _merged_with_original, _split_album, _same_track, _doubled_number, _kept_identity,
    _same_title, _missing_album_artist, _missing_names, _awkward_path, _same_but_case,
)  # fmt: skip
"""Every rule, in the order of their documentation in docs/lint.md."""
