from __future__ import annotations

import time
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from ironclad.library.lint import RULES, Severity, lint, lint_addition
from ironclad.library.naming import PathTemplate, TrackName, plan
from ironclad.library.servers import LibraryTrack, jellyfin_album, navidrome_album, navidrome_track, plex_album


def original(number: int = 1, folder: str = "Ann/Album", **values: object) -> LibraryTrack:
    track = LibraryTrack(
        path=PurePosixPath(folder, f"{number:02} - Song {number}.flac"), title=f"Song {number}", artist="Ann",
        album="Album", album_artist="Ann", track=number, release_date="2001",
    )  # fmt: skip
    return replace(track, **values)  # type: ignore[arg-type]  # any field


def derived(number: int = 1, folder: str = "out/Ann/Album", **values: object) -> LibraryTrack:
    track = LibraryTrack(
        path=PurePosixPath(folder, f"{number:02} - Song {number} (Instrumental).flac"), artist="Ann",
        title=f"Song {number} (Instrumental)", album="Album (Instrumentals)", album_artist="Ann", track=number,
        release_date="2001", stem="instrumental",
    )  # fmt: skip
    return replace(track, **values)  # type: ignore[arg-type]  # any field


RELEASE = {"MUSICBRAINZ_ALBUMID": "m"}
WRONG: list[tuple[str, list[LibraryTrack]]] = [
    ("mixed-folder", [derived(1), derived(2, album="Other (Instrumentals)")]),
    ("split-folders", [derived(1), derived(2, folder="elsewhere/Album")]),
    ("merged-with-original", [original(1), derived(2, album="Album")]),
    ("merged-with-original", [original(1, identifiers=RELEASE), derived(2, identifiers=RELEASE)]),
    ("split-album", [derived(1), derived(2, release_date="2002")]),
    ("split-album", [original(1), original(2, identifiers=RELEASE)]),
    ("split-album", [derived(1), derived(2, album_artist="Ann feat. Bob")]),
    ("same-track", [derived(1), derived(1, path=PurePosixPath("out/Ann/Album/copy.flac"))]),
    ("doubled-number", [original(1), derived(1, album="Album")]),
    ("kept-identity", [derived(1, identifiers={"ISRC": "US1"})]),
    ("same-title", [original(1), derived(1, title="Song 1")]),
    ("missing-album-artist", [derived(1, album_artist="")]),
    ("missing-name", [derived(1, title="")]),
    ("awkward-path", [derived(1, path=PurePosixPath("out/Ann/What?/x:y.flac"))]),
    ("awkward-path", [derived(1, path=PurePosixPath("out/Ann/Album/" + "x" * 300 + ".flac"))]),
    ("same-but-case", [derived(1), derived(2, path=PurePosixPath("OUT/Ann/Album/01 - song 1 (Instrumental).flac"))]),
]


@pytest.mark.parametrize(("rule", "tracks"), WRONG)
def test_each_wrong_library_is_caught(rule: str, tracks: list[LibraryTrack]) -> None:
    findings = {finding.rule: finding for finding in lint(tracks)}
    assert rule in findings
    assert set(findings[rule].paths) <= {track.path for track in tracks}


def test_there_is_a_wrong_library_for_every_rule() -> None:
    assert len({rule for rule, _ in WRONG}) == len(RULES) >= 10


def test_errors_come_first() -> None:
    findings = lint(
        [derived(1, album_artist=""), derived(1, path=PurePosixPath("out/Ann/Album/copy.flac"), album_artist="")]
    )
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, key=[Severity.ERROR, Severity.WARNING].index)
    assert len(set(severities)) == 2


def good_library() -> list[LibraryTrack]:
    """Two hundred files as Ironclad publishes them by default, and their originals: ten albums of two discs."""
    names = [
        TrackName(
            albumartist=f"Artist {album}", artist=f"Artist {album}", album=f"Album {album} (Instrumentals)",
            source_album=f"Album {album}", title=f"Song {track} (Instrumental)", track=track % 5 + 1,
            disc=track // 5 + 1, disctotal=2, stem="Instrumental", stems="Instrumentals",
        )
        for album in range(10)
        for track in range(10)
    ]  # fmt: skip
    places = plan(PathTemplate(), [(name, ".flac") for name in names])
    made = [
        LibraryTrack(
            path="instrumentals" / place, title=name.title, artist=name.artist, album=name.album,
            album_artist=name.albumartist, track=name.track, disc=name.disc, release_date="2001", stem="instrumental",
            source_recording="rec",
        )
        for name, place in zip(names, places, strict=True)
    ]  # fmt: skip
    sources = [
        replace(
            track, path=PurePosixPath("music", *track.path.parts[1:]), title=track.title.replace(" (Instrumental)", ""),
            album=track.album.replace(" (Instrumentals)", ""), stem="", source_recording="",
            identifiers={"MUSICBRAINZ_ALBUMID": f"m{track.album}", "MUSICBRAINZ_RELEASETRACKID": f"{track.path}"},
        )
        for track in made
    ]  # fmt: skip
    return made + sources


def test_a_good_library_passes_quickly() -> None:
    library = good_library()
    assert len(library) == 200
    start = time.process_time()  # however busy the machine is
    assert lint(library) == []
    assert time.process_time() - start < 2


def test_an_addition_is_judged_by_what_it_changes() -> None:
    old = [original(1), original(2, release_date="1999")]
    assert [finding.rule for finding in lint(old)] == ["split-album"]
    assert lint_addition([derived(1)], old) == []
    (merging,) = [f for f in lint_addition([derived(3, album="Album")], old) if f.rule == "merged-with-original"]
    assert 'original album "Album"' in merging.message


def test_replacing_a_file_is_no_collision() -> None:
    assert lint_addition([derived(1)], [derived(1)]) == []


def test_navidrome_ids() -> None:
    track = original(1, album_artist="", compilation=True, album="It\u2019s", album_version="Deluxe")
    assert navidrome_album(track) == ("various artists", "it's", "Deluxe", "2001")
    assert navidrome_album(original(1, identifiers=RELEASE)) == ("m",)
    assert navidrome_album(original(1), "folder") == ("Ann/Album",)
    assert navidrome_track(original(1, identifiers={"MUSICBRAINZ_RELEASETRACKID": "t"})) == ("t",)
    assert navidrome_track(original(1, disc=2)) == ("ann\\album\\\\2001", "2", "1", "Song 1")
    assert navidrome_track(LibraryTrack(path=PurePosixPath("x")), "title") == ()


def test_disc_folders_belong_to_their_album() -> None:
    assert jellyfin_album(original(1, folder="Ann/Album/CD 2")) == PurePosixPath("Ann/Album")
    tracks = [original(1, folder="Ann/Album/CD1", disc=1), original(1, folder="Ann/Album/CD2", disc=2)]
    assert lint(tracks) == []


def test_plex_falls_back_to_the_artist() -> None:
    assert plex_album(original(1, album_artist="")) == ("ann", "album")
